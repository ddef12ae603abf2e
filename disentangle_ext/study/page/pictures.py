"""Pictures of runs: scaled down, and written into the page."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from disentangle_ext._extras import require
from disentangle_ext.runs.folder import PICTURE_FILES
from disentangle_ext.study.page.markup import escape, fill
from disentangle_ext.study.page.numbers import number_text, rows_of

__all__ = ["exemplars_html", "picture", "relative_link", "traversals"]

_PLACES = ("best", "median", "worst")
_WIDTHS = ((18, 960), (36, 720), (96, 520), (10**9, 360))
"""Pixels of a picture, by how many the page has: few may be large."""


def traversals(run: Path) -> Path:
    return run / PICTURE_FILES["traversals"]


def relative_link(path: Path, folder: Path) -> str:
    """A link from a page in ``folder`` that works as well where both are copied to."""
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # another drive
        return escape(path.absolute().as_uri())
    return escape(quote(Path(relative).as_posix()))


def picture(path: Path, width: int) -> str | None:
    """A picture as a data: URI no wider than ``width`` pixels; None if it is missing or no picture."""
    image_module = require("PIL.Image", extra="study", what="study report")
    try:
        with image_module.open(path) as image:
            scaled = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, image_module.DecompressionBombError):  # Pillow's words for a broken file
        return None
    if scaled.width > width:
        height = max(1, round(scaled.height * width / scaled.width))
        scaled = scaled.resize((width, height), image_module.Resampling.LANCZOS)
    content = io.BytesIO()
    scaled.save(content, "WEBP", quality=72, method=4)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


def exemplars_html(table: Any, paths: dict[str, Path], folder: Path, *, metric: str) -> str:
    """The runs of :func:`disentangle_ext.study.analysis.exemplars`, an objective a row, with their traversals."""
    rows = rows_of(table)
    width = next(each for most, each in _WIDTHS if len(rows) <= most)
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        groups.setdefault((row["data_set"], row["objective"]), {})[row["place"]] = row
    html = []
    for (data_set, objective), places in groups.items():
        cells = "".join(_exemplar(places[place], paths, folder, width, metric) for place in _PLACES if place in places)
        html.append(fill("exemplars.html", data_set=escape(data_set), objective=escape(objective), cells=cells))
    return "".join(html)


def _exemplar(row: dict[str, Any], paths: dict[str, Path], folder: Path, width: int, metric: str) -> str:
    path = traversals(paths[row["run"]])
    words = f"{row['place']} by {metric}, {number_text(row['score'])}: {row['run']}"
    source = picture(path, width)
    if source is None:
        body = '<p class="none">This run has no traversals.png.</p>'
    else:
        body = (
            f'<a href="{relative_link(path, folder)}"><img src="{source}" alt="Latent traversals, {escape(words)}"></a>'
        )
    parts = {"place": row["place"], "run": escape(row["run"]), "score": number_text(row["score"])}
    return fill("exemplar.html", body=body, metric=escape(metric), **parts)
