"""What a model draws of its own accord: codes of the prior, decoded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from disentangle_ext.report.grid import Grid, to_bytes, write_png
from disentangle_ext.report.subject import Subject

__all__ = ["draw_samples", "save_samples"]

_SHOWN = 40


def save_samples(
    path: str | os.PathLike[str],
    images: Any,
    *,
    title: str = "Samples of the prior",
    caption: str | None = None,
    columns: int = 10,
) -> None:
    """Writes images in rows, as many as it takes.

    Args:
        path: the picture to write, a .png.
        images: [n, C, H, W], C = 1 or 3: floats in [0, 1], clipped for display, or uint8; tensor or array.
        title: the first line of the picture.
        caption: the lines under it; states how many images are shown by default.
        columns: images side by side, at least 1.

    Raises:
        ValueError: for a shape that is not the above, or NaN.
        ImportError: without the ``report`` extra.
    """
    pictures = to_bytes(images, "save_samples: images")
    if columns < 1:
        raise ValueError(f"save_samples: columns must be at least 1, got {columns}")
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    caption = f"{len(pictures)} images" if caption is None else caption
    write_png(path, Grid(rows, [""] * len(rows), title, caption), what="save_samples")


@torch.no_grad()
def draw_samples(subject: Subject, path: Path) -> None:
    """Draw the pixel means of codes from the prior."""
    model = subject.model
    generator = torch.Generator().manual_seed(subject.seed)
    z = torch.randn(_SHOWN, model.latent_dim, generator=generator)
    weight = next(model.parameters())
    pixels = model.decode(z.to(weight.device, weight.dtype))
    caption = f"{subject.name}\nThe decoder's pixel means for {_SHOWN} codes of N(0, I), not selected"
    save_samples(path, pixels, caption=caption)
