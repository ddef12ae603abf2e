"""A page that several tests look at, and a browser to look at it with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from disentangle_ext.study.page import write_page

from .studies import draw_picture, make_study

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--window-size=1200,1000"),
)
METRICS = ("beta_vae_score", "factor_vae_score", "mig", "dci_fast", "modularity", "downstream", "elbo")


@dataclass(frozen=True)
class Written:
    """A study and its page."""

    runs: pyarrow.Table
    records: pyarrow.Table
    page: Path

    @property
    def html(self) -> str:
        return self.page.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("study")
    picture = draw_picture(folder / "picture.png")
    runs, records = make_study(folder, metrics=METRICS, values=("1", "4"), picture=picture)
    return Written(runs, records, write_page(folder / "report", runs, records, title="A study"))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium that notes what its console says and what it asks the network for."""
    webdriver = pytest.importorskip("selenium.webdriver")
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in programs.items() if path is None]
    if missing:
        pytest.skip(f"there is no {' and no '.join(missing)}")
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs["chromedriver"]))
    yield driver
    driver.quit()
