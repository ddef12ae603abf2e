"""What stands between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->`` in a page; for studies/ as well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


def parts(page: str, name: str) -> tuple[str, str, str]:
    """The text before, between and after the markers of a name.

    Args:
        page: a path from the root of the repository.
        name: as in the markers, which the first and the last part include.

    Raises:
        ValueError: if the page lacks a marker.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    head, found, rest = text.partition(begin)
    content, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page} lacks the markers of {name}")
    return head + begin, content, end + tail


def write(page: str, tables: Mapping[str, str]) -> None:
    """Put each table between the markers of its name."""
    for name, table in tables.items():
        head, _, tail = parts(page, name)
        (ROOT / page).write_text(head + table + tail, encoding="utf-8")
