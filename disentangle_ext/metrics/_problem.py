"""Codes beside ground-truth factors: the checks, the split and the bootstrap that the metrics have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext.metrics._discrete import check_table, to_classes
from disentangle_ext.metrics._interval import half, student_quantile
from disentangle_ext.metrics._result import Interval, MetricResult

__all__ = ["CONFIDENCE", "Problem", "check_count", "check_names", "evaluate", "pose", "with_interval"]

CONFIDENCE = 0.95
"""The probability that an interval is made for."""

R = TypeVar("R", bound=MetricResult)


@dataclass(frozen=True, eq=False)
class Problem:
    """Checked codes and factors, row by row.

    Attributes:
        where: the name of the metric; begins the errors.
        codes: [N, D], finite, float32 or float64.
        factors: [N, K], finite numbers, of which at least one column varies.
        factor_names: the K names.
        train_rows: how many rows, from the first, predictors learn from; the others are the test. N without a split.
    """

    where: str
    codes: np.ndarray
    factors: np.ndarray
    factor_names: tuple[str, ...]
    train_rows: int

    def __post_init__(self) -> None:
        if not (self.factors != self.factors[:1]).any():
            raise MistakeError(
                f"{self.where}: factors must hold a column with two values or more, got {len(self.factors)} equal rows"
            )

    @cached_property
    def _labels(self) -> tuple[np.ndarray, list[int]]:
        return to_classes(self.factors)

    @property
    def classes(self) -> np.ndarray:
        """[N, K], the distinct values of each factor as 0, 1, ..."""
        return self._labels[0]

    @property
    def sizes(self) -> list[int]:
        """How many classes each factor has."""
        return self._labels[1]

    @property
    def varies(self) -> np.ndarray:
        """[K], whether a factor has more than one class."""
        return np.array(self.sizes) > 1

    @property
    def skipped(self) -> tuple[int, ...]:
        """The constant factors."""
        return tuple(int(k) for k in np.flatnonzero(~self.varies))

    def half(self, rng: np.random.Generator) -> Problem:
        """Half of the rows, drawn without replacement: half of the training rows and half of the test rows."""
        rows, learnt = len(self.codes), self.train_rows
        index = half(learnt, rng)
        train_rows = len(index)
        if learnt < rows:
            index = np.concatenate([index, learnt + half(rows - learnt, rng)])
        return dataclasses.replace(self, codes=self.codes[index], factors=self.factors[index], train_rows=train_rows)


def pose(
    where: str,
    codes: Any,
    factors: Any,
    factor_names: Sequence[str] | None,
    *,
    test_share: float = 0.0,
    shuffle: bool = False,
    classify: bool = False,
    values: bool = False,
    seed: int = 0,
) -> Problem:
    """Checks codes and factors, and splits their rows.

    Args:
        where: the name of the metric; begins the errors.
        codes, factors, factor_names: as the metrics take them.
        test_share: the share of the rows, the last of them, that is the test; 0 for no split.
        shuffle: whether to bring the rows into a random order before that.
        classify: whether the factors are classes to be predicted, so that those of the test must be among those of
            the training rows.
        values: whether factors are numbers of which the metric takes more than which of them are equal.
        seed: the seed of that order; the generator of the metric's own draws should be seeded with it too.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, classes that are no whole numbers, no factor that varies, wrong
            names, a share outside (0, 1), or no row left on one side of the split.
        TypeError: for codes or factors that are not real numbers.
    """
    codes, factors = check_table(codes, factors, where, values=values)
    rows = train_rows = len(codes)
    names = check_names(where, factor_names, factors.shape[1])
    check_count(where, "seed", seed, 0)
    if test_share:
        train_rows = rows - _test_rows(where, test_share, rows)
        if shuffle:
            order = np.random.default_rng(seed).permutation(rows)
            codes, factors = codes[order], factors[order]
    problem = Problem(where, codes, factors, names, train_rows)
    if classify and train_rows < rows:
        _refuse_sorted_rows(problem)
    return problem


def check_names(where: str, names: Sequence[str] | None, count: int, argument: str = "factor_names") -> tuple[str, ...]:
    """The names of ``count`` factors, ``factor_0``, ... by default. ``where`` and ``argument`` begin the errors."""
    names = tuple(f"factor_{k}" for k in range(count)) if names is None else tuple(names)
    if len(names) != count or len(set(names)) != count:
        raise MistakeError(f"{where}: {argument} must be {count} distinct names, one per factor, got {list(names)}")
    return names


def check_count(where: str, name: str, value: Any, least: int) -> int:
    """An integer argument that must be at least ``least``."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < least:
        raise MistakeError(f"{where}: {name} must be an integer of at least {least}, got {value!r}")
    return int(value)


def evaluate(problem: Problem, compute: Callable[[Problem], R], *, bootstrap: int, seed: int) -> R:
    """The result of ``compute``, with an interval from ``bootstrap`` halves of the rows."""
    return with_interval(
        problem.where,
        compute(problem),
        lambda rng: compute(problem.half(rng)).score,
        bootstrap=bootstrap,
        seed=seed,
    )


def with_interval(
    where: str, result: R, again: Callable[[np.random.Generator], float], *, bootstrap: int, seed: int
) -> R:
    """``result`` with an interval of its score; ``bootstrap=0`` leaves it as it is.

    The scores of random halves of the points, drawn without replacement, scatter about the score of all points with the
    variance that this has over draws from the population, for any smooth statistic. Their bias is about twice as large,
    because a bias falls as 1 / N. So with the mean m and the standard deviation s of the scores of halves,

        bias = m - score,    low = score - t s - max(bias, 0),    high = score + t s - min(bias, 0),

    where t is the quantile of Student's distribution. The interval reaches from the score, which can be compared with
    others of as many points, to that of the population. A bootstrap repeats rows, which
    cross-validation then finds on both sides, and takes twice as long.

    Args:
        where: begins the errors.
        result: the result of all points.
        again: the score of half of the points, which it draws from the generator.
        bootstrap: number of halves.
        seed: the seed of the halves.

    Raises:
        ValueError: for a wrong ``bootstrap``, or where a half has no finite score.

    Shao and Wu, "A General Theory for Jackknife Variance Estimation", Annals of Statistics 1989.
    """
    if bootstrap == 0 and not isinstance(bootstrap, (bool, np.bool_)):
        return result
    count = check_count(where, "bootstrap", bootstrap, 2)
    rng = np.random.default_rng(seed)
    moves = np.empty(count)
    for i in range(count):
        try:
            moves[i] = again(rng) - result.score
        except MistakeError as error:
            raise MistakeError(f"{where}: bootstrap has drawn rows for which there is no score: {error}") from error
    if not np.isfinite(moves).all():
        raise MistakeError(f"{where}: bootstrap has drawn rows for which there is no score: it is not finite")
    bias, reach = float(moves.mean()), student_quantile(CONFIDENCE, count - 1) * float(moves.std(ddof=1))
    ends = result.score - reach - max(bias, 0.0), result.score + reach - min(bias, 0.0)
    low, high = np.clip(ends, *result.bounds).tolist()
    return dataclasses.replace(result, interval=Interval(low, high, bias, CONFIDENCE, count, int(seed)))


def _test_rows(where: str, share: Any, rows: int) -> int:
    if not isinstance(share, (int, float)) or not 0 < share < 1:
        raise MistakeError(f"{where}: test_share must be greater than 0 and less than 1, got {share!r}")
    # The complement is what rounds down, as in disentanglement_lib.
    test = rows - int(rows * (1 - share))
    if not 0 < test < rows:
        raise MistakeError(f"{where}: codes must have rows for training and for test, got {rows} with {share} for test")
    return test


def _refuse_sorted_rows(problem: Problem) -> None:
    """A table in the order of its grid has classes in its last rows that its first rows never show."""
    for k in np.flatnonzero(problem.varies):
        column, learnt = problem.classes[:, k], problem.train_rows
        if not np.isin(column[learnt:], column[:learnt]).any():
            raise MistakeError(
                f"{problem.where}: factors must be in random order, got test rows (the last {len(column) - learnt}) "
                f"with no class of {problem.factor_names[k]} that the training rows have: give shuffle=True"
            )
