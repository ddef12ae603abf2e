"""Pictures of a matrix over codes and factors, the same for all metrics."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from disentangle_ext._extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["bars", "code_names", "heat_map", "hinton", "new_axes"]

COLOR_MAP = "Blues"
COLOR = "#1f5a94"
ACCENT = "#c8501e"

# A cell of a matrix with its number in it, and the room for labels around the matrix, in inches.
_CELL, _ROOM = (0.62, 0.36), (2.0, 1.4)

# The mean width of a letter of a title, in inches.
_LETTER = 0.076


def new_axes(ax: Axes | None, shape: tuple[int, int], what: str) -> Axes:
    """``ax``, or those of a new figure with room for a matrix of ``shape``."""
    if ax is not None:
        return ax
    plt = require("matplotlib.pyplot", extra="report", what=what)
    rows, columns = shape
    size = max(3.6, columns * _CELL[0] + _ROOM[0]), max(2.4, rows * _CELL[1] + _ROOM[1])
    axes: Axes = plt.subplots(figsize=size, layout="constrained")[1]
    return axes


def code_names(count: int) -> list[str]:
    """The labels of code dimensions."""
    return [f"z{d}" for d in range(count)]


def heat_map(
    matrix: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    what: str,
    ax: Axes | None = None,
    marked: Sequence[tuple[int, int]] = (),
    high: float | None = None,
    digits: int = 2,
) -> Axes:
    """A matrix as shades with numbers; NaN stays blank.

    Args:
        matrix: [rows, columns].
        rows, columns: the labels.
        title: above the matrix.
        what: the function that draws, for the error without matplotlib.
        ax: where to draw; a new figure by default.
        marked: cells (row, column) to frame: those that make the score.
        high: the value of the darkest shade; the largest of the matrix by default.
        digits: after the point.
    """
    ax = new_axes(ax, matrix.shape, what)
    finite = matrix[np.isfinite(matrix)]
    top = high if high is not None else float(finite.max(initial=0.0))
    ax.imshow(np.ma.masked_invalid(matrix), cmap=COLOR_MAP, vmin=min(0.0, finite.min(initial=0.0)), vmax=top or 1.0)
    ax.set_aspect("auto")
    for (i, j), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            dark = value > 0.6 * (top or 1.0)
            text = f"{value:.{digits}f}"
            ax.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    _label(ax, rows, columns, title)
    # Not clipped, or frames at the edge lose half of their line.
    frame: dict[str, Any] = {"fill": False, "edgecolor": ACCENT, "linewidth": 2, "clip_on": False, "zorder": 3}
    for row, column in marked:
        require("matplotlib.patches", extra="report", what=what)
        from matplotlib.patches import Rectangle

        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **frame))
    return ax


def hinton(
    matrix: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    what: str,
    ax: Axes | None = None,
) -> Axes:
    """A matrix as squares whose areas are its values, none of them negative; a full cell is its largest value."""
    rows_high = math.ceil(len(matrix) * _CELL[0] / _CELL[1])  # square cells, as wide as labels need
    ax = new_axes(ax, (rows_high, matrix.shape[1]), what)
    require("matplotlib.patches", extra="report", what=what)
    from matplotlib.patches import Rectangle

    largest = float(np.nanmax(matrix, initial=0.0)) or 1.0
    for (i, j), value in np.ndenumerate(np.nan_to_num(matrix)):
        side = 0.94 * float(np.sqrt(max(value, 0.0) / largest))
        ax.add_patch(Rectangle((j - side / 2, i - side / 2), side, side, facecolor=COLOR, edgecolor="none"))
    ax.set_xlim(-0.5, matrix.shape[1] - 0.5)
    ax.set_ylim(matrix.shape[0] - 0.5, -0.5)
    ax.set_aspect("equal")
    _label(ax, rows, columns, title)
    return ax


def bars(values: np.ndarray, names: Sequence[str], *, title: str, what: str, ax: Axes | None = None) -> Axes:
    """One horizontal bar for each value, with its number; none for NaN."""
    ax = new_axes(ax, (len(values), 4), what)
    drawn = ax.barh(range(len(values)), np.nan_to_num(values), color=COLOR)
    labels = [f"{value:.3f}" if value == value else "not defined" for value in values]
    ax.bar_label(drawn, labels, padding=3, fontsize=8)
    ax.margins(x=0.18)
    ax.set_yticks(range(len(values)), list(names), parse_math=False)
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
    _set_title(ax, title)
    return ax


def _set_title(ax: Axes, title: str) -> None:
    """Above the axes, in as many lines as it takes: what is wider than they are would be cut off."""
    width = ax.get_window_extent().width / ax.get_figure(root=True).dpi  # type: ignore[union-attr]
    ax.set_title(textwrap.fill(title, max(16, int(width / _LETTER))), fontsize=10, loc="left", parse_math=False)


def _label(ax: Axes, rows: Sequence[str], columns: Sequence[str], title: str) -> None:
    widest = max((len(line) for column in columns for line in column.splitlines()), default=0)
    slanted: dict[str, Any] = {"rotation": 30, "ha": "right"} if widest > 9 else {}
    ax.set_xticks(range(len(columns)), list(columns), parse_math=False, **slanted)
    ax.set_yticks(range(len(rows)), list(rows), parse_math=False)
    ax.tick_params(length=0, labelsize=8)
    _set_title(ax, title)
