"""The interventional robustness score of Suter et al. 2019."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext.metrics._discrete import histogram_bins, to_classes
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import code_names, heat_map
from disentangle_ext.metrics._problem import Problem, check_count, pose
from disentangle_ext.metrics._result import FactorResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["IRS", "IRSResult", "irs"]


@dataclass(frozen=True, eq=False, kw_only=True)
class IRSResult(FactorResult):
    """The result of :func:`irs`.

    Attributes:
        score: the mean of ``by_code`` weighted by ``max_deviation``, at most 1; 0 if all code dimensions are dead.
        by_code: [D], the largest robustness of each code dimension; NaN for a dead one.
        robustness: [D, K], of code dimension d when factor k is held; NaN for dead codes and skipped factors.
        parent: [D], the factor of the largest robustness; -1 for a dead code.
        max_deviation: [D], the largest deviation of each code dimension from its mean.
    """

    by_code: np.ndarray
    robustness: np.ndarray
    parent: np.ndarray
    max_deviation: np.ndarray

    title: ClassVar[str] = "IRS"
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    no_interval: ClassVar[str | None] = (
        "the score is made of maxima, and those of half of the points say nothing of others"
    )

    def plot(self, ax: Axes | None = None) -> Axes:
        """The robustness of each code dimension to changes of all factors but one; the best factor is framed."""
        return heat_map(
            self.robustness,
            code_names(len(self.parent)),
            self.factor_names,
            title=f"{self._headline()}: robustness when the factor is held",
            what="IRSResult.plot",
            ax=ax,
            marked=[(d, int(k)) for d, k in enumerate(self.parent) if k >= 0],
            high=1.0,
        )


def irs(
    codes: Any,
    factors: Any,
    *,
    quantile: float = 0.99,
    factor_bins: int | None = None,
    factor_names: Sequence[str] | None = None,
) -> IRSResult:
    """The interventional robustness score: how little a code dimension moves while its factor stands still.

    With m_d(v) the mean of code dimension d over the rows in which factor k has the value v,

        deviation_dk = mean over v of the ``quantile`` of abs(z_d - m_d(v)) among those rows,
        robustness_dk = 1 - deviation_dk / max abs(z_d - mean z_d),

    the score of a dimension is its largest robustness over k, and IRS their mean, weighted by the denominators.

    The mean over the values of a factor gives each the same weight, however often it occurs. A dimension of pure noise
    scores above 0, and more so the lower the quantile: .31 at .99 and .20 at 1, for 5,000 points. One
    of a few values that a factor does not decide can fall a little below 0, because a class has a mean of its own.

    Values are those of disentanglement_lib where factors are not binned again. That code's metric bins them into 20
    bins by default, so that a factor of more values is not held still: .985 for a perfect code of dSprites. Here
    factors are classes already, and ``factor_bins=20`` is that variant. A constant factor is skipped: holding it is no
    intervention, though that code lets noise be robust to it. Dead code dimensions are left out. There is no interval:
    the largest of few points says nothing of how far the largest of others may lie.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean: tensor or array, any real type.
        factors: [N, K], the classes of the factors, whole numbers: each distinct one in a column is a class.
        quantile: the quantile of the deviations within a class, in (0, 1]: .99 as in the large study, or 1, the
            maximum, as in the paper.
        factor_bins: bins of equal width for each factor; by default each value is one.
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, or a number out of range.
        TypeError: for codes or factors that are not real numbers.

    Suter, Miladinovic, Schölkopf, Bauer, "Robustly Disentangled Causal Mechanisms", ICML 2019 (arXiv 1811.00007).
    """
    if not isinstance(quantile, (int, float)) or not 0 < quantile <= 1:
        raise MistakeError(f"irs: quantile must be greater than 0 and at most 1, got {quantile!r}")
    bins = None if factor_bins is None else check_count("irs", "factor_bins", factor_bins, 2)
    return _irs(pose("irs", codes, factors, factor_names), float(quantile), bins)


class IRS(Metric[IRSResult], function=irs):
    """:func:`irs` of rows that arrive in batches."""


def _irs(problem: Problem, quantile: float, factor_bins: int | None) -> IRSResult:
    alive = problem.codes.min(0) < problem.codes.max(0)
    # In units of the largest value: differences of the widest range are then finite.
    unit = np.maximum(np.abs(problem.codes).max(0).astype(np.float64), np.finfo(np.float64).tiny)
    codes = (problem.codes / unit)[:, alive]
    largest = np.abs(codes - codes.mean(0)).max(0)
    classes, sizes = problem.classes, problem.sizes
    if factor_bins is not None:
        classes, sizes = to_classes(histogram_bins(problem.factors.astype(np.float64), factor_bins))
    robustness = np.full((len(alive), len(sizes)), np.nan)
    for k in np.flatnonzero(problem.varies):
        robustness[alive, k] = 1 - _deviations(codes, classes[:, k], sizes[k], quantile) / largest
    columns = np.flatnonzero(problem.varies)
    by_code, parent = np.full(len(alive), np.nan), np.full(len(alive), -1)
    by_code[alive] = robustness[alive][:, columns].max(1)
    parent[alive] = columns[robustness[alive][:, columns].argmax(1)]
    max_deviation = np.zeros(len(alive))
    with np.errstate(over="ignore"):
        max_deviation[alive] = np.minimum(largest * unit[alive], np.finfo(np.float64).max)
    weight = largest * (unit[alive] / unit.max())
    weighted = weight.sum() > 0
    return IRSResult(
        score=float(np.average(by_code[alive], weights=weight)) if weighted else 0.0,
        by_code=by_code,
        robustness=robustness,
        parent=parent,
        max_deviation=max_deviation,
        skipped=problem.skipped,
        factor_names=problem.factor_names,
        settings={
            "quantile": quantile,
            "factor_bins": factor_bins,
            "num_points": len(problem.codes),
            "seed": None,
        },
    )


def _deviations(codes: np.ndarray, labels: np.ndarray, size: int, quantile: float) -> np.ndarray:
    """[D], the mean over the classes of a factor of the quantile of deviations within each."""
    order = np.argsort(labels, kind="stable")
    groups = np.split(codes[order], np.cumsum(np.bincount(labels, minlength=size))[:-1])
    total = np.zeros(codes.shape[1])
    for group in groups:
        total += np.quantile(np.abs(group - group.mean(0)), quantile, axis=0)
    return total / size
