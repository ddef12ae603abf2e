"""What many scored models say together: functions from a long table to a table.

A long table has a row for each run and metric, with the columns ``data_set``, ``objective``, ``seed``, ``metric``
and ``score``, and optionally ``run``, ``hyperparameter`` and ``value``. It may be a pyarrow.Table, a DataFrame of
pandas or Polars, a mapping of columns, or the path of a .parquet or .csv file; :class:`Scores` says how it is read.
"""

from __future__ import annotations

from disentangle_ext.study.analysis.correlations import rank_correlations
from disentangle_ext.study.analysis.distributions import by_hyperparameter, distributions
from disentangle_ext.study.analysis.exemplars import exemplars
from disentangle_ext.study.analysis.scores import Scores
from disentangle_ext.study.analysis.selection import model_selection, model_selection_summary
from disentangle_ext.study.analysis.variance import variance_explained

__all__ = [
    "Scores",
    "by_hyperparameter",
    "distributions",
    "exemplars",
    "model_selection",
    "model_selection_summary",
    "rank_correlations",
    "variance_explained",
]
