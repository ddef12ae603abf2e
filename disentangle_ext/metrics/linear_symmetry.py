"""Whether symmetries of the data act linearly on codes: the definition of Higgins et al. 2018, measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext.metrics._cyclic import CyclicCodes, pose_cyclic
from disentangle_ext.metrics._interval import half
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import bars
from disentangle_ext.metrics._problem import check_count, with_interval
from disentangle_ext.metrics._result import MetricResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LinearSymmetry", "LinearSymmetryResult", "linear_symmetry"]

# Below this, in units of the largest code squared, a mean square is rounding; and so is a direction of codes this much
# narrower than the widest.
_STILL, _THIN = 1e-12, 1e-6


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearSymmetryResult(MetricResult):
    """The result of :func:`linear_symmetry`.

    Attributes:
        score: the mean of ``by_factor``, in [0, 1].
        by_factor: [K], the share of each action that a matrix explains on rows that it was not fitted to.
        matrices: [K, D, D], the fitted action A of one step along each factor.
        factor_names: the names of the factors that vary.
    """

    by_factor: np.ndarray
    matrices: np.ndarray
    factor_names: tuple[str, ...]

    title: ClassVar[str] = "Linear symmetry"

    def plot(self, ax: Axes | None = None) -> Axes:
        """The score of each factor."""
        what = "LinearSymmetryResult.plot"
        return bars(self.by_factor, list(self.factor_names), title=self._headline(), what=what, ax=ax)

    def _details(self) -> str:
        return ", ".join(f"{name} {value:.3f}" for name, value in zip(self.factor_names, self.by_factor))


def linear_symmetry(
    codes: Any,
    factors: Any,
    *,
    sizes: Sequence[int] | None = None,
    test_share: float = 0.2,
    factor_names: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> LinearSymmetryResult:
    """How well one matrix per symmetry predicts what the symmetry does to codes.

    For g one step along the cyclic factor k, and z' = z(g x), a matrix A and an offset b are fitted by least squares on
    one part of the rows, for the origin of codes means nothing. On the other part

        score_k = 1 - E |z' - A z - b|^2 / min(E |z' - m|^2, E |z' - z|^2),    at least 0,    score = mean over k:

    1 if the action is linear, 0 if A does no better than to predict the mean code m, or that nothing happens. An action
    that leaves codes in place scores 0 as well: a code that ignores a factor has no symmetry to show. So does noise.

    The definition of Higgins et al. asks for a linear action on codes, each factor's on a subspace of its own. This is
    its first half, which does not depend on a basis: the exact (cos, sin) code of :class:`data.TorusLike` scores 1, and
    so does every invertible linear mix of it. The second half is :func:`independence` for a code as it is, and
    :func:`lsbd` up to a choice of basis.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean.
        factors: [N, K], the classes of cyclic factors: leave out others. Of rows with equal factors, the first stands
            for all.
        sizes: the number of classes n of each factor, which then holds 0 to n - 1. By default its distinct values, in
            order, are its classes: right for a table of the whole grid.
        test_share: the share of the rows, chosen at random, that scores.
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of random halves of the test rows for the interval of the score, 100 say; 0 for none.
        seed: the seed of the choice of rows, and of the halves.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, wrong sizes, a share outside (0, 1), or
            fewer than 2 rows whose next row along a factor is there.
        TypeError: for codes or factors that are not real numbers.

    Higgins, Amos, Pfau, Racaniere, Matthey, Rezende, Lerchner, "Towards a Definition of Disentangled Representations",
    2018 (arXiv 1812.02230). The score is this library's.
    """
    check_count("linear_symmetry", "seed", seed, 0)
    if not isinstance(test_share, (int, float)) or not 0 < test_share < 1:
        raise MistakeError(f"linear_symmetry: test_share must be greater than 0 and less than 1, got {test_share!r}")
    grid = pose_cyclic("linear_symmetry", codes, factors, sizes, factor_names)
    rng = np.random.default_rng(seed)
    fits = [_fit(grid, k, test_share, rng) for k in range(len(grid.sizes))]
    by_factor = np.array([_score(errors) for _, errors in fits])

    def again(rng: np.random.Generator) -> float:
        return float(np.mean([_score(errors[half(len(errors), rng)]) for _, errors in fits]))

    result = LinearSymmetryResult(
        score=float(by_factor.mean()),
        by_factor=by_factor,
        matrices=np.stack([matrix for matrix, _ in fits]),
        factor_names=grid.factor_names,
        settings={"test_share": test_share, "num_points": grid.num_points, "seed": int(seed)},
    )
    return with_interval("linear_symmetry", result, again, bootstrap=bootstrap, seed=seed)


class LinearSymmetry(Metric[LinearSymmetryResult], function=linear_symmetry):
    """:func:`linear_symmetry` of rows that arrive in batches."""


def _fit(grid: CyclicCodes, factor: int, test_share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The matrix, and of each test row the squared error of the matrix, of the mean, and of standing still: [n, 3]."""
    targets = grid.step(factor)
    origins = rng.permutation(np.flatnonzero(targets >= 0))
    if len(origins) < 2:
        raise MistakeError(
            f"{grid.where}: factors must have at least 2 rows whose next row along {grid.factor_names[factor]} is "
            f"there too, got {len(origins)} in {len(grid.codes)} combinations of {list(grid.sizes)} classes: "
            "give the whole grid"
        )
    learnt = min(max(round(len(origins) * (1 - test_share)), 1), len(origins) - 1)
    before, after = grid.codes[origins], grid.codes[targets[origins]]
    start, end = before[:learnt].mean(0), after[:learnt].mean(0)
    solution = np.linalg.lstsq(before[:learnt] - start, after[:learnt] - end, rcond=_THIN)[0]
    before, after = before[learnt:], after[learnt:]
    fitted = (before - start) @ solution + end
    errors = [np.square(after - each).sum(1) for each in (fitted, end, before)]
    return solution.T, np.stack(errors, 1)


def _score(errors: np.ndarray) -> float:
    fitted, mean, still = errors.mean(0)
    baseline = min(mean, still)
    return max(0.0, 1.0 - float(fitted / baseline)) if baseline > _STILL else 0.0
