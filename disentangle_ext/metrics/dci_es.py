"""Explicitness and size, which DCI-ES of Eastwood et al. 2023 adds to DCI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext._names import choose
from disentangle_ext.metrics._code_table import Spread
from disentangle_ext.metrics._interval import half
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import heat_map
from disentangle_ext.metrics._problem import Problem, check_count, pose, with_interval
from disentangle_ext.metrics._result import FactorResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DCIES", "DCIESResult", "dci_es"]

LOWEST = ("zero", "attained")

# Of the squared weights, in units of the mean square of the features: enough that repeated ones can be solved for.
_PENALTY = 1e-8


@dataclass(frozen=True, eq=False, kw_only=True)
class DCIESResult(FactorResult):
    """The result of :func:`dci_es`.

    Attributes:
        score: the mean of ``explicitness`` over the factors that vary, in [-1, 1].
        explicitness: [K], E of each factor; NaN for a skipped factor.
        informativeness: [K], 1 less the lowest loss of each factor, in [0, 1]; NaN for a skipped factor.
        size: S = factors that vary over code dimensions: 1 for a code as small as can be, less for a larger one.
        curve: [T, K], the lowest loss with each capacity or less, in shares of the loss of the mean; NaN for a skipped
            factor.
        capacity: [T], the logarithm of the probe's number of weights, to the base of 2.
    """

    explicitness: np.ndarray
    informativeness: np.ndarray
    size: float
    curve: np.ndarray
    capacity: np.ndarray

    title: ClassVar[str] = "DCI-ES explicitness"
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    by_factor: ClassVar[tuple[str, ...]] = ("explicitness", "informativeness")

    def plot(self, ax: Axes | None = None) -> Axes:
        """The loss by the number of features of the probe."""
        return heat_map(
            self.curve,
            [f"{count:,} features" if count else "linear" for count in self.settings["features"]],
            list(self.factor_names),
            title=f"{self._headline()}: loss by capacity",
            what="DCIESResult.plot",
            ax=ax,
            high=1.0,
        )


def dci_es(
    codes: Any,
    factors: Any,
    *,
    features: Sequence[int] = (0, 16, 64, 256, 1024),
    targets: str = "values",
    lowest: str = "zero",
    test_share: float = 1 / 3,
    shuffle: bool = True,
    factor_names: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> DCIESResult:
    """How much capacity it takes to use a code: the E and S of DCI-ES. For D, C and I see :func:`dci`.

    Probes of growing capacity predict each factor from standardized codes: least squares on the codes themselves, and
    on the codes with ever more random Fourier features cos(<w, z> + b), w ~ N(0, 1 / D), of which the smaller sets are
    the first of the larger. With the capacity k = log2(weights), and L(k) the lowest squared error on test rows of a
    probe of at most this capacity, in shares of the error of the training rows' mean and at most 1,

        E = 1 - 2 / (k_T - k_1) * (area under L from k_1 to k_T),    S = K / D.

    E = 1 if a linear probe makes no error, 0 if the error falls as a line from that of the mean to none, and -1 if no
    probe does better than the mean. ``lowest="attained"`` is what the authors' program computes: the area above the
    lowest error, so that a factor that no probe can learn has E = 1 too, and E says something only beside the
    informativeness. Their probes were forests, networks and Fourier features; these are the last.

    ``targets="values"`` predicts the numbers in the columns of factors, so their order and distances matter;
    ``"classes"`` predicts an indicator for each class.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean.
        factors: [N, K], numbers.
        features: how many Fourier features each probe has beside the codes: two or more numbers, increasing.
        targets: "values" or "classes".
        lowest: "zero" or "attained".
        test_share: the share of the rows that is the test.
        shuffle: whether to bring the rows into a random order before they are split.
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of random halves of the test rows for the interval of the score, 100 say; 0 for none.
        seed: the seed of the order, of the features, and of the halves.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, or features that are not two or more
            increasing numbers.
        TypeError: for codes or factors that are not real numbers.

    Eastwood, Nicolicioiu, von Kuegelgen, Kekic, Traeuble, Dittadi, Schoelkopf, "DCI-ES: An Extended Disentanglement
    Framework with Connections to Identifiability", ICLR 2023 (arXiv 2210.00364).
    """
    choose("dci_es: targets", targets, ("values", "classes"))
    choose("dci_es: lowest", lowest, LOWEST)
    counts = [check_count("dci_es", "features", count, 0) for count in features]
    if len(counts) < 2 or sorted(set(counts)) != counts:
        raise MistakeError(f"dci_es: features must be two or more increasing numbers, got {list(features)}")
    if test_share == 0:
        raise MistakeError("dci_es: test_share must be greater than 0 and less than 1, got 0")
    options: dict[str, Any] = {"test_share": test_share, "shuffle": shuffle, "seed": seed}
    problem = pose("dci_es", codes, factors, factor_names, values=targets == "values", **options)
    capacity = np.log2([problem.codes.shape[1] + 1 + count for count in counts])
    errors = _errors(problem, counts, targets == "classes", int(seed))
    curve, explicitness = _curve(errors, capacity, problem.varies, lowest)
    result = DCIESResult(
        score=float(np.mean(explicitness[problem.varies])),
        explicitness=explicitness,
        informativeness=1 - curve[-1],
        size=float(problem.varies.sum() / problem.codes.shape[1]),
        curve=curve,
        capacity=capacity,
        skipped=problem.skipped,
        factor_names=problem.factor_names,
        settings={
            "features": counts,
            "targets": targets,
            "lowest": lowest,
            **options,
            "num_points": len(problem.codes),
        },
    )

    def again(rng: np.random.Generator) -> float:
        rows = half(errors.shape[1], rng)
        return float(np.mean(_curve(errors[:, rows], capacity, problem.varies, lowest)[1][problem.varies]))

    return with_interval("dci_es", result, again, bootstrap=bootstrap, seed=seed)


class DCIES(Metric[DCIESResult], function=dci_es):
    """:func:`dci_es` of rows that arrive in batches."""


def _errors(problem: Problem, counts: list[int], classes: bool, seed: int) -> np.ndarray:
    """The squared error of the mean and of each probe on each test row: [1 + T, rows, K]."""
    learnt = problem.train_rows
    about = Spread(problem.codes)
    codes = about.centred / np.where(about.std > 0, about.std, 1.0)
    dims = codes.shape[1]
    rng = np.random.default_rng(seed)
    waves = codes @ rng.normal(0, dims**-0.5, (dims, counts[-1])) + rng.uniform(0, 2 * np.pi, counts[-1])
    inputs = np.hstack([codes, np.sqrt(2) * np.cos(waves)])
    inputs -= inputs[:learnt].mean(0)
    groups = [_target(problem, k, classes) for k in range(len(problem.sizes))]
    owner = np.repeat(np.arange(len(groups)), [group.shape[1] for group in groups])
    target = np.hstack(groups)
    target -= target[:learnt].mean(0)
    square = inputs[:learnt].T @ inputs[:learnt] / learnt
    product = inputs[:learnt].T @ target[:learnt] / learnt
    errors = np.zeros((1 + len(counts), len(codes) - learnt, len(groups)))
    for t, count in enumerate([None, *counts]):
        left = target[learnt:]
        if count is not None:
            size = dims + count
            weights = np.linalg.solve(square[:size, :size] + _PENALTY * np.eye(size), product[:size])
            left = left - inputs[learnt:, :size] @ weights
        for k in range(len(groups)):
            errors[t, :, k] = np.square(left[:, owner == k]).sum(1)
    return errors


def _target(problem: Problem, factor: int, classes: bool) -> np.ndarray:
    """A factor as columns of numbers of order 1."""
    if classes:
        return np.eye(problem.sizes[factor])[problem.classes[:, factor]]
    about = Spread(problem.factors[:, [factor]])
    return about.centred / np.where(about.std > 0, about.std, 1.0)


def _curve(errors: np.ndarray, capacity: np.ndarray, varies: np.ndarray, lowest: str) -> tuple[np.ndarray, np.ndarray]:
    """The lowest losses [T, K], and the explicitness [K]."""
    means = errors.mean(1)
    # Where all test rows are at the mean there is nothing to predict.
    share = np.divide(means[1:], means[0], out=np.ones_like(means[1:]), where=means[0] > 0)
    curve = np.minimum.accumulate(np.minimum(share, 1.0), axis=0)
    above = curve - (curve[-1] if lowest == "attained" else 0.0)
    steps = np.diff(capacity) / (capacity[-1] - capacity[0])
    explicitness = np.clip(1 - 2 * (steps @ (above[1:] + above[:-1]) / 2), -1.0, 1.0)
    return np.where(varies, curve, np.nan), np.where(varies, explicitness, np.nan)
