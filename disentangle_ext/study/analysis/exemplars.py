"""Runs to look at: the best, the median and the worst of each objective."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from disentangle_ext._names import choose
from disentangle_ext.study.analysis.columns import to_table
from disentangle_ext.study.analysis.scores import Scores, group

__all__ = ["exemplars"]


def exemplars(scores: Any, metric: str = "mig", *, lower_is_better: Collection[str] = ()) -> Any:
    """The best, the median and the worst run of each objective by a metric.

    With the n scored runs of an objective in descending order, the median one is number ceil(n / 2). Of equal runs, the
    first by value, seed and name counts as the better one. There is no uncertainty to state: these are runs.

    Args:
        scores: a long table, see :class:`Scores`.
        metric: the metric that orders the runs; the highest score is the best.
        lower_is_better: the metrics whose lowest score is the best.

    Returns:
        A pyarrow.Table with the columns ``data_set``, ``objective``, ``place`` ("best", "median" or "worst"), ``run``
        and ``score``, for each objective with a score.

    Raises:
        MistakeError: for a wrong table, or a metric that it lacks.
    """
    every = Scores.read(scores, "exemplars")
    column = every.metrics.index(choose("exemplars: metric", metric, every.metrics))
    down = column in every.columns_of(lower_is_better, "exemplars", "lower_is_better")
    score = every.scores[:, column]
    of_objective = group(every.data_set, every.objective)
    rows: list[tuple[str, int]] = []
    for each in range(of_objective.max() + 1):
        runs = np.flatnonzero((of_objective == each) & np.isfinite(score))
        if len(runs):
            runs = runs[np.argsort(score[runs] if down else -score[runs], kind="stable")]
            rows += [("best", runs[0]), ("median", runs[(len(runs) - 1) // 2]), ("worst", runs[-1])]
    index = np.array([run for _, run in rows], dtype=np.int64)
    return to_table(
        {
            "data_set": every.data_set[index],
            "objective": every.objective[index],
            "place": [place for place, _ in rows],
            "run": every.run[index],
            "score": score[index],
        }
    )
