"""Long tables that are made of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Columns = dict[str, list[Any]]


def grid(
    scores: Mapping[str, np.ndarray], *, data_sets: Sequence[str] = ("a",), hyperparameter: str = "beta"
) -> Columns:
    """A long table of scores by metric, each [data sets, objectives, values, seeds]."""
    columns: Columns = {
        name: [] for name in ("data_set", "objective", "hyperparameter", "value", "seed", "metric", "score")
    }
    for metric, array in scores.items():
        for (x, objective, value, seed), score in np.ndenumerate(array):
            cells = (
                data_sets[x],
                f"vae{objective}",
                hyperparameter,
                str(2**value),
                seed,
                metric,
                float(score),
            )
            for column, cell in zip(columns.values(), cells):
                column.append(cell)
    return columns


def flat(scores: Mapping[str, Sequence[float]], *, data_set: str = "a") -> Columns:
    """A long table of one objective, a seed for each score."""
    return grid({metric: np.asarray(score)[None, None, None] for metric, score in scores.items()}, data_sets=[data_set])


def shuffled(columns: Columns, seed: int = 0) -> Columns:
    order = np.random.default_rng(seed).permutation(len(columns["score"]))
    return {name: [column[i] for i in order] for name, column in columns.items()}


def rows(table: Any, *key: str) -> dict[Any, dict[str, Any]]:
    """The rows of a result, by the cells of some of its columns."""
    return {tuple(row[name] for name in key) if len(key) > 1 else row[key[0]]: row for row in table.to_pylist()}


def same(one: Any, other: Any) -> bool:
    """Whether two results are equal, NaN and NaN too."""
    return one.schema == other.schema and all(
        np.array_equal(a.to_numpy(), b.to_numpy(), equal_nan=a.type == "double")
        for a, b in zip(one.columns, other.columns)
    )
