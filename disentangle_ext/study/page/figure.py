"""A figure of the page: its chart, its HTML, and the table behind it as CSV."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from disentangle_ext._extras import require
from disentangle_ext._files import write_atomically
from disentangle_ext.study.page.markup import escape, fill, for_script, table_html
from disentangle_ext.study.page.numbers import rows_of
from disentangle_ext.study.page.theme import Spec

__all__ = ["Figure", "Omitted", "Section", "write_csv"]

_ROWS = 400
"""Rows of a table on the page, at most: the CSV beside it has all."""


@dataclass(frozen=True)
class Figure:
    """A chart, or HTML of pictures, with the table it is drawn from.

    Attributes:
        name: the name of its files.
        title: what it shows.
        caption: how to read it.
        alt: the picture in words.
        table: a pyarrow.Table.
        chart: a Vega-Lite specification; None for pictures.
        html: what stands in the place of a chart.
        folded: whether the page shows it only when asked.
    """

    name: str
    title: str
    caption: str
    alt: str
    table: Any = field(repr=False)
    chart: Spec | None = field(default=None, repr=False)
    html: str = field(default="", repr=False)
    folded: bool = False

    def save(self, folder: Path, *, alone: bool = False) -> str:
        """Write tables/NAME.csv, and return the HTML.

        Args:
            folder: the folder of the page.
            alone: whether the figure is the only one of its section, whose heading says what it is.
        """
        write_csv(folder / "tables" / f"{self.name}.csv", self.table)
        body = self.html
        if self.chart is not None:
            body = fill("chart.html", name=self.name, alt=escape(self.alt), spec=for_script(self.chart))
        files = "" if self.chart is None else fill("files.html", name=self.name)
        rows = rows_of(self.table.slice(0, _ROWS))
        table = fill(
            "table.html",
            name=self.name,
            count=f"{self.table.num_rows:,}",
            note=f"The first {_ROWS} of {self.table.num_rows:,} rows." if self.table.num_rows > _ROWS else "",
            table=table_html(self.table.column_names, rows, label=self.title),
        )
        heading = "" if alone or self.folded else f"<h3>{escape(self.title)}</h3>"
        parts = {"heading": heading, "caption": escape(self.caption), "files": files, "table": table}
        html = fill("figure.html", name=self.name, body=body, **parts)
        return fill("folded.html", title=escape(self.title), figure=html) if self.folded else html


@dataclass(frozen=True)
class Omitted:
    """A figure that the study cannot fill.

    Attributes:
        reason: why, in one sentence.
    """

    reason: str

    def save(self, folder: Path, *, alone: bool = False) -> str:
        return fill("omitted.html", reason=escape(self.reason))


@dataclass(frozen=True)
class Section:
    """A heading of the page.

    Attributes:
        name: the anchor.
        title: the heading.
        text: what the figures answer.
        figures: what stands under it.
    """

    name: str
    title: str
    text: str
    figures: tuple[Figure | Omitted, ...]

    @property
    def charts(self) -> dict[str, Spec]:
        return {each.name: each.chart for each in self.figures if isinstance(each, Figure) and each.chart is not None}

    def save(self, folder: Path) -> str:
        body = "".join(each.save(folder, alone=len(self.figures) == 1) for each in self.figures)
        return fill("section.html", name=self.name, title=escape(self.title), text=escape(self.text), body=body)


def write_csv(path: Path, table: Any) -> None:
    content = io.BytesIO()
    require("pyarrow.csv", extra="study", what="study report").write_csv(table, content)
    write_atomically(path, content.getvalue())
