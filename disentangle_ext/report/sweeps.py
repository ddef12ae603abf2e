"""What the decoder draws while the latent that belongs to a factor takes all values that it takes on the data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from disentangle_ext.data import GroundTruthData
from disentangle_ext.report.grid import Grid, number, to_bytes, write_png
from disentangle_ext.report.subject import Subject

__all__ = ["draw_sweeps", "save_sweeps"]

_STARTS, _STEPS = 3, 9
_ENCODED, _CHUNK = 2000, 64
_TAIL = 0.01


def save_sweeps(
    path: str | os.PathLike[str],
    rows: Any,
    labels: Sequence[str],
    values: Any,
    *,
    inputs: Any,
    title: str = "Latent sweeps",
    caption: str = "",
) -> None:
    """Writes for each of some images one row per latent: the image, and what the decoder draws while the latent moves.

    Args:
        path: the picture to write, a .png.
        rows: [L, n, steps, C, H, W], C = 1 or 3: floats in [0, 1], clipped for display, or uint8; tensor or array.
        labels: L labels, such as "azimuth  z0".
        values: [L, steps], the values that each latent takes, written under its images.
        inputs: [n, C, H, W], the images that the sweeps start from.
        title: the first line of the picture.
        caption: the lines under it.

    Raises:
        ValueError: for a shape that is not the above, unequal lengths, or NaN.
        ImportError: without the ``report`` extra.
    """
    pictures = to_bytes(rows, "save_sweeps: rows", "[L, n, steps, C, H, W]")
    starts = to_bytes(inputs, "save_sweeps: inputs")
    numbers = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)
    latents, count, steps = pictures.shape[:3]
    if len(labels) != latents:
        raise ValueError(f"save_sweeps: labels must name each of the {latents} latents, got {len(labels)}")
    if numbers.shape != (latents, steps) or not np.isfinite(numbers).all():
        raise ValueError(
            f"save_sweeps: values must be finite and [{latents}, {steps}], one per latent and step, "
            f"got {list(numbers.shape)}"
        )
    if starts.shape != (count, *pictures.shape[3:]):
        raise ValueError(
            f"save_sweeps: inputs must be {count} images as large as those of rows, got {list(inputs.shape)}"
        )
    notes = [["input", *(number(value) for value in each)] for each in numbers]
    grid = Grid(
        [np.concatenate([starts[i : i + 1], pictures[d, i]]) for i in range(count) for d in range(latents)],
        list(labels) * count,
        title,
        caption,
        notes=notes * count,
        row_breaks=range(latents, latents * count, latents),
        column_breaks=[1],
    )
    write_png(path, grid, what="save_sweeps")


@torch.no_grad()
def draw_sweeps(subject: Subject, path: Path) -> None:
    """Draw the latents that belong to a factor, from a few images: held-out ones where the data set has such."""
    if not subject.own:
        raise ValueError("report: sweeps: no latent of this model belongs to a factor")
    held_out = subject.data.held_out()
    data = held_out or subject.data
    codes = _codes(subject, data)
    shares = torch.tensor([_TAIL, 1 - _TAIL], dtype=codes.dtype, device=codes.device)
    lows, highs = torch.quantile(codes[:, list(subject.own.values())], shares, dim=0).cpu()
    values = torch.stack([torch.linspace(float(low), float(high), _STEPS) for low, high in zip(lows, highs)])
    inputs = data.batch(_starts(subject, data))
    rows = [subject.model.traverse(inputs, latent, values=each) for latent, each in zip(subject.own.values(), values)]
    where = "held out from training" if held_out else "of the training data"
    caption = (
        f"{subject.name}\nInputs are images {where}, with {', '.join(subject.own)} at their middle class.\n"
        "Each row moves the latent of one factor, to the numbers under the images, and leaves the others at the "
        "posterior mean of the input.\n"
        f"It covers the middle {100 - 200 * _TAIL:g} % of what the latent is on {len(codes):,} images of {data.name}."
    )
    labels = [f"{name}  z{latent}" for name, latent in subject.own.items()]
    save_sweeps(path, torch.stack(rows), labels, values, inputs=inputs, caption=caption)


def _codes(subject: Subject, data: GroundTruthData) -> Tensor:
    """Posterior means [n, D] of random images."""
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(subject.seed))[:_ENCODED]
    return torch.cat([subject.model.encode(data.batch(chunk))[0] for chunk in rows.split(_CHUNK)])


def _starts(subject: Subject, data: GroundTruthData) -> Tensor:
    """Rows with every factor that has a latent at its middle class, so that there is room on both sides."""
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(subject.seed))
    factors = data.factors(rows[:_ENCODED]).cpu()
    for k, name in enumerate(data.factor_names):
        if name in subject.own:
            factors[:, k] = data.factor_sizes[k] // 2
    distinct, first = np.unique(factors.numpy(), axis=0, return_index=True)
    return data.index(torch.from_numpy(distinct[np.argsort(first)[:_STARTS]]))
