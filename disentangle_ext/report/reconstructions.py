"""Images above what a model makes of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from disentangle_ext.report.grid import Grid, to_bytes, write_png
from disentangle_ext.report.subject import Subject

__all__ = ["draw_reconstructions", "save_reconstructions"]

_SHOWN = 10


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
        reconstructions: the decoder's pixel means, in the shape of the images.
        title: the first line of the picture.
        caption: the lines under it; states how many images are shown by default.
        columns: images side by side, at least 1.

    Raises:
        ValueError: for a shape that is not the above, unequal shapes, or NaN.
        ImportError: without the ``report`` extra.
    """
    top = to_bytes(images, "save_reconstructions: images")
    bottom = to_bytes(reconstructions, "save_reconstructions: reconstructions")
    if tuple(images.shape) != tuple(reconstructions.shape):
        raise ValueError(
            f"save_reconstructions: reconstructions must have the shape of images {list(images.shape)}, "
            f"got {list(reconstructions.shape)}"
        )
    if columns < 1:
        raise ValueError(f"save_reconstructions: columns must be at least 1, got {columns}")
    rows = [each[start : start + columns] for start in range(0, len(top), columns) for each in (top, bottom)]
    if caption is None:
        what = f"{len(top)} images, each" if len(top) > 1 else "An image"
        caption = f"{what} above its reconstruction"
    labels = ["input", "reconstruction"] * (len(rows) // 2)
    breaks = range(2, len(rows), 2)
    write_png(path, Grid(rows, labels, title, caption, row_breaks=breaks), what="save_reconstructions")


@torch.no_grad()
def draw_reconstructions(subject: Subject, path: Path) -> None:
    """Draw random images above what the model makes of their posterior means."""
    images = subject.data.batch(subject.random_rows(_SHOWN))
    pixels = subject.model.decode(subject.model.encode(images)[0])
    code = "the code" if subject.deterministic else "the posterior mean"
    caption = f"{subject.name}\n{len(images)} random images of the data set, above the decoder's pixel means at {code}"
    save_reconstructions(path, images, pixels, caption=caption)
