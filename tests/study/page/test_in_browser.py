"""The page as a browser draws it: numbers are read off it, and it asks nobody for anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.csv
import pytest

from disentangle_ext.study.page import write_page

from .conftest import Written
from .studies import make_study

pytestmark = pytest.mark.forks


def visit(browser: Any, page: Path) -> None:
    """Open a page and wait for its charts; fail for a line in the console, or a request but for the page itself."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(page.as_uri())
    script = "return document.documentElement.dataset.state || ''"
    WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(script) == "drawn")
    assert browser.get_log("browser") == []
    events = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    urls = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
    own = ("data:", "chrome:")  # what is in the page, and what the browser shows when it starts
    assert [url for url in urls if not url.startswith(own)] == [page.as_uri()]


def texts(browser: Any, selector: str) -> list[str]:
    script = "return Array.from(document.querySelectorAll(arguments[0]), (each) => each.textContent.trim())"
    return list(browser.execute_script(script, selector))


def test_the_cells_of_the_heat_map_are_those_of_the_table(browser: Any, written: Written) -> None:
    visit(browser, written.page)
    table = pyarrow.csv.read_csv(written.page.parent / "tables" / "correlations.csv").to_pylist()
    metrics = list(dict.fromkeys(row["metric_a"] for row in table))
    assert len(metrics) == 5
    shown = texts(browser, "#chart-correlations svg .mark-text.role-mark text")
    assert shown == [f"{row['correlation']:.2f}" for row in table]
    assert {f"{row['correlation']:.2f}" for row in table if row["metric_a"] == row["metric_b"]} == {"1.00"}
    labels = texts(browser, "#chart-correlations svg .role-axis-label text")
    assert set(metrics) == set(labels)


def test_a_click_on_a_head_sorts_the_list(browser: Any, written: Written) -> None:
    visit(browser, written.page)
    table = pyarrow.csv.read_csv(written.page.parent / "tables" / "runs.csv").to_pylist()
    heads = browser.execute_script(
        "return Array.from(document.querySelectorAll('#run-list thead th'), (each) => each.textContent)"
    )
    place = heads.index("elbo")
    button = f"document.querySelectorAll('#run-list thead th')[{place}].querySelector('button')"
    for direction, backwards in (("ascending", False), ("descending", True)):
        browser.execute_script(f"{button}.click()")
        shown = [float(text) for text in texts(browser, f"#run-list tbody tr > :nth-child({place + 1})")]
        assert shown == [round(each, 3) for each in sorted((row["elbo"] for row in table), reverse=backwards)]
        assert browser.execute_script(f"return {button}.closest('th').getAttribute('aria-sort')") == direction
    names = texts(browser, "#run-list tbody th")
    best = max(table, key=lambda row: row["elbo"])
    assert names[0] == best["run"]
    assert sorted(names) == sorted(written.runs.column("run").to_pylist())


def test_names_are_text_wherever_they_stand(browser: Any, tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror=console.error(1)>'\"\\${x} --> <!--"
    runs, records = make_study(
        tmp_path,
        objectives=[hostile, "b"],
        data_sets=[hostile],
        values=["1", f"2{hostile}"],
        metrics=["mig", hostile, "elbo", "downstream"],
    )
    page = write_page(tmp_path / "report", runs, records, title=hostile)
    visit(browser, page)
    assert browser.find_element("tag name", "h1").text == hostile
    assert texts(browser, "img") == []
    assert hostile in texts(browser, "#chart-correlations svg text")
    assert any(
        hostile.startswith(text.rstrip("…")) and len(text) > 9 for text in texts(browser, "#chart-violins svg text")
    )
