"""The best, the median and the worst run."""

from __future__ import annotations

import math

import numpy as np
import pytest

from disentangle_ext._errors import MistakeError
from disentangle_ext.study.analysis import exemplars
from tests.study.analysis.tables import flat, grid, rows, same, shuffled


def test_the_best_the_median_and_the_worst_run_of_each_objective():
    scores = np.array([[[[5, 1, 3]], [[2, 2, math.nan]]], [[[0, 9, 8]], [[math.nan] * 3]]], dtype=float)
    table = grid({"mig": scores, "other": -scores}, data_sets=("a", "b"))
    found = exemplars(table)
    assert found.column_names == ["data_set", "objective", "place", "run", "score"]
    places = {key: (row["run"], row["score"]) for key, row in rows(found, "data_set", "objective", "place").items()}
    assert places == {
        ("a", "vae0", "best"): ("a vae0 beta 1 0", 5),
        ("a", "vae0", "median"): ("a vae0 beta 1 2", 3),
        ("a", "vae0", "worst"): ("a vae0 beta 1 1", 1),
        ("a", "vae1", "best"): ("a vae1 beta 1 0", 2),
        ("a", "vae1", "median"): ("a vae1 beta 1 0", 2),
        ("a", "vae1", "worst"): ("a vae1 beta 1 1", 2),
        ("b", "vae0", "best"): ("b vae0 beta 1 1", 9),
        ("b", "vae0", "median"): ("b vae0 beta 1 2", 8),
        ("b", "vae0", "worst"): ("b vae0 beta 1 0", 0),
    }
    assert same(exemplars(shuffled(table)), found)
    assert exemplars(table, "other", lower_is_better=["other"])["run"].equals(found["run"])


def test_one_run_is_all_three():
    assert exemplars(flat({"mig": [0.5]}))["run"].to_pylist() == ["a vae0 beta 1 0"] * 3


def test_a_metric_without_scores_has_no_rows_and_an_unknown_one_is_a_mistake():
    assert exemplars(flat({"mig": [math.nan]})).num_rows == 0
    with pytest.raises(MistakeError, match="^exemplars: unknown metric 'mig': known: sap$"):
        exemplars(flat({"sap": [0.5]}))
    with pytest.raises(MistakeError, match="^exemplars: metric must be one of sap, got int 3$"):
        exemplars(flat({"sap": [0.5]}), 3)  # type: ignore[arg-type]
