"""Grids of images with words around them, the form of every picture that is not a plot.

Images are enlarged by a whole factor and placed pixel on pixel, so that what is seen is what the model drew.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from disentangle_ext._extras import require
from disentangle_ext._files import write_atomically

__all__ = ["Grid", "number", "save_rows", "to_bytes"]

# Lengths in pixels of the picture, drawn at 200 dots per inch.
DPI = 200
MARGIN = 28
GAP = 6
BREAK = 14
TARGET_CELL = 112
HEAD, NOTE, LINE = 26, 24, 25
NARROWEST = 720

TITLE: dict[str, Any] = {"size": 10.0, "color": "#1a1a1a", "weight": "bold"}
CAPTION: dict[str, Any] = {"size": 7.5, "color": "#5f5f5f"}
LABEL: dict[str, Any] = {"size": 8.0, "color": "#1a1a1a"}
TICK: dict[str, Any] = {"size": 7.0, "color": "#5f5f5f"}
# Cells stand on a light grey page: neither the black nor the white edge of an image runs into it.
PAGE = (244, 244, 242)
PAGE_HEX = "#f4f4f2"


@dataclass
class Grid:
    """Rows of equally large images under a title, labelled on the left.

    Args:
        rows: for each row, uint8 [n, H, W, 3], as :func:`to_bytes` makes them; rows may differ in length.
        labels: one a row.
        title: the first line.
        caption: the lines under it, wrapped to the width of the page; its own line breaks stay.
        heads: over the columns.
        heads_name: what the heads are, over the labels.
        notes: for each row, words under its images; all rows have them or none.
        row_breaks: rows that a wider gap stands before.
        column_breaks: columns that a wider gap stands before.
        target: about how many pixels of the picture an image is high or wide.
    """

    rows: Sequence[np.ndarray]
    labels: Sequence[str]
    title: str
    caption: str = ""
    heads: Sequence[str] = ()
    heads_name: str = ""
    notes: Sequence[Sequence[str]] = ()
    row_breaks: Sequence[int] = ()
    column_breaks: Sequence[int] = ()
    target: int = TARGET_CELL

    def render(self) -> np.ndarray:
        """The picture, uint8 [height, width, 3].

        Raises:
            ImportError: without the ``report`` extra.
        """
        page = self.page.copy()
        for r, images in enumerate(self.rows):
            for column, image in enumerate(images):
                self.place(page, r, column, image)
        return page

    def place(self, page: np.ndarray, row: int, column: int, image: np.ndarray) -> None:
        """Draw an image [H, W, 3] into a cell of a page."""
        y, x = self.tops[row], self.lefts[column]
        cell_h, cell_w = self.cell
        page[y : y + cell_h, x : x + cell_w] = image.repeat(self.zoom, 0).repeat(self.zoom, 1)

    @property
    def zoom(self) -> int:
        return max(1, round(self.target / max(self.rows[0].shape[1:3])))

    @property
    def cell(self) -> tuple[int, int]:
        height, width = self.rows[0].shape[1:3]
        return height * self.zoom, width * self.zoom

    @cached_property
    def lefts(self) -> list[int]:
        """Where each column begins."""
        label = max(self._width(self.heads_name, TICK), *(self._width(text, LABEL) for text in (*self.labels, "")))
        left = MARGIN + (label + 2 * GAP if label else 0)
        return _places(left, self.cell[1] + GAP, max(map(len, self.rows)), self.column_breaks)

    @cached_property
    def tops(self) -> list[int]:
        """Where each row begins."""
        top = self._captions_top + LINE * len(self._captions) + BREAK + (HEAD if self.heads else 0)
        return _places(top, self.cell[0] + GAP + (NOTE if self.notes else 0), len(self.rows), self.row_breaks)

    @property
    def _captions_top(self) -> int:
        return MARGIN + 33

    @cached_property
    def _grid_right(self) -> int:
        return self.lefts[-1] + self.cell[1]

    @cached_property
    def _captions(self) -> list[str]:
        """The lines of the caption, no wider than the page otherwise is, words permitting."""
        widest = max(self._grid_right - MARGIN, self._width(self.title, TITLE), NARROWEST)
        lines: list[str] = []
        for paragraph in filter(None, self.caption.split("\n")):
            line = ""
            for word in paragraph.split():
                longer = f"{line} {word}".strip()
                if line and self._width(longer, CAPTION) > widest:
                    lines.append(line)
                    longer = word
                line = longer
            lines.append(line)
        return lines

    @cached_property
    def page(self) -> np.ndarray:
        """The picture without its images."""
        text = max(self._width(self.title, TITLE), *(self._width(line, CAPTION) for line in ("", *self._captions)))
        width = max(self._grid_right, MARGIN + text) + MARGIN
        height = self.tops[-1] + self.cell[0] + (NOTE if self.notes else 0) + MARGIN
        # A hair more: the canvas cuts fractions off, and 1445 / 200 * 200 may be just below 1445.
        self._figure.set_size_inches((width + 0.01) / DPI, (height + 0.01) / DPI)
        for x, y, line, style, align in self._words():
            place = {"x": x / width, "y": 1 - y / height, "ha": align, "va": "center_baseline"}
            self._figure.text(s=line, parse_math=False, **place, **style)
        return pixels_of(self._figure)

    def _words(self) -> list[tuple[float, float, str, dict[str, Any], str]]:
        """Every piece of text: x, y, what, style and alignment."""
        cell_h, cell_w = self.cell
        middles = [left + cell_w / 2 for left in self.lefts]
        beside, over = self.lefts[0] - 2 * GAP, self.tops[0] - 17
        words: list[tuple[float, float, str, dict[str, Any], str]] = [(MARGIN, MARGIN + 14, self.title, TITLE, "left")]
        first = self._captions_top + 13
        words += [(MARGIN, first + LINE * i, line, CAPTION, "left") for i, line in enumerate(self._captions)]
        words += [(middle, over, head, TICK, "center") for middle, head in zip(middles, self.heads)]
        words += [(beside, over, self.heads_name, TICK, "right")] if self.heads else []
        words += [(beside, top + cell_h / 2, label, LABEL, "right") for label, top in zip(self.labels, self.tops)]
        for top, notes in zip(self.tops, self.notes):
            words += [(middle, top + cell_h + 12, note, TICK, "center") for middle, note in zip(middles, notes)]
        return words

    @cached_property
    def _figure(self) -> Any:
        return new_figure()

    def _width(self, text: str, style: dict[str, Any]) -> int:
        drawn = self._figure.text(0, 0, text, parse_math=False, **style)
        width = drawn.get_window_extent().width
        drawn.remove()
        return math.ceil(width)


def _places(start: int, step: int, count: int, breaks: Sequence[int]) -> list[int]:
    return [start + i * step + BREAK * sum(each <= i for each in breaks) for i in range(count)]


def save_rows(path: str | os.PathLike[str], rows: Mapping[str, Any], *, title: str, caption: str = "") -> None:
    """Writes labelled rows of images: what data sets, factors or models look like.

    Args:
        path: the picture to write, a .png.
        rows: for each label, images [n, C, H, W], C = 1 or 3, of one height and width: floats in [0, 1], clipped for
            display, or uint8; tensors or arrays.
        title: the first line of the picture.
        caption: the lines under it.

    Raises:
        ValueError: for no rows, a shape that is not the above, different sizes, or NaN.
        ImportError: without the ``report`` extra.
    """
    pictures = {label: to_bytes(images, f"save_rows: rows[{label!r}]") for label, images in rows.items()}
    sizes = {images.shape[1:3] for images in pictures.values()}
    if len(sizes) != 1:
        raise ValueError(f"save_rows: rows must hold images of one size, got {sorted(sizes)}")
    write_png(path, Grid(list(pictures.values()), list(pictures), title, caption), what="save_rows")


def write_png(path: str | os.PathLike[str], grid: Grid, *, what: str) -> None:
    """Render a grid into a file; ``what`` is the function that an error names."""
    check_suffix(path, ".png", what)
    image = require_drawing(what)
    write_picture(path, image.fromarray(grid.render()))


def write_picture(path: str | os.PathLike[str], picture: Any, **options: Any) -> None:
    """Encode a picture of Pillow's as the end of the name says, then write it.

    Raises:
        WriteError: if the disk is full, and so on; a picture that was there is as it was then.
    """
    buffer = io.BytesIO()
    buffer.name = os.fspath(path)  # from which Pillow takes the format
    picture.save(buffer, **options)
    write_atomically(Path(path), buffer.getvalue())


def check_suffix(path: str | os.PathLike[str], suffix: str, what: str) -> None:
    if not os.fspath(path).endswith(suffix):
        raise ValueError(f"{what}: path must end in {suffix}, got {os.fspath(path)!r}")


def require_drawing(what: str) -> Any:
    """Pillow's Image, once both libraries that a picture needs are there.

    Raises:
        ImportError: without the ``report`` extra.
    """
    require("matplotlib", extra="report", what=what)
    return require("PIL.Image", extra="report", what=what)


def new_figure(**options: Any) -> Any:
    """A matplotlib figure that draws into memory."""
    # Not pyplot: it would pick a display and keep every figure alive in global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(dpi=DPI, facecolor=PAGE_HEX, **options)
    FigureCanvasAgg(figure)
    return figure


def pixels_of(figure: Any) -> np.ndarray:
    """What a figure shows, uint8 [height, width, 3]."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def number(value: float) -> str:
    """A value as a label shows it: two decimals at most, and a minus sign as wide as a plus."""
    rounded = f"{round(float(value), 2) + 0.0:g}"
    return rounded.replace("-", "\N{MINUS SIGN}")


def to_bytes(images: Any, where: str, shape: str = "[n, C, H, W]") -> np.ndarray:
    """Images [.., C, H, W] as uint8 [.., H, W, 3].

    Args:
        images: C = 1 or 3; floats in [0, 1], which are clipped, or uint8; tensor or array.
        where: function and argument that an error names, as "save_rows: rows".
        shape: what the axes are.

    Raises:
        ValueError: for a shape that is not this, or NaN.
        TypeError: for other integers than bytes.
    """
    if isinstance(images, torch.Tensor):
        images = images.detach().cpu()
        images = images.float() if images.is_floating_point() else images  # NumPy has no bfloat16
    array = np.asarray(images)
    if array.ndim != shape.count(",") + 1 or array.shape[-3] not in (1, 3) or 0 in array.shape:
        raise ValueError(f"{where} must be {shape} with C = 1 or 3, not empty, got {list(array.shape)}")
    if array.dtype != np.uint8:
        if array.dtype.kind not in "bf":
            raise TypeError(f"{where} must be floats in [0, 1] or uint8, got {array.dtype}")
        if np.isnan(array).any():
            raise ValueError(f"{where} must be numbers, got NaN")
        array = np.rint(array.astype(np.float32).clip(0, 1) * 255).astype(np.uint8)
    array = np.moveaxis(array, -3, -1)
    return np.broadcast_to(array, (*array.shape[:-1], 3))
