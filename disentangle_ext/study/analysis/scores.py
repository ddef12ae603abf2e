"""The long table, checked and pivoted to an array of runs and metrics."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from disentangle_ext._errors import MistakeError, describe
from disentangle_ext._names import choose
from disentangle_ext.study.analysis.columns import numbers, open_table, texts, whole_numbers

__all__ = ["Scores", "in_order", "places"]

_OPTIONAL = ("hyperparameter", "value")
_TEXT = ("data_set", "objective", *_OPTIONAL)
_NEEDED = ("data_set", "objective", "seed", "metric", "score")


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of runs, in an order that does not depend on the order of the rows they came from.

    Attributes:
        run: [R], names.
        data_set: [R], text.
        objective: [R], text.
        hyperparameter: [R], what varies among the runs of the objective; "" where the table lacks it.
        value: [R], its value as text; "" where the table lacks it.
        seed: [R], int64.
        metrics: the M names, sorted.
        scores: [R, M], float64; NaN where there is no score.
    """

    run: np.ndarray
    data_set: np.ndarray
    objective: np.ndarray
    hyperparameter: np.ndarray
    value: np.ndarray
    seed: np.ndarray
    metrics: tuple[str, ...]
    scores: np.ndarray

    @classmethod
    def read(cls, source: Any, where: str = "Scores.read") -> Scores:
        """Read a long table.

        Numbers in the columns of text become text. A run is named by its data set, objective, hyperparameter, value
        and seed where the table has no column ``run``. An infinite score counts as a missing one.

        Args:
            source: :class:`Scores`, which are returned, a pyarrow.Table, a DataFrame, a mapping of columns, or
                the path of a .parquet or .csv file.
            where: the name of the function that reads; begins the errors.

        Raises:
            MistakeError: for a missing column, a wrong type, no rows, a second score of a run and metric, or a run
                with two data sets, objectives, hyperparameters, values or seeds.
            MissingExtraError: without pyarrow.
        """
        if isinstance(source, Scores):
            return source
        table = open_table(source, where)
        absent = [name for name in _NEEDED if name not in table.column_names]
        if absent:
            raise MistakeError(
                f"{where}: scores must have the columns {', '.join(_NEEDED)}; missing: {', '.join(absent)}"
            )
        if not table.num_rows:
            raise MistakeError(f"{where}: scores must have rows, got none")
        found = {name: texts(table, name, where, optional=name in _OPTIONAL) for name in _TEXT}
        rows = {name: known[code] for name, (known, code) in found.items()}
        rows["seed"] = whole_numbers(table, "seed", where)
        if "run" in table.column_names:
            run, place = texts(table, "run", where)
        else:
            run, place = _name_runs(rows)
        first = np.empty(len(run), dtype=np.int64)
        first[place[::-1]] = np.arange(len(place))[::-1]
        for name, column in rows.items():
            wrong = np.flatnonzero(column != column[first][place])
            if len(wrong):
                raise MistakeError(
                    f"{where}: scores must have one {name} for a run, got two for {run[place[wrong[0]]]!r}"
                )
        metrics, kind = texts(table, "metric", where)
        matrix = _pivot(run, metrics, place, kind, numbers(table, "score", where), where)
        columns = {"run": run, **{name: column[first] for name, column in rows.items()}}
        order = np.lexsort([places(columns[name]) for name in ("run", "seed", *_TEXT[::-1])])
        return cls(
            **{name: column[order] for name, column in columns.items()}, metrics=tuple(metrics), scores=matrix[order]
        )

    def by_data_set(self) -> Iterator[tuple[str, Scores]]:
        """The name of each data set, and the runs on it."""
        for name in dict.fromkeys(self.data_set):
            yield name, self.take(self.data_set == name)

    def take(self, rows: np.ndarray) -> Scores:
        """Some of the runs, by a mask or their indices."""
        columns = {name: getattr(self, name)[rows] for name in ("run", *_TEXT, "seed")}
        return Scores(**columns, metrics=self.metrics, scores=self.scores[rows])

    def settings(self) -> np.ndarray:
        """[R], whole numbers from 0, equal for runs of the same objective, hyperparameter and value."""
        return group(self.objective, self.hyperparameter, self.value)

    def columns_of(self, names: Collection[str] | None, where: str, argument: str) -> list[int]:
        """The columns of the named metrics, or of all; the errors name the argument.

        Raises:
            MistakeError: for a name that no metric has.
        """
        if names is None:
            return list(range(len(self.metrics)))
        if isinstance(names, str) or not isinstance(names, Collection):
            raise MistakeError(f"{where}: {argument} must be a list of metrics, got {describe(names)}")
        return [self.metrics.index(choose(f"{where}: metric of {argument}", name, self.metrics)) for name in names]


def group(*columns: np.ndarray) -> np.ndarray:
    """[R], whole numbers from 0 in the order of first appearance, equal where all the columns are."""
    seen: dict[tuple[Any, ...], int] = {}
    return np.array([seen.setdefault(key, len(seen)) for key in zip(*columns)], dtype=np.int64)


def in_order(words: Collection[Any]) -> list[Any]:
    """Sorted, where "4" comes before "16", and "4,0.1" before "4,0.5"."""
    return sorted(words, key=lambda word: [_key(part) for part in str(word).split(",")])


def places(column: np.ndarray) -> np.ndarray:
    """[R], the place of each cell among the distinct ones, which are :func:`in_order`."""
    known, code = np.unique(column, return_inverse=True)
    place = {word: i for i, word in enumerate(in_order(known.tolist()))}
    return np.array([place[word] for word in known.tolist()], dtype=np.int64)[code]


def _key(part: str) -> tuple[int, float, str]:
    try:
        return 0, float(part), part
    except ValueError:
        return 1, 0.0, part


def _name_runs(rows: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    place = group(*rows.values())
    first = np.unique(place, return_index=True)[1]
    words = zip(*(column[first] for column in rows.values()))
    return np.array([" ".join(str(word) for word in each if word != "") for each in words], dtype=object), place


def _pivot(
    run: np.ndarray, metrics: np.ndarray, place: np.ndarray, kind: np.ndarray, score: np.ndarray, where: str
) -> np.ndarray:
    cells = place * len(metrics) + kind
    counts = np.bincount(cells, minlength=len(run) * len(metrics))
    if counts.max() > 1:
        i, j = divmod(int(counts.argmax()), len(metrics))
        raise MistakeError(
            f"{where}: scores must have one row for a run and metric, got {counts.max()} for {run[i]!r}, {metrics[j]!r}"
        )
    matrix = np.full(len(counts), np.nan)
    matrix[cells] = score
    return matrix.reshape(len(run), len(metrics))
