"""Files of a page, and what a study that lacks something leaves out."""

from __future__ import annotations

import html
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import pytest
from PIL import Image

from disentangle_ext._errors import MistakeError
from disentangle_ext.study.page import write_page
from disentangle_ext.study.page.drawing import Drawn, drawing
from disentangle_ext.study.records import long_table

from .conftest import METRICS, Written
from .studies import draw_picture, make_study

FIGURES = ("correlations", "violins", "hyperparameters", "variance", "selection", "unsupervised", "downstream")


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """PNG and PDF take most of the time."""
    monkeypatch.setattr(
        "disentangle_ext.study.page.write.drawing", lambda specs, folder: nullcontext(Drawn("window.vegaEmbed=0;"))
    )


def test_each_figure_is_a_png_a_pdf_and_a_table(written: Written) -> None:
    folder = written.page.parent
    for name in FIGURES:
        with Image.open(folder / "figures" / f"{name}.png") as image:
            assert min(image.size) > 200
        assert (folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        rows = pyarrow.csv.read_csv(folder / "tables" / f"{name}.csv").num_rows
        assert f"The table behind it: {rows} rows" in written.html
        assert f'id="spec-{name}"' in written.html
    assert pyarrow.csv.read_csv(folder / "tables" / "runs.csv").num_rows == written.runs.num_rows


def test_the_library_stands_in_the_page_once(written: Written) -> None:
    assert written.html.count("window.vegaEmbed=") == 1
    assert written.html.count("<script") == written.html.count("</script>")


def test_the_query_makes_the_long_table(written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow.parquet.write_table(written.runs, tmp_path / "runs.parquet")
    pyarrow.parquet.write_table(written.records, tmp_path / "scores.parquet")
    monkeypatch.chdir(tmp_path)
    sql = html.unescape(re.findall("<pre><code>(.*?)</code></pre>", written.html, re.DOTALL)[-1])
    with duckdb.connect() as connection:
        table = connection.sql(sql).to_arrow_table()
    assert table.equals(long_table(written.runs, written.records))
    assert table.num_rows == written.runs.num_rows * (len(METRICS) + 3)


def test_links_lead_to_the_runs_from_a_copied_folder(written: Written) -> None:
    links = re.findall(r'<th scope="row"><a href="([^"]+)"', written.html)
    assert len(links) == written.runs.num_rows
    assert all(link.startswith("../runs/") and (written.page.parent / link).is_dir() for link in links)


def test_36_runs_with_pictures_take_less_than_5_mb(tmp_path: Path, no_pictures: None) -> None:
    runs, records = make_study(tmp_path, picture=draw_picture(tmp_path / "picture.png"))
    page = write_page(tmp_path / "report", runs, records, title="36")
    assert runs.num_rows == 36
    assert page.read_text().count("data:image/webp") == 36 + 9
    library = 900_000  # measured, and left out here with the pictures
    assert page.stat().st_size + library < 5_000_000


@pytest.mark.parametrize(
    ("options", "reasons"),
    [
        ({"metrics": ["mig"]}, ["A correlation takes two metrics", "no unsupervised score", "no accuracy downstream"]),
        ({"values": ["1"]}, ["No objective has two values of a hyperparameter"]),
        ({"values": ["1"], "objectives": ["vae"]}, ["All runs have the same objective", "two settings and two seeds"]),
        ({"seeds": 1}, ["No setting has two seeds", "two settings and two seeds"]),
        ({"metrics": []}, ["No run has a score yet"]),
    ],
)
def test_a_figure_that_cannot_be_filled_is_left_out_with_a_reason(
    tmp_path: Path, no_pictures: None, options: dict[str, Any], reasons: list[str]
) -> None:
    runs, records = make_study(tmp_path, **options)
    page = write_page(tmp_path / "report", runs, records, title="Little").read_text()
    omitted = re.findall(r'<p class="omitted">(.*?)</p>', page)
    for reason in reasons:
        assert sum(reason in each for each in omitted) == 1


def test_only_scores_with_a_better_end_choose(tmp_path: Path, no_pictures: None) -> None:
    names = ("mig", "sap", "mine", "active_units", "reconstruction", "elbo", "kl", "loss", "tc_mws", "dimwise_kl")
    runs, records = make_study(tmp_path, metrics=names, values=("1", "4"))
    page = write_page(tmp_path / "report", runs, records, title="Chosen")
    table = pyarrow.csv.read_csv(page.parent / "tables" / "selection.csv").to_pylist()
    assert {row["criterion"] for row in table} == {"mig", "sap", "reconstruction", "elbo"}
    assert {row["metric"] for row in table} == {"mig", "sap"}
    caption = page.read_text()
    assert "The highest score is taken as the best, but the lowest of reconstruction." in caption
    left_out = "mine, active_units, dimwise_kl, kl, loss and tc_mws"
    assert re.search(rf"since neither end is known to be the better one: {left_out}\.", caption)


def test_runs_are_the_best_only_by_a_score_with_a_better_end(tmp_path: Path, no_pictures: None) -> None:
    runs, records = make_study(tmp_path, metrics=("kl",), values=("1", "4"))
    page = write_page(tmp_path / "report", runs, records, title="Terms").read_text()
    assert "There is no metric of which one end is known to be the better one." in page
    assert "There is no score of which one end is known to be the better one." in page


def test_the_caption_says_what_has_no_value(tmp_path: Path, no_pictures: None) -> None:
    runs, records = make_study(tmp_path, metrics=("mig",), values=("1", "4"), objectives=("beta_vae", "vae"))
    rows = [
        {**row, "hyperparameter": "", "value": ""} if row["objective"] == "vae" else row for row in runs.to_pylist()
    ]
    for table, there in ((runs, False), (pyarrow.Table.from_pylist(rows), True)):
        page = write_page(tmp_path / "report", table, records, title="Levels").read_text()
        assert ("A dashed line and its band are those of runs without a value" in page) is there


def test_each_data_set_has_its_figures(tmp_path: Path, no_pictures: None) -> None:
    runs, records = make_study(tmp_path, data_sets=("a", "../b c"), values=("1", "2"), metrics=("mig", "sap"))
    page = write_page(tmp_path / "report", runs, records, title="Two")
    tables = {path.stem for path in (page.parent / "tables").iterdir()}
    assert {"violins-1-b-c", "violins-2-a", "hyperparameters-1-b-c"} <= tables
    assert "another data set" in page.read_text()


def test_runs_without_a_score_are_listed_last(tmp_path: Path, no_pictures: None) -> None:
    runs, records = make_study(tmp_path, metrics=("mig", "sap"), values=("1",))
    failed = {**runs.to_pylist()[0], "run": "broken", "state": "failed"}
    runs = pyarrow.concat_tables([pyarrow.Table.from_pylist([failed], schema=runs.schema), runs])
    page = write_page(tmp_path / "report", runs, records, title="One failed").read_text()
    assert "10 runs (9 done, 1 failed)" in page
    assert re.findall(r'<th scope="row"><a href="[^"]+">(.*?)</a>', page)[-1] == "broken"


def test_tables_are_checked() -> None:
    runs, records = make_study(Path("nowhere"), metrics=("mig",))
    with pytest.raises(MistakeError, match=r"^study report: runs must have the columns run, .*; missing: path, seed$"):
        write_page(Path("nowhere"), runs.drop_columns(["path", "seed"]), records, title="")
    with pytest.raises(MistakeError, match=r"^study report: records must have .*; missing: part$"):
        write_page(Path("nowhere"), runs, records.drop_columns(["part"]), title="")
    with pytest.raises(MistakeError, match=r"^study report: runs must have rows, got none$"):
        write_page(Path("nowhere"), runs.slice(0, 0), records, title="")
    assert not Path("nowhere").exists()


def test_a_large_study_says_what_of_it_is_drawn(tmp_path: Path, no_pictures: None) -> None:
    runs, records = make_study(
        tmp_path, objectives=("a", "b"), values=("1",), seeds=1100, metrics=("mig", "sap", "downstream", "elbo")
    )
    page = write_page(tmp_path / "report", runs, records, title="Large")
    assert "The first 2,000 of 2,200 runs are listed." in page.read_text()
    assert page.read_text().count('<th scope="row">') == 2000
    assert "from 1,000 resamples" in page.read_text()
    assert "points runs: 428 of 2,200 runs drawn." in page.read_text()
    assert pyarrow.csv.read_csv(page.parent / "tables" / "runs.csv").num_rows == 2200


def test_a_chart_that_cannot_be_drawn_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"^study report: a chart cannot be drawn: .*"),
        drawing({"a": {"mark": 1}}, tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_error_ends_the_processes_that_draw(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), drawing({"a": {"mark": 1}}, tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
