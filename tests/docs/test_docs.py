"""What the pages of docs leave out, which Sphinx does not say."""

from __future__ import annotations

import re
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

from disentangle_ext import metrics

ROOT = Path(__file__).parents[2]


def test_every_picture_is_in_the_gallery() -> None:
    text = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert [path.name for path in (ROOT / "docs" / "images").iterdir() if f"(images/{path.name})" not in text] == []


def test_every_metric_has_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "metrics").glob("*.md"))
    assert [name for name in metrics.__all__ if f":: {name}\n" not in text] == []


PAGES = [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]


def test_every_command_of_a_page_is_there() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    modules = {name.rstrip(".") for name in re.findall(r"-m ((?:bench|studies|disentangle_ext)[\w.]*)", text)}
    assert [name for name in sorted(modules) if find_spec(name) is None] == []
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"`make ([\w-]+)", text)) - set(targets) == set()


METRICS = [page for page in sorted((ROOT / "docs" / "metrics").glob("*.md")) if hasattr(metrics, page.stem)]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("page", METRICS, ids=lambda page: page.stem)
def test_the_example_of_a_page_runs_and_nothing_of_its_picture_is_cut_off(
    page: Path,
) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    text = page.read_text(encoding="utf-8")
    plots = re.findall(r"^\.\. plot::\n   :include-source:\n\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    codes = plots or re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(codes) == 1
    plt.close("all")
    names: dict[str, object] = {}
    exec(textwrap.dedent(codes[0]), names)
    assert type(names["result"]).__name__.removesuffix("Result").lower() in page.stem.replace("_", "")
    assert len(plt.get_fignums()) == len(plots)
    for number in plt.get_fignums():
        figure = plt.figure(number)
        figure.draw_without_rendering()
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(drawn.x0, drawn.y0) >= -0.02
        assert drawn.x1 <= width + 0.02
        assert drawn.y1 <= height + 0.02
    plt.close("all")
