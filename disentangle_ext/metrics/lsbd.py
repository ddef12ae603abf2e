"""The metric for linear symmetry-based disentanglement of Tonnaer et al. 2022."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext.metrics._cyclic import CyclicCodes, pose_cyclic
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import bars
from disentangle_ext.metrics._problem import check_count
from disentangle_ext.metrics._result import MetricResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LSBD", "LSBDResult", "lsbd"]

# A direction this much narrower than the widest one, or than the codes, holds rounding.
_THIN = 1e-6


@dataclass(frozen=True, eq=False, kw_only=True)
class LSBDResult(MetricResult):
    """The result of :func:`lsbd`.

    Attributes:
        score: 1 - ``dispersion``, in [0, 1]; more is better.
        dispersion: D_LSBD, the mean of ``by_factor``.
        by_factor: [K], the dispersion of each factor that varies, in [0, 1].
        frequency: [K], the omega of each: how often its plane turns while the factor goes around once, its sign
            depending on the orientation of the plane. 0 if the factor moves nothing.
        factor_names: the names of these factors.
    """

    dispersion: float
    by_factor: np.ndarray
    frequency: np.ndarray
    factor_names: tuple[str, ...]

    title: ClassVar[str] = "LSBD"
    no_interval: ClassVar[str | None] = "the points are a whole grid, all that there are"

    def plot(self, ax: Axes | None = None) -> Axes:
        """One less the dispersion of each factor, with its frequency."""
        names = [f"{name} (frequency {abs(each)})" for name, each in zip(self.factor_names, self.frequency)]
        return bars(1 - self.by_factor, names, title=self._headline(), what="LSBDResult.plot", ax=ax)

    def _details(self) -> str:
        return ", ".join(f"{name} {1 - value:.3f}" for name, value in zip(self.factor_names, self.by_factor))


def lsbd(
    codes: Any,
    factors: Any,
    *,
    max_frequency: int = 10,
    sizes: Sequence[int] | None = None,
    factor_names: Sequence[str] | None = None,
) -> LSBDResult:
    """How far codes are from rotations in one plane for each cyclic factor: 1 - D_LSBD.

    For factor k with n classes and the angle t = 2 pi class / n, codes less their mean over this factor (all others
    fixed) are projected on their two principal components and whitened there to a mean square of 1, which makes c a
    complex number and the action orthogonal. Turning each code back by the action that led to it leaves

        D_k = min over omega of E |exp(-i omega t) c - E exp(-i omega t) c|^2
            = 1 - max over omega of |E exp(-i omega t) c|^2,
        D_LSBD = mean of D_k over k,    score = 1 - D_LSBD,

    with omega from -``max_frequency`` to ``max_frequency``. The exact (cos, sin) code of :class:`data.TorusLike` scores
    1, and so does every invertible linear mix of it. Noise scores 0 for a large grid, a code that turns with
    sums of factors 0, and a factor that moves nothing counts 0. A factor whose codes lie on a line has one component,
    whitened to 1: all that a factor of two classes needs.

    The paper's procedure, which this is, does not ask whether the planes of two factors are different: the sum of
    both rotations in one plane scores 1. :func:`independence` tells it apart. Nothing is drawn, and the grid is all
    there is, so there is no seed and no interval.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean.
        factors: [N, K], the classes of cyclic factors: leave out others. They must form a whole grid, in any order; of
            rows with equal factors, the first stands for all.
        max_frequency: the largest omega tried, at least 1.
        sizes: the number of classes n of each factor, which then holds 0 to n - 1. By default its distinct values, in
            order, are its classes.
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, wrong sizes, a combination of factors
            that is missing, or max_frequency below 1.
        TypeError: for codes or factors that are not real numbers.

    Tonnaer, Perez Rey, Menkovski, Holenderski, Portegies, "Quantifying and Learning Linear Symmetry-Based
    Disentanglement", ICML 2022 (arXiv 2011.06070).
    """
    check_count("lsbd", "max_frequency", max_frequency, 1)
    grid = pose_cyclic("lsbd", codes, factors, sizes, factor_names)
    if not grid.whole:
        raise MistakeError(
            f"lsbd: factors must form a whole grid, got {len(grid.codes)} of the combinations of "
            f"{' x '.join(map(str, grid.sizes))} classes"
        )
    found = [_dispersion(grid, k, int(max_frequency)) for k in range(len(grid.sizes))]
    by_factor = np.array([dispersion for dispersion, _ in found])
    return LSBDResult(
        score=1.0 - float(by_factor.mean()),
        dispersion=float(by_factor.mean()),
        by_factor=by_factor,
        frequency=np.array([frequency for _, frequency in found]),
        factor_names=grid.factor_names,
        settings={"max_frequency": int(max_frequency), "num_points": grid.num_points, "seed": None},
    )


class LSBD(Metric[LSBDResult], function=lsbd):
    """:func:`lsbd` of rows that arrive in batches."""


def _dispersion(grid: CyclicCodes, factor: int, max_frequency: int) -> tuple[float, int]:
    """The dispersion of one factor under the best frequency, and that frequency."""
    # Rows are sorted by class, so the grid is a reshape.
    table = grid.codes.reshape(*grid.sizes, -1)
    moved = table - table.mean(factor, keepdims=True)
    flat = moved.reshape(-1, table.shape[-1])
    _, widths, axes = np.linalg.svd(np.linalg.qr(flat, mode="r"))
    if widths[0] <= _THIN * math.sqrt(len(flat)):
        return 1.0, 0
    rank = 1 + int(len(widths) > 1 and widths[1] > _THIN * widths[0])
    # The mean over rows of the square of each component is 1 / rank.
    white = moved @ (axes[:rank].T * (math.sqrt(len(flat) / rank) / widths[:rank]))
    size = grid.sizes[factor]
    orbit = np.moveaxis(white, factor, 0).reshape(size, -1, rank).mean(1)
    plane = orbit[:, 0] + 1j * orbit[:, 1] if rank > 1 else orbit[:, 0]
    power = np.square(np.abs(np.fft.fft(plane) / size))
    # The n characters of the group are those of -n/2 to n/2, the slowest first.
    frequencies = np.fft.fftfreq(size, 1 / size).round().astype(int)
    power[np.abs(frequencies) > max_frequency] = 0
    best = int(power.argmax())
    return min(1.0, max(0.0, 1.0 - float(power[best]))), int(frequencies[best])
