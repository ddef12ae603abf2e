"""Latents in motion: all of them at once, there and back, for ever."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from disentangle_ext.report.grid import PAGE, Grid, check_suffix, number, require_drawing, to_bytes, write_picture
from disentangle_ext.report.subject import Subject

__all__ = ["draw_animation", "save_animation"]

# A GIF holds 256 colours at most; half of them look the same here, and make a smaller file.
WORD_COLOURS, IMAGE_COLOURS = 15, 112
TRACK, KNOB = (200, 200, 196), (26, 26, 26)
_STEPS = 11
# Images side by side, fewer of large ones: the file is as large as all pixels that move.
_SHOWN, _SHOWN_LARGE, _LARGE = 5, 3, 32


def save_animation(
    path: str | os.PathLike[str],
    rows: Any,
    labels: Sequence[str],
    values: Any,
    *,
    title: str = "Latents in motion",
    caption: str | None = None,
    milliseconds: int = 100,
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
    palette = _palette(image, pictures)
    there = [image.fromarray(frame).quantize(palette=palette, dither=image.Dither.NONE) for frame in frames]
    first, *rest = [*there, *there[-2:0:-1]]
    options = {"duration": milliseconds, "loop": 0, "disposal": 1, "optimize": True}
    write_picture(path, first, save_all=True, append_images=rest, **options)


def _frames(
    pictures: np.ndarray, labels: Sequence[str], values: np.ndarray, title: str, caption: str
) -> list[np.ndarray]:
    """Make the frames of the way there, one for each value."""
    starts = pictures.shape[1]
    # The ends of the range stand over the outer columns, and the knob runs between them where there is room.
    wide = starts > 2
    heads = [number(values[0]), *[""] * (starts - 2), number(values[-1])] if wide else [""]
    grid = Grid(list(pictures[:, :, 0]), labels, title, caption, heads=heads, heads_name="latent value", target=64)
    begin, end = grid.lefts[1 if wide else 0], grid.lefts[-2 if wide else -1] + grid.cell[1]
    track = grid.tops[0] - 18
    frames = []
    for step, part in enumerate((values - values[0]) / (values[-1] - values[0])):
        page = grid.page.copy()
        page[track : track + 2, begin:end] = TRACK
        knob = begin + round(part * (end - begin - 12))
        page[track - 5 : track + 7, knob : knob + 12] = KNOB
        for r in range(len(pictures)):
            for column in range(starts):
                grid.place(page, r, column, pictures[r, column, step])
        frames.append(page)
    return frames


def _palette(image: Any, pictures: np.ndarray) -> Any:
    """Colours for the page and for the images of every frame: a palette of each frame's own would flicker."""
    words = np.linspace(PAGE, KNOB, WORD_COLOURS).round()
    pixels = image.fromarray(pictures.reshape(1, -1, 3)).quantize(IMAGE_COLOURS, method=image.Quantize.MEDIANCUT)
    own = np.reshape(pixels.getpalette(), (-1, 3))[:IMAGE_COLOURS]
    palette = image.new("P", (1, 1))
    palette.putpalette(np.concatenate([words, [TRACK], own]).astype(np.uint8).tobytes())
    return palette


@torch.no_grad()
def draw_animation(subject: Subject, path: Path) -> None:
    """Animate every latent, from a few random images."""
    values = torch.linspace(-subject.limit, subject.limit, _STEPS)
    shown = _SHOWN if max(subject.data.image_shape[1:]) <= _LARGE else _SHOWN_LARGE
    images = subject.data.batch(subject.random_rows(shown))
    low, high = number(-subject.limit), number(subject.limit)
    code = "code" if subject.deterministic else "posterior mean"
    caption = (
        f"{subject.name}\nEach row moves one latent from {low} to {high} and back, each column from the {code} of "
        f"another random image; {subject.order_in_words}"
    )
    save_animation(path, subject.traverse(images, values), subject.labels, values, caption=caption)
