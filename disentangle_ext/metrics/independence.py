"""The independence score of Painter et al. 2020."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext.metrics._cyclic import CyclicCodes, pose_cyclic
from disentangle_ext.metrics._interval import half
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import heat_map
from disentangle_ext.metrics._problem import check_count, with_interval
from disentangle_ext.metrics._result import MetricResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Independence", "IndependenceResult", "independence"]

# A step shorter than this, in shares of the largest code, is the rounding of one that leads nowhere.
_STILL = 1e-6


@dataclass(frozen=True, eq=False, kw_only=True)
class IndependenceResult(MetricResult):
    """The result of :func:`independence`.

    Attributes:
        score: the mean over rows and factors, in [0, 1].
        by_factor: [K], the mean over rows of each factor that varies.
        cosine: [K, K], the mean absolute cosine between the displacements of two factors; NaN where none was defined.
        factor_names: the names of these factors.
    """

    by_factor: np.ndarray
    cosine: np.ndarray
    factor_names: tuple[str, ...]

    title: ClassVar[str] = "Independence"

    def plot(self, ax: Axes | None = None) -> Axes:
        """The mean absolute cosine between the displacements of two factors."""
        names = list(self.factor_names)
        title = f"{self._headline()}: |cosine| of steps"
        return heat_map(self.cosine, names, names, title=title, what="IndependenceResult.plot", ax=ax, high=1.0)

    def _details(self) -> str:
        return ", ".join(f"{name} {value:.3f}" for name, value in zip(self.factor_names, self.by_factor))


def independence(
    codes: Any,
    factors: Any,
    *,
    sizes: Sequence[int] | None = None,
    factor_names: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> IndependenceResult:
    """Whether the actions of different symmetries move codes in orthogonal directions.

    With d_a = z(g_a x) - z(x), where g_a is one step along the cyclic factor a,

        score = 1 - mean over x and a of max over b != a of |<d_a, d_b>| / (|d_a| |d_b|).

    The exact (cos, sin) code of :class:`data.TorusLike` scores 1: each action stays in a plane of its own. A code in
    which all steps are parallel scores 0, and so does one that never moves: a step that leads nowhere (below 1e-6 of
    the largest code) has no direction, and counts as if it were parallel to another. Codes drawn at random for each
    row score about 1/2 with two factors in many dimensions, since d_a and d_b share -z(x).

    The score asks nothing else of the actions: they need be neither linear nor the same everywhere. See
    :func:`linear_symmetry` and :func:`lsbd`.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean.
        factors: [N, K], the classes of cyclic factors, of which two or more vary: leave out others. Of rows with equal
            factors, the first stands for all.
        sizes: the number of classes n of each factor, which then holds 0 to n - 1. By default its distinct values, in
            order, are its classes: right for a table of the whole grid.
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of random halves of the rows for the interval of the score, 100 say; 0 for none.
        seed: the seed of the halves.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, fewer than two factors that vary, wrong sizes, or a table with
            no row whose next rows along all factors are there.
        TypeError: for codes or factors that are not real numbers.

    Painter, Hare, Prugel-Bennett, "Linear Disentangled Representations and Unsupervised Action Estimation", NeurIPS
    2020 (arXiv 2008.07922).
    """
    check_count("independence", "seed", seed, 0)
    grid = pose_cyclic("independence", codes, factors, sizes, factor_names)
    if len(grid.sizes) < 2:
        raise MistakeError("independence: factors must hold two columns or more that vary, got 1")
    cosine = _cosines(grid)
    shares = 1 - _largest_other(cosine)
    return with_interval(
        "independence",
        IndependenceResult(
            score=float(shares.mean()),
            by_factor=shares.mean(0),
            cosine=_mean_defined(cosine),
            factor_names=grid.factor_names,
            settings={"num_points": grid.num_points, "num_steps": len(shares), "seed": None},
        ),
        lambda rng: float(shares[half(len(shares), rng)].mean()),
        bootstrap=bootstrap,
        seed=seed,
    )


class Independence(Metric[IndependenceResult], function=independence):
    """:func:`independence` of rows that arrive in batches."""


def _cosines(grid: CyclicCodes) -> np.ndarray:
    """The absolute cosines [m, K, K] at the rows that have a next row along each factor; NaN where a step is 0."""
    targets = np.stack([grid.step(a) for a in range(len(grid.sizes))], 1)
    origins = np.flatnonzero((targets >= 0).all(1))
    if len(origins) == 0:
        raise MistakeError(
            f"{grid.where}: factors must have a row whose next rows along all factors are there too, "
            f"got none in {len(grid.codes)} combinations of {list(grid.sizes)} classes: give the whole grid"
        )
    steps = grid.codes[targets[origins]] - grid.codes[origins, None]
    lengths = np.sqrt(np.square(steps).sum(-1, keepdims=True))
    moves = lengths > _STILL
    directions = np.divide(steps, lengths, out=np.full(steps.shape, np.nan), where=moves)
    return np.minimum(np.abs(directions @ directions.transpose(0, 2, 1)), 1.0)


def _largest_other(cosine: np.ndarray) -> np.ndarray:
    """The largest cosine of each factor with another that moves, [m, K]: 1 where it does not move itself."""
    still = np.isnan(np.diagonal(cosine, axis1=1, axis2=2))
    others = np.where(np.eye(cosine.shape[1], dtype=bool), 0.0, np.nan_to_num(cosine))
    return np.where(still, 1.0, others.max(2))


def _mean_defined(cosine: np.ndarray) -> np.ndarray:
    defined = ~np.isnan(cosine)
    count = defined.sum(0)
    total = np.where(defined, cosine, 0.0).sum(0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
