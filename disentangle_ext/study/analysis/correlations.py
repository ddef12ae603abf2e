"""Rank correlations of metrics over models: the study's heat map."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from disentangle_ext.study.analysis._resample import FEWEST_MODELS, check_resampling, draw_counts, percentiles
from disentangle_ext.study.analysis.columns import to_table
from disentangle_ext.study.analysis.scores import Scores

__all__ = ["rank_correlations"]

_BLOCK = 1 << 17
"""Numbers of an array that is worked on at once, so that it stays in the cache."""


def rank_correlations(
    scores: Any,
    *,
    rows: Collection[str] | None = None,
    columns: Collection[str] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Any:
    """Spearman's rank correlation of metrics over all models of a data set.

    With r_a and r_b the ranks of the n models that both metrics score, equal scores sharing their mean rank,

        correlation = sum (r_a - (n + 1) / 2) (r_b - (n + 1) / 2) / (n s_a s_b),

    where s is the standard deviation of ranks. It is NaN for fewer than two models or a metric that is constant. The
    study's Figure 5 is all metrics by all; unsupervised scores against metrics, and metrics against downstream
    accuracy, are ``rows`` by ``columns``.

    The interval is the percentile bootstrap over models: n of them are drawn with replacement, for all metrics at once,
    and ranked anew. It is an interval for the correlation over more seeds of the same objectives and values, not over
    another grid: models count as independent draws, although the seeds of a value share it. It is NaN without resamples
    or a correlation, and for fewer than four models. The standard error of an end is 8 % of that of the correlation (2
    % of the length of the interval) with 1,000 resamples, and 13 % with 400.

    Args:
        scores: a long table, see :class:`Scores`.
        rows: the metrics for ``metric_a``; all by default.
        columns: the metrics for ``metric_b``; all by default.
        resamples: number of draws; 0 for no interval.
        level: the probability that an interval is made for.
        seed: the seed of the draws.

    Returns:
        A pyarrow.Table with the columns ``data_set``, ``metric_a``, ``metric_b``, ``models`` (n), ``correlation``,
        ``low`` and ``high``: the whole rectangle of ``rows`` and ``columns`` for each data set, each metric with itself
        and both orders of a pair where both ask for them.

    Raises:
        MistakeError: for a wrong table, an unknown metric or a wrong argument.

    Spearman, "The Proof and Measurement of Association between Two Things", 1904; Locatello et al., "Challenging Common
    Assumptions in the Unsupervised Learning of Disentangled Representations", ICML 2019 (arXiv 1811.12359).
    """
    check_resampling("rank_correlations", resamples, level, seed)
    every = Scores.read(scores, "rank_correlations")
    first = every.columns_of(rows, "rank_correlations", "rows")
    second = every.columns_of(columns, "rank_correlations", "columns")
    used = sorted({*first, *second})
    names = np.array(every.metrics, dtype=object)
    parts = []
    for number, (data_set, here) in enumerate(every.by_data_set()):
        square = np.full((4, len(names), len(names)), np.nan)
        for metrics, kept in _blocks(np.isfinite(here.scores), used):
            rng = np.random.default_rng([seed, number])
            block = _correlate(here.scores[kept][:, metrics], resamples, level, rng)
            at = (slice(None), np.array(metrics)[:, None], np.array(metrics))
            square[at] = np.where(np.isnan(square[at][:1]), block, square[at])
        parts.append((data_set, square[:, first][:, :, second].reshape(4, -1)))
    count = len(first) * len(second)
    numbers = np.concatenate([part for _, part in parts], axis=1)
    return to_table(
        {
            "data_set": [data_set for data_set, _ in parts for _ in range(count)],
            "metric_a": np.tile(np.repeat(names[first], len(second)), len(parts)),
            "metric_b": np.tile(np.tile(names[second], len(first)), len(parts)),
            "models": numbers[0].astype(np.int64),
            "correlation": numbers[1],
            "low": numbers[2],
            "high": numbers[3],
        }
    )


def _blocks(scored: np.ndarray, used: list[int]) -> Iterator[tuple[list[int], np.ndarray]]:
    """Metrics that are ranked together, and the models that all of them score.

    First each set of metrics with scores for the same models, which is usually all, then two such sets at a time: there
    only the pairs across them are new.
    """
    sets: dict[bytes, list[int]] = {}
    for column in used:
        sets.setdefault(scored[:, column].tobytes(), []).append(column)
    alike = list(sets.values())
    for a in alike:
        yield a, scored[:, a[0]]
    for i, a in enumerate(alike):
        for b in alike[i + 1 :]:
            yield a + b, scored[:, a[0]] & scored[:, b[0]]


def _correlate(values: np.ndarray, resamples: int, level: float, rng: np.random.Generator) -> np.ndarray:
    """[4, M, M]: n, the correlation, and both ends of its interval."""
    models, metrics = values.shape
    result = np.full((4, metrics, metrics), np.nan)
    result[0] = models
    if models < 2:
        return result
    ranks = _Ranks(values)
    result[1] = ranks.correlations(np.ones((models, 1)))[0]
    if not resamples or models < FEWEST_MODELS:
        return result
    drawn = np.empty((resamples, metrics, metrics))
    step = max(1, _BLOCK // models)
    for start in range(0, resamples, step):
        times = draw_counts(rng, models, min(step, resamples - start))
        drawn[start : start + step] = ranks.correlations(np.ascontiguousarray(times.T))
    result[2:] = percentiles(drawn, level)
    return result


class _Ranks:
    """The order of the models by each metric, which the ranks in every resample follow from without another sort."""

    def __init__(self, values: np.ndarray) -> None:
        self.order = np.argsort(values, axis=0, kind="stable")
        ascending = np.take_along_axis(values, self.order, axis=0)
        self.below = np.stack([np.searchsorted(s, v, "left") for s, v in zip(ascending.T, values.T)])
        self.upto = np.stack([np.searchsorted(s, v, "right") for s, v in zip(ascending.T, values.T)])

    def correlations(self, times: np.ndarray) -> np.ndarray:
        """[R, M, M], the correlations in R resamples of which each model is ``times`` [n, R] part.

        With c(v) the number of drawn models up to v, all copies of equal scores have the rank
        (c(below v) + c(v) + 1) / 2. Ranks are multiples of 1/2 and their sums of products exact, so that equal orders
        have a correlation of exactly 1.
        """
        models, resamples = times.shape
        ranks = np.empty((resamples, len(self.below), models))
        drawn = np.zeros((models + 1, resamples))
        for m, (below, upto) in enumerate(zip(self.below, self.upto)):
            np.cumsum(times[self.order[:, m]], axis=0, out=drawn[1:])
            ranks[:, m] = ((drawn[below] + drawn[upto] - models) / 2).T
        products = (ranks * times.T[:, None, :]) @ ranks.transpose(0, 2, 1)
        squares = np.einsum("rmm->rm", products)
        with np.errstate(invalid="ignore"):
            return np.clip(products / np.sqrt(squares[:, :, None] * squares[:, None, :]), -1, 1)
