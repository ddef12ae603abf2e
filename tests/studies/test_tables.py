"""The tables in the documents."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from bench import pages
from studies.__main__ import STUDIES


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.__name__)
def test_the_tables_in_a_page_are_those_of_its_study(study: ModuleType) -> None:
    for name, table in study.tables().items():
        assert pages.parts(study.PAGE, name)[1] == table


def test_only_what_stands_between_the_markers_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- one: begin -->\nold\n<!-- one: end -->\nb\n<!-- two: begin -->\n<!-- two: end -->\n")
    pages.write("page.md", {"one": "new\n", "two": "2\n"})
    assert page.read_text() == (
        "a\n<!-- one: begin -->\nnew\n<!-- one: end -->\nb\n<!-- two: begin -->\n2\n<!-- two: end -->\n"
    )
    with pytest.raises(ValueError, match="page.md lacks the markers of three"):
        pages.write("page.md", {"three": ""})
