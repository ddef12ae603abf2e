"""What the images of a data set look like while one ground-truth factor alone varies."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from disentangle_ext.data import GroundTruthData
from disentangle_ext.report.grid import Grid, to_bytes, write_png
from disentangle_ext.report.subject import Subject, middle_row

__all__ = ["draw_factors", "factor_traversals", "save_factor_traversals"]


def factor_traversals(data: GroundTruthData, start: int | None = None, *, columns: int = 10) -> dict[str, Tensor]:
    """For each factor, rows of a data set that differ in that factor alone.

    Args:
        data: images with factors, on a full grid or not.
        start: the row whose other factors are kept; default: that with every factor at its middle class, or the middle
            row where the grid has a gap there.
        columns: rows for a factor at most, at least 2; evenly spaced among the classes there are, first and last
            included.

    Returns:
        By factor, int64 [n] with n <= ``columns``, by ascending class. Where several images share their factors, the
        first of them; where the grid has gaps, n may be 1.

    Raises:
        ValueError: for data without factors, or fewer than 2 columns.
    """
    if not data.factor_names:
        raise ValueError(f"factor_traversals: data must have factors, {data.name} has none")
    if columns < 2:
        raise ValueError(f"factor_traversals: columns must be at least 2, got {columns}")
    row = middle_row(data) if start is None else torch.tensor([start])
    own = data.factors(row)
    table = None if data.is_grid else data.factors(torch.arange(len(data)))
    rows = {}
    for k, (name, size) in enumerate(zip(data.factor_names, data.factor_sizes)):
        classes = torch.arange(size)
        if table is not None:
            others = (table == own).index_fill(1, torch.tensor([k], device=table.device), True).all(1)
            classes = table[others, k].unique().cpu()
        shown = torch.linspace(0, len(classes) - 1, min(columns, len(classes)), dtype=torch.float64).round().long()
        wanted = own.cpu().repeat(len(shown), 1)
        wanted[:, k] = classes[shown]
        rows[name] = data.index(wanted)
    return rows


def save_factor_traversals(
    path: str | os.PathLike[str],
    data: GroundTruthData,
    *,
    start: int | None = None,
    columns: int = 10,
    title: str = "Factor traversals",
    caption: str | None = None,
) -> None:
    """Writes one row of images per factor of a data set, with the class under each image.

    Args:
        path: the picture to write, a .png.
        data: images with factors.
        start: as for :func:`factor_traversals`.
        columns: images side by side at most.
        title: the first line of the picture.
        caption: the lines under it; names the data set by default.

    Raises:
        ValueError: for data without factors, or fewer than 2 columns.
        ImportError: without the ``report`` extra.
    """
    rows = factor_traversals(data, start, columns=columns)
    pictures = [to_bytes(data.images(index), "save_factor_traversals: images") for index in rows.values()]
    numbers = [data.factors(index)[:, k].tolist() for k, index in enumerate(rows.values())]
    labels = [f"{name}, {size} classes" for name, size in zip(data.factor_names, data.factor_sizes)]
    if caption is None:
        caption = (
            f"{data.name}, {len(data):,} images\nEach row varies one ground-truth factor and keeps the others; "
            "under each image its class, counted from 0"
        )
    notes = [[str(each) for each in row] for row in numbers]
    write_png(path, Grid(pictures, labels, title, caption, notes=notes), what="save_factor_traversals")


def draw_factors(subject: Subject, path: Path) -> None:
    """Draw the factors of the data set that the model was trained on."""
    save_factor_traversals(path, subject.data)
