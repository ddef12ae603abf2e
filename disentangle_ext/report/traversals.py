"""What the decoder draws while one latent alone moves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from disentangle_ext.models.vae import TRAVERSAL
from disentangle_ext.report.grid import Grid, number, to_bytes, write_png
from disentangle_ext.report.subject import Subject, middle_row

__all__ = ["draw_traversals", "save_traversals"]

# An image beside others is drawn smaller: a page as wide as two could not be printed.
_TARGETS = {1: 112, 2: 64}


def save_traversals(
    path: str | os.PathLike[str],
    rows: Any,
    labels: Sequence[str],
    values: Any,
    *,
    inputs: Any = None,
    title: str = "Latent traversals",
    caption: str | None = None,
) -> None:
    """Writes one row of images per latent: what the decoder draws while that latent alone moves.

    Traversals from several images stand side by side, each behind its image if ``inputs`` are given.

    Args:
        path: the picture to write, a .png.
        rows: [L, steps, C, H, W], or [L, n, steps, C, H, W] from n images; C = 1 or 3, in the order to show them (by
            KL, the largest first): floats in [0, 1], clipped for display, or uint8; tensor or array.
        labels: L labels, such as "z3  KL 2.1 nats".
        values: [steps], the values the latent takes, written above the columns.
        inputs: [n, C, H, W], the images that the traversals start from.
        title: the first line of the picture.
        caption: the lines under it; states the range of the values by default.

    Raises:
        ValueError: for a shape that is not the above, unequal lengths, or NaN.
        ImportError: without the ``report`` extra.
    """
    axes = "[L, n, steps, C, H, W]" if getattr(rows, "ndim", 0) == 6 else "[L, steps, C, H, W]"
    pictures = to_bytes(rows, "save_traversals: rows", axes)
    pictures = pictures if pictures.ndim == 6 else pictures[:, None]
    values = values.detach().cpu() if isinstance(values, torch.Tensor) else values
    numbers = np.asarray(values, dtype=np.float64)
    latents, starts, steps = pictures.shape[:3]
    if len(labels) != latents:
        raise ValueError(f"save_traversals: labels must name each of the {latents} rows, got {len(labels)}")
    if numbers.shape != (steps,) or not np.isfinite(numbers).all():
        raise ValueError(
            f"save_traversals: values must be {steps} finite numbers, one per column, "
            f"got {np.array2string(numbers, threshold=8)}"
        )
    heads = [number(value) for value in numbers]
    if inputs is not None:
        pictures = _behind(inputs, pictures)
        heads = ["input", *heads]
    if caption is None:
        low, high = number(numbers.min()), number(numbers.max())
        caption = f"Each row moves one latent from {low} to {high}; the others stay as they are"
    grid = Grid(
        list(pictures.reshape(latents, -1, *pictures.shape[3:])),
        labels,
        title,
        caption,
        heads=heads * starts,
        heads_name="latent value",
        column_breaks=range(len(heads), len(heads) * starts, len(heads)),
        target=_TARGETS.get(starts, min(_TARGETS.values())),
    )
    write_png(path, grid, what="save_traversals")


def _behind(inputs: Any, pictures: np.ndarray) -> np.ndarray:
    """Each traversal [L, n, steps, H, W, 3] with its image [n, C, H, W] before it."""
    latents, starts = pictures.shape[:2]
    before = to_bytes(inputs, "save_traversals: inputs")
    if before.shape != (starts, *pictures.shape[3:]):
        raise ValueError(
            f"save_traversals: inputs must be {starts} images as large as those of rows, got {list(inputs.shape)}"
        )
    before = np.broadcast_to(before[None, :, None], (latents, starts, 1, *before.shape[1:]))
    return np.concatenate([before, pictures], 2)


@torch.no_grad()
def draw_traversals(subject: Subject, path: Path) -> None:
    """Draw every latent from two images: the one in the middle of the data set, and a random one."""
    values = torch.linspace(-subject.limit, subject.limit, TRAVERSAL[2])
    rows = torch.unique_consecutive(torch.cat([middle_row(subject.data).cpu(), subject.random_rows(1)]))
    images = subject.data.batch(rows)
    low, high = number(-subject.limit), number(subject.limit)
    code = "code" if subject.deterministic else "posterior mean"
    caption = (
        f"{subject.name}\nEach row moves one latent from {low} to {high} and leaves the others at the {code} of the "
        f"input image; {subject.order_in_words}"
    )
    save_traversals(path, subject.traverse(images, values), subject.labels, values, inputs=images, caption=caption)
