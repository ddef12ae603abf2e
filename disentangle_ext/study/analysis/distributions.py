"""How scores are distributed: for each objective, and for each value of its hyperparameter."""

from __future__ import annotations

from typing import Any

import numpy as np

from disentangle_ext.study.analysis._resample import check_level
from disentangle_ext.study.analysis.columns import to_table
from disentangle_ext.study.analysis.scores import Scores, group

__all__ = ["by_hyperparameter", "distributions", "median_interval"]


def distributions(scores: Any, *, level: float = 0.95) -> Any:
    """The distribution of each metric over the runs of each objective: all values of its hyperparameter and all seeds.

    ``sd`` has the divisor n - 1, and is NaN for one run; the quartiles are interpolated linearly. The interval from
    ``low`` to ``high`` is one of the median, by :func:`median_interval`'s order statistics. The runs
    count as independent draws from the same mixture of values; another grid has another median.

    Args:
        scores: a long table, see :class:`Scores`.
        level: the probability with which the interval holds the median.

    Returns:
        A pyarrow.Table with the columns ``data_set``, ``objective``, ``metric``, ``n`` (the runs with a score),
        ``mean``, ``sd``, ``min``, ``q25``, ``median``, ``q75``, ``max``, ``low`` and ``high``; no row where n is 0.

    Raises:
        MistakeError: for a wrong table or level.

    Locatello et al., "Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations",
    ICML 2019 (arXiv 1811.12359), figure 2.
    """
    check_level("distributions", level)
    every = Scores.read(scores, "distributions")
    return _summaries(every, ("data_set", "objective"), level, ends=True)


def by_hyperparameter(scores: Any, *, level: float = 0.95) -> Any:
    """The median and quartiles of each metric over the seeds of each value of the hyperparameter.

    The columns are as in :func:`distributions`. With few seeds the interval of the median is the range of the scores,
    which holds the median with probability 1 - 2^(1 - n), whatever ``level`` says: 50 % for 2 seeds, 75 % for 3,
    87.5 % for 4 and 93.75 % for 5. From 6 seeds on it has 95 %. One seed has no interval.

    Args:
        scores: a long table, see :class:`Scores`.
        level: the probability with which the interval holds the median, if there are seeds enough.

    Returns:
        A pyarrow.Table with the columns ``data_set``, ``objective``, ``hyperparameter``, ``value``, ``metric``, ``n``
        (the seeds with a score), ``mean``, ``sd``, ``q25``, ``median``, ``q75``, ``low`` and ``high``; values in the
        order of numbers, no row where n is 0.

    Raises:
        MistakeError: for a wrong table or level.

    Locatello et al., ICML 2019 (arXiv 1811.12359), figure 3.
    """
    check_level("by_hyperparameter", level)
    every = Scores.read(scores, "by_hyperparameter")
    return _summaries(every, ("data_set", "objective", "hyperparameter", "value"), level, ends=False)


def median_interval(count: int, level: float) -> int:
    """The k for which the k-th lowest and the k-th highest of ``count`` scores enclose the median, 1 if none is safe.

    For independent draws x_(1) <= ... <= x_(n) from any distribution,

        P(x_(k) <= median <= x_(n + 1 - k)) >= 1 - 2 P(B < k),    B binomial with n draws of probability 1/2,

    with equality for a continuous distribution. k is the largest one for which this is ``level`` or more. A percentile
    bootstrap of the median tends to the same ends, give or take one score, and guarantees nothing.

    David and Nagaraja, "Order Statistics", 2003, section 7.1.
    """
    steps = np.arange(1, count + 1)
    terms = np.concatenate([[0.0], np.cumsum(np.log((count + 1 - steps) / steps))]) - count * np.log(2)
    below = np.cumsum(np.exp(terms[: (count + 1) // 2]))
    return max(1, int((1 - 2 * below >= level).sum()))


def _summaries(every: Scores, keys: tuple[str, ...], level: float, *, ends: bool) -> Any:
    of_key = group(*(getattr(every, key) for key in keys))
    cell = of_key[:, None] * len(every.metrics) + np.arange(len(every.metrics))
    scored = np.isfinite(every.scores)
    cell, score = cell[scored], every.scores[scored]
    order = np.lexsort([score, cell])
    cell, score = cell[order], score[order]
    cells, start, count = np.unique(cell, return_index=True, return_counts=True)

    def quantile(share: float) -> np.ndarray:
        place = share * (count - 1)
        left = start + np.floor(place).astype(np.int64)
        right = np.minimum(left + 1, start + count - 1)
        return score[left] + (place % 1) * (score[right] - score[left])

    sums = lambda values: np.add.reduceat(values, start) if len(start) else np.empty(0)  # noqa: E731
    mean = sums(score) / count
    spread = sums((score - np.repeat(mean, count)) ** 2)
    sd = np.sqrt(np.divide(spread, count - 1, out=np.full(len(count), np.nan), where=count > 1))
    reach = {int(each): median_interval(int(each), level) for each in np.unique(count)}
    k = np.array([reach[int(each)] for each in count], dtype=np.int64)
    low, high = score[start + k - 1], score[start + count - k]
    first = np.unique(of_key, return_index=True)[1][cells // len(every.metrics)]
    lowest, highest = {"min": quantile(0)}, {"max": quantile(1)}
    return to_table(
        {
            **{key: getattr(every, key)[first] for key in keys},
            "metric": np.array(every.metrics, dtype=object)[cells % len(every.metrics)],
            "n": count,
            "mean": mean,
            "sd": sd,
            **(lowest if ends else {}),
            "q25": quantile(0.25),
            "median": quantile(0.5),
            "q75": quantile(0.75),
            **(highest if ends else {}),
            "low": np.where(count > 1, low, np.nan),
            "high": np.where(count > 1, high, np.nan),
        }
    )
