"""Latents in motion: all of them at once, there and back, for ever."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from disentangle_ext.report.grid import PAGE, Grid, check_suffix, number, require_drawing, to_bytes
from disentangle_ext.report.subject import Subject

__all__ = ["draw_animation", "save_animation"]

# A GIF holds at most 256 colours. Half of them look the same here, and make a smaller file.
COLOURS = 128
TRACK, KNOB = (200, 200, 196), (26, 26, 26)
_STEPS = 17
_SHOWN = 5


def save_animation(
    path: str | os.PathLike[str],
    rows: Any,
    labels: Sequence[str],
    values: Any,
    *,
    title: str = "Latents in motion",
    caption: str | None = None,
    milliseconds: int = 80,
) -> None:
    """Writes a GIF in which each row moves one latent through its values and back, from n images side by side.

    A knob above the images shows the value. The last frame leads into the first, and the GIF starts over without end.

    Args:
        path: the picture to write, a .gif.
        rows: [L, n, steps, C, H, W] from n images; C = 1 or 3, at least 2 steps: floats in [0, 1], clipped for
            display, or uint8; tensor or array.
        labels: L labels, such as "z3  KL 2.1 nats".
        values: [steps], the values the latents take, ascending.
        title: the first line of the picture.
        caption: the lines under it; states the range of the values by default.
        milliseconds: how long a frame is shown; GIF counts in tens of them.

    Raises:
        ValueError: for a shape that is not the above, unequal lengths, values that do not ascend, or NaN.
        ImportError: without the ``report`` extra.
    """
    check_suffix(path, ".gif", "save_animation")
    pictures = to_bytes(rows, "save_animation: rows", "[L, n, steps, C, H, W]")
    numbers = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values, dtype=np.float64)
    latents, _, steps = pictures.shape[:3]
    if len(labels) != latents:
        raise ValueError(f"save_animation: labels must name each of the {latents} rows, got {len(labels)}")
    if steps < 2 or numbers.shape != (steps,) or not (np.diff(numbers) > 0).all():
        raise ValueError(
            f"save_animation: values must be {max(2, steps)} ascending numbers, one per step, "
            f"got {np.array2string(numbers, threshold=8)}"
        )
    if milliseconds < 20:
        raise ValueError(f"save_animation: milliseconds must be at least 20, got {milliseconds}")
    image = require_drawing("save_animation")
    if caption is None:
        low, high = number(numbers[0]), number(numbers[-1])
        caption = f"Each row moves one latent from {low} to {high} and back; the others stay as they are"
    frames = _frames(pictures, labels, numbers, title, caption)
    palette = _palette(image, frames[0], pictures)
    there = [image.fromarray(frame).quantize(palette=palette, dither=image.Dither.NONE) for frame in frames]
    first, *rest = [*there, *there[-2:0:-1]]
    first.save(path, save_all=True, append_images=rest, duration=milliseconds, loop=0, disposal=1, optimize=False)


def _frames(
    pictures: np.ndarray, labels: Sequence[str], values: np.ndarray, title: str, caption: str
) -> list[np.ndarray]:
    """The way there, one frame for each value."""
    starts = pictures.shape[1]
    # The heads are the scale of the knob: each column's middle is as far along as its value.
    heads = [number(value) for value in np.linspace(values[0], values[-1], starts)] if starts > 1 else [""]
    heads_name = "latent value" if starts > 1 else ""
    grid = Grid(list(pictures[:, :, 0]), labels, title, caption, heads=heads, heads_name=heads_name, target=64)
    half = grid.cell[1] // 2 if starts > 1 else 0
    begin, end = grid.lefts[0] + half, grid.lefts[-1] + grid.cell[1] - half
    track = grid.tops[0] - 6
    frames = []
    for step, part in enumerate((values - values[0]) / (values[-1] - values[0])):
        page = grid.page.copy()
        page[track : track + 2, begin:end] = TRACK
        knob = round(begin + part * (end - begin))
        page[track - 2 : track + 4, knob - 6 : knob + 6] = KNOB
        for r in range(len(pictures)):
            for column in range(starts):
                grid.place(page, r, column, pictures[r, column, step])
        frames.append(page)
    return frames


def _palette(image: Any, page: np.ndarray, pictures: np.ndarray) -> Any:
    """Colours for the words and for the images of every frame: a palette of each frame's own would flicker."""
    words = page.reshape(-1, 3)
    pixels = np.concatenate([np.unique(words, axis=0), np.full((1, 3), PAGE), pictures.reshape(-1, 3)])
    return image.fromarray(pixels.astype(np.uint8)[None]).quantize(COLOURS, method=image.Quantize.MEDIANCUT)


@torch.no_grad()
def draw_animation(subject: Subject, path: Path) -> None:
    """Every latent from a few random images."""
    values = torch.linspace(-subject.limit, subject.limit, _STEPS)
    images = subject.data.batch(subject.random_rows(_SHOWN))
    low, high = number(-subject.limit), number(subject.limit)
    code = "code" if subject.deterministic else "posterior mean"
    caption = (
        f"{subject.name}\nEach row moves one latent from {low} to {high} and back, each column from the {code} of "
        f"another random image; {subject.order_in_words}"
    )
    save_animation(path, subject.traverse(images, values), subject.labels, values, caption=caption)
