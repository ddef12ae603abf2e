"""Pictures of what a model has learned, each readable on its own: reconstructions and latent traversals.

Images are enlarged by a whole factor and placed pixel on pixel, so that what is seen is what the model drew.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from disentangle_ext._extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["save_reconstructions", "save_rows", "save_traversals"]

# Lengths in pixels of the picture, drawn at 200 dots per inch.
DPI = 200
MARGIN = 28
GAP = 6
TARGET_CELL = 112

TITLE = {"size": 10.0, "color": "#1a1a1a", "weight": "bold"}
CAPTION = {"size": 7.5, "color": "#5f5f5f"}
LABEL = {"size": 8.0, "color": "#1a1a1a"}
TICK = {"size": 7.0, "color": "#5f5f5f"}
# Cells stand on a light grey page: neither the black nor the white edge of an image runs into it.
PAGE = (244, 244, 242)


def save_reconstructions(
    path: str | os.PathLike[str],
    images: Any,
    reconstructions: Any,
    *,
    title: str = "Reconstructions",
    caption: str | None = None,
    columns: int = 10,
) -> None:
    """Writes images above their reconstructions, in as many pairs of rows as it takes.

    Args:
        path: the picture to write, a .png.
        images: [n, C, H, W], C = 1 or 3: floats in [0, 1], clipped for display, or uint8; tensor or array.
        reconstructions: the same shape; the decoder's pixel means.
        title: the first line of the picture.
        caption: the line under it; states how many images are shown by default.
        columns: images side by side, at least 1.

    Raises:
        ValueError: for a shape that is not the above, unequal shapes, or NaN.
        ImportError: without the ``report`` extra.
    """
    top = _to_bytes(images, "save_reconstructions: images", 4)
    bottom = _to_bytes(reconstructions, "save_reconstructions: reconstructions", 4)
    if tuple(images.shape) != tuple(reconstructions.shape):
        raise ValueError(
            f"save_reconstructions: reconstructions must have the shape of images {list(images.shape)}, "
            f"got {list(reconstructions.shape)}"
        )
    if columns < 1:
        raise ValueError(f"save_reconstructions: columns must be at least 1, got {columns}")
    count = len(top)
    rows, labels = [], []
    for start in range(0, count, columns):
        rows += [top[start : start + columns], bottom[start : start + columns]]
        labels += ["input", "reconstruction"]
    if caption is None:
        what = f"{count} images, each" if count > 1 else "An image"
        caption = f"{what} above its reconstruction"
    _save_grid(path, rows, labels, [], "", title, caption, rows_in_group=2, what="save_reconstructions")


def save_rows(path: str | os.PathLike[str], rows: Mapping[str, Any], *, title: str, caption: str = "") -> None:
    """Writes labelled rows of images: what data sets, factors or models look like.

    Args:
        path: the picture to write, a .png.
        rows: for each label, images [n, C, H, W], C = 1 or 3, of one height and width: floats in [0, 1], clipped for
            display, or uint8; tensors or arrays.
        title: the first line of the picture.
        caption: the line under it.

    Raises:
        ValueError: for no rows, a shape that is not the above, different sizes, or NaN.
        ImportError: without the ``report`` extra.
    """
    pictures = {label: _to_bytes(images, f"save_rows: rows[{label!r}]", 4) for label, images in rows.items()}
    sizes = {images.shape[1:3] for images in pictures.values()}
    if len(sizes) != 1:
        raise ValueError(f"save_rows: rows must hold images of one size, got {sorted(sizes)}")
    _save_grid(path, list(pictures.values()), list(pictures), [], "", title, caption, what="save_rows")


def save_traversals(
    path: str | os.PathLike[str],
    rows: Any,
    labels: Sequence[str],
    values: Any,
    *,
    title: str = "Latent traversals",
    caption: str | None = None,
) -> None:
    """Writes one row of images per latent: what the decoder draws while that latent alone moves.

    Args:
        path: the picture to write, a .png.
        rows: [L, steps, C, H, W], C = 1 or 3, in the order to show them (by KL, the largest first): floats in
            [0, 1], clipped for display, or uint8; tensor or array.
        labels: L labels, such as "z3  KL 2.1 nats".
        values: [steps], the values the latent takes, written above the columns.
        title: the first line of the picture.
        caption: the line under it; states the range of the values by default.

    Raises:
        ValueError: for a shape that is not the above, unequal lengths, or NaN.
        ImportError: without the ``report`` extra.
    """
    pictures = _to_bytes(rows, "save_traversals: rows", 5)
    values = values.detach().cpu() if isinstance(values, torch.Tensor) else values
    numbers = np.asarray(values, dtype=np.float64)
    if len(labels) != len(pictures):
        raise ValueError(
            f"save_traversals: labels must name each of the {len(pictures)} rows, got {len(labels)}"
        )
    if numbers.shape != pictures.shape[1:2] or not np.isfinite(numbers).all():
        raise ValueError(
            f"save_traversals: values must be {pictures.shape[1]} finite numbers, one per column, "
            f"got {np.array2string(numbers, threshold=8)}"
        )
    if caption is None:
        low, high = _number(numbers.min()), _number(numbers.max())
        caption = f"Each row moves one latent from {low} to {high}; the others stay as they are"
    heads = [_number(number) for number in numbers]
    _save_grid(
        path, list(pictures), list(labels), heads, "latent value", title, caption, what="save_traversals"
    )


def _save_grid(
    path: str | os.PathLike[str],
    rows: list[np.ndarray],
    labels: list[str],
    heads: list[str],
    heads_name: str,
    title: str,
    caption: str,
    *,
    what: str,
    rows_in_group: int = 1,
) -> None:
    """Writes rows of uint8 images [n, H, W, 3], labelled on the left, with ``heads`` over the columns."""
    if not os.fspath(path).endswith(".png"):
        raise ValueError(f"{what}: path must end in .png, got {os.fspath(path)!r}")
    figure = _new_figure(what)
    height, width = rows[0].shape[1:3]
    zoom = max(1, round(TARGET_CELL / max(height, width)))
    cell_h, cell_w = height * zoom, width * zoom
    label_w = max(_text_width(figure, text, **LABEL) for text in labels)
    label_w = max(label_w, _text_width(figure, heads_name, **TICK))
    left = MARGIN + label_w + 2 * GAP
    grid_w = max(len(row) for row in rows) * (cell_w + GAP) - GAP
    text_w = max(_text_width(figure, title, **TITLE), _text_width(figure, caption, **CAPTION))
    page_w = max(left + grid_w, MARGIN + text_w) + MARGIN

    title_y, caption_y = MARGIN + 14, MARGIN + 46
    grid_y = MARGIN + 78 + (26 if heads else 0)
    group_gap = 2 * GAP if rows_in_group > 1 else 0
    tops = [grid_y + r * (cell_h + GAP) + r // rows_in_group * group_gap for r in range(len(rows))]
    page_h = tops[-1] + cell_h + MARGIN

    page = np.full((page_h, page_w, 3), PAGE, np.uint8)
    for row, y in zip(rows, tops):
        for column, image in enumerate(row):
            x = left + column * (cell_w + GAP)
            page[y : y + cell_h, x : x + cell_w] = image.repeat(zoom, 0).repeat(zoom, 1)

    figure.set_size_inches(page_w / DPI, page_h / DPI)
    figure.figimage(page, origin="upper")

    def write(x: float, y: float, text: str, style: dict[str, Any], align: str = "left") -> None:
        place = {"x": x / page_w, "y": 1 - y / page_h, "ha": align, "va": "center_baseline"}
        figure.text(s=text, parse_math=False, **place, **style)

    write(MARGIN, title_y, title, TITLE)
    write(MARGIN, caption_y, caption, CAPTION)
    for column, head in enumerate(heads):
        write(left + column * (cell_w + GAP) + cell_w / 2, grid_y - 17, head, TICK, "center")
    if heads:
        write(left - 2 * GAP, grid_y - 17, heads_name, TICK, "right")
    for label, y in zip(labels, tops):
        write(left - 2 * GAP, y + cell_h / 2, label, LABEL, "right")
    figure.savefig(path, dpi=DPI)


def _new_figure(what: str) -> Figure:
    require("matplotlib", extra="report", what=what)
    # Not pyplot: it would pick a display and keep every figure alive in global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def _text_width(figure: Figure, text: str, **style: Any) -> int:
    drawn = figure.text(0, 0, text, parse_math=False, **style)
    width = drawn.get_window_extent().width
    drawn.remove()
    return math.ceil(width)


def _number(value: float) -> str:
    rounded = f"{round(float(value), 2) + 0.0:g}"
    return rounded.replace("-", "\N{MINUS SIGN}")


def _to_bytes(images: Any, where: str, dims: int) -> np.ndarray:
    """Images [.., C, H, W] as uint8 [.., H, W, 3]."""
    array = images.detach().cpu().float().numpy() if _is_float_tensor(images) else np.asarray(images)
    shape = "[n, C, H, W]" if dims == 4 else "[L, steps, C, H, W]"
    if array.ndim != dims or array.shape[-3] not in (1, 3) or 0 in array.shape:
        raise ValueError(f"{where} must be {shape} with C = 1 or 3, not empty, got {list(array.shape)}")
    if array.dtype != np.uint8:
        if array.dtype.kind not in "bf":
            raise TypeError(f"{where} must be floats in [0, 1] or uint8, got {array.dtype}")
        if np.isnan(array).any():
            raise ValueError(f"{where} must be numbers, got NaN")
        array = np.rint(array.astype(np.float32).clip(0, 1) * 255).astype(np.uint8)
    array = np.moveaxis(array, -3, -1)
    return np.broadcast_to(array, (*array.shape[:-1], 3))


def _is_float_tensor(images: Any) -> bool:
    return isinstance(images, torch.Tensor) and images.is_floating_point()
