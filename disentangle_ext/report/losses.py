"""How the terms of the loss went."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from disentangle_ext.report.grid import (
    CAPTION,
    LABEL,
    TICK,
    TITLE,
    check_suffix,
    new_figure,
    pixels_of,
    require_drawing,
    write_picture,
)
from disentangle_ext.report.subject import Subject

__all__ = ["draw_losses", "save_losses", "smooth"]


class Panel(NamedTuple):
    """Terms that share one pair of axes."""

    title: str
    terms: tuple[str, ...]
    unit: str = "nats"
    may_be_log: bool = False
    level: tuple[float, str] | None = None
    """A value to compare with, and what it is."""


_ESTIMATES = ("mi", "tc", "dwkl")
CONSTANT = tuple(f"{name}_{estimator}" for estimator in ("mws", "mss_legacy") for name in _ESTIMATES)
"""Estimates to train on, which as numbers are far from what they estimate."""
PANELS = (
    Panel("Loss, as it is minimised", ("loss",), may_be_log=True),
    Panel("Reconstruction, \N{MINUS SIGN}log p(x|z)", ("reconstruction",), may_be_log=True),
    Panel(
        "KL and its parts",
        (
            *("kl", "mutual_information", "total_correlation", "dimwise_kl", "tc_discriminator"),
            *(f"{name}_mss" for name in _ESTIMATES),
        ),
    ),
    Panel("Trained on: with the estimator's constant", CONSTANT),
    Panel("The discriminator's loss", ("adversary",), level=(math.log(2), "guessing, log 2")),
    Panel("abs(KL \N{MINUS SIGN} C)", ("capacity_gap",), may_be_log=True),
    Panel("Squared MMD to the prior", ("mmd",), unit="squared distance"),
    Panel("Penalties on the covariance, weighted", ("dip_off_diagonal", "dip_diagonal"), may_be_log=True),
    Panel("Spread of inactive latents", ("invariance",), unit="half the squared distance"),
)
"""Where each term is drawn. A term that is not here gets axes of its own."""

MEASURED = ("mutual_information", "total_correlation", "dimwise_kl")
"""Terms that are measured on the last batch before a line; all others are means since the line before."""

NO_TERMS = ("step", "seconds", "images_per_second", "lr")

# Okabe and Ito's colours, which the colour-blind can tell apart, without the yellow that a light page swallows; the
# dashes tell the lines apart in grey too.
STYLES: tuple[tuple[str, Any], ...] = (
    ("#0072B2", "-"),
    ("#D55E00", (0, (5, 1.5))),
    ("#009E73", (0, (1.5, 1.2))),
    ("#CC79A7", (0, (5, 1.2, 1.2, 1.2))),
    ("#000000", (0, (8, 2))),
    ("#56B4E9", "-"),
)
# Lines that are averaged to one point: a fiftieth of all.
_SMOOTHED = 50
# Where the largest value is this many times the smallest, a linear axis would show little but the start.
_LOG_FROM = 20.0


def smooth(values: Any, width: int) -> np.ndarray:
    """Running mean over ``width`` neighbours, an odd number; nearer to an end, over as many as there are on both sides.

    Values that are not finite are left out of every mean, and stay as they are.

    Args:
        values: [n].
        width: 1 leaves the values as they are.

    Raises:
        ValueError: for an even width, or one below 1.
    """
    if width < 1 or width % 2 == 0:
        raise ValueError(f"smooth: width must be odd and at least 1, got {width}")
    values = np.asarray(values, dtype=np.float64)
    count = len(values)
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    place = np.arange(count)
    half = np.minimum(width // 2, np.minimum(place, count - 1 - place))
    low, high = place - half, place + half + 1
    means = (sums[high] - sums[low]) / np.maximum(counts[high] - counts[low], 1)
    return np.where(finite & (half > 0), means, values)


def save_losses(
    path: str | os.PathLike[str],
    rows: Iterable[Mapping[str, Any]],
    *,
    capacity: Callable[[int], float] | None = None,
    title: str = "Terms of the loss",
    caption: str = "",
) -> None:
    """Writes a plot of every term in the lines of a metrics.jsonl, with its unit.

    Terms of one size share their axes; those whose value is mostly an estimator's constant, as ``tc_mws``, have axes of
    their own. Axes are logarithmic where all values are positive and far apart, and say so. From 100 lines on
    each term is also drawn smoothed, by :func:`smooth`, which the caption states.

    Args:
        path: the picture to write, a .png.
        rows: a mapping for each line, with "step" and the terms; if a step comes twice, as after a resumed run, the
            later line counts.
        capacity: C in nats at a step, drawn beside the KL.
        title: the first line of the picture.
        caption: the lines under it.

    Raises:
        ValueError: for no lines, lines without "step", or lines without a term.
        ImportError: without the ``report`` extra.
    """
    check_suffix(path, ".png", "save_losses")
    steps, terms = _columns(rows)
    image = require_drawing("save_losses")
    width = max(1, len(steps) // _SMOOTHED // 2 * 2 + 1)
    panels = _panels(terms)
    # Four in a square; otherwise three a line.
    across = min(len(panels), 2 if len(panels) == 4 else 3)
    down = math.ceil(len(panels) / across)
    lines = [*filter(None, caption.split("\n")), *_explain(steps, terms, width)]
    head = 0.42 + 0.16 * len(lines)
    figure = new_figure(layout="constrained")
    figure.set_size_inches(max(3.2 * across, 6.8), head + 2.3 * down)
    height = head + 2.3 * down
    figure.get_layout_engine().set(rect=(0.01, 0.01, 0.98, 1 - head / height - 0.01), hspace=0.06, wspace=0.04)
    left = 0.14 / figure.get_figwidth()
    figure.text(left, 1 - 0.2 / height, title, va="center_baseline", parse_math=False, **TITLE)
    for i, line in enumerate(lines):
        figure.text(left, 1 - (0.4 + 0.16 * i) / height, line, va="center_baseline", parse_math=False, **CAPTION)
    for axes, panel in zip(figure.subplots(down, across, squeeze=False).flat, panels):
        _draw(axes, panel, steps, terms, width, capacity if "kl" in panel.terms else None)
    for axes in figure.axes[len(panels) :]:
        axes.remove()
    write_picture(path, image.fromarray(pixels_of(figure)))


def _columns(rows: Iterable[Mapping[str, Any]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Ascending steps [n], and each term [n], NaN where a line lacks it."""
    by_step: dict[int, Mapping[str, Any]] = {}
    for row in rows:
        if "step" not in row:
            raise ValueError(f"save_losses: rows must have a step, got {dict(row)}")
        by_step[int(row["step"])] = row
    if not by_step:
        raise ValueError("save_losses: rows must hold at least one line of metrics, got none")
    ordered = [by_step[step] for step in sorted(by_step)]
    names = list(dict.fromkeys(name for row in ordered for name in row if name not in NO_TERMS))
    if not names:
        raise ValueError(f"save_losses: rows must hold terms of a loss, got {', '.join(ordered[0])} alone")
    steps = np.array(sorted(by_step))
    return steps, {name: np.array([row.get(name, math.nan) for row in ordered], dtype=np.float64) for name in names}


def _panels(terms: Mapping[str, np.ndarray]) -> list[Panel]:
    """Choose the panels that have something to show, each with the terms that there are."""
    known = [panel._replace(terms=tuple(name for name in panel.terms if name in terms)) for panel in PANELS]
    placed = {name for panel in known for name in panel.terms}
    own = [Panel(name, (name,), unit="as logged") for name in terms if name not in placed]
    return [panel for panel in (*known, *own) if panel.terms]


def _explain(steps: np.ndarray, terms: Mapping[str, np.ndarray], width: int) -> list[str]:
    """What a point is, in words."""
    apart = int(np.median(np.diff(steps))) if len(steps) > 1 else int(steps[0])
    point = f"the mean of the {apart:,} steps up to it" if apart > 1 else "one step"
    smoothing = f"faint as logged, strong a running mean of {width} points" if width > 1 else "not smoothed"
    lines = [f"Each point is {point}; {smoothing}"]
    measured = [name for name in MEASURED if name in terms]
    if measured:
        lines.append(f"Of one batch, by mss: {', '.join(measured)}")
    laden = [name for name in CONSTANT if name in terms]
    if laden:
        lines.append(f"With a large constant of the estimator, so not to be read as figures: {', '.join(laden)}")
    return lines


def _draw(
    axes: Any,
    panel: Panel,
    steps: np.ndarray,
    terms: Mapping[str, np.ndarray],
    width: int,
    capacity: Callable[[int], float] | None,
) -> None:
    marker = "o" if len(steps) == 1 else None
    for name, (color, dashes) in zip(panel.terms, STYLES * 2):
        if width > 1:
            axes.plot(steps, terms[name], color=color, linewidth=0.6, alpha=0.3)
        curve = smooth(terms[name], width)
        axes.plot(steps, curve, color=color, linestyle=dashes, linewidth=1.4, label=name, marker=marker, markersize=4)
    if capacity is not None:
        target = [capacity(int(step)) for step in steps]
        axes.plot(steps, target, color="#5f5f5f", linestyle=":", linewidth=1.4, label="capacity C", marker=marker)
    if panel.level is not None:
        axes.axhline(panel.level[0], color="#5f5f5f", linestyle=":", linewidth=1.2, label=panel.level[1])
    is_log = panel.may_be_log and _spans(np.concatenate([terms[name] for name in panel.terms]))
    axes.set_yscale("log" if is_log else "linear")
    axes.set_title(panel.title, loc="left", fontsize=LABEL["size"], color=LABEL["color"], parse_math=False)
    axes.set_ylabel(f"{panel.unit}, log scale" if is_log else panel.unit, fontsize=TICK["size"], color=TICK["color"])
    axes.set_xlabel("step", fontsize=TICK["size"], color=TICK["color"])
    axes.tick_params(labelsize=TICK["size"] - 0.5, which="both", colors=TICK["color"])
    axes.xaxis.set_major_locator(_ticker().MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if is_log:
        axes.yaxis.set_major_locator(_ticker().LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.yaxis.set_minor_formatter(_ticker().NullFormatter())
    else:  # whole values, where a large constant would be taken out of the ticks
        axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=TICK["size"] - 0.5, frameon=False, handlelength=2.6)


def _ticker() -> Any:
    from matplotlib import ticker

    return ticker


def _spans(values: np.ndarray) -> bool:
    values = values[np.isfinite(values)]
    return bool(len(values)) and bool(values.min() > 0) and bool(values.max() > _LOG_FROM * values.min())


def draw_losses(subject: Subject, path: Path) -> None:
    """Draw every term that the run has logged."""
    rows: Sequence[Mapping[str, Any]] = subject.metrics
    save_losses(path, rows, capacity=subject.capacity, caption=subject.name)
