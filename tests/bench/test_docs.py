"""What the pages of docs leave out, which Sphinx does not say."""

from __future__ import annotations

from pathlib import Path

from disentangle_ext import metrics


def test_every_picture_is_in_the_gallery(root: Path) -> None:
    text = (root / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert [path.name for path in (root / "docs" / "images").iterdir() if f"(images/{path.name})" not in text] == []


def test_every_metric_has_a_page(root: Path) -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (root / "docs" / "metrics").glob("*.md"))
    assert [name for name in metrics.__all__ if f":: {name}\n" not in text] == []
