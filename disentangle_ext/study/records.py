"""From run folders to tables: which runs there are, and all of their scores."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from disentangle_ext._errors import MistakeError
from disentangle_ext._extras import require
from disentangle_ext._files import WriteError, replacing
from disentangle_ext.runs.config import read_yaml, resolve
from disentangle_ext.runs.folder import CONFIG, RunFolder
from disentangle_ext.study.plan import PLAN, Study
from disentangle_ext.study.run import Run, variations
from disentangle_ext.study.run_scores import SCORE, read_run_scores
from disentangle_ext.study.status import State, state_of
from disentangle_ext.study.udr import UDR, groups_of, udr_of

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "LONG_TABLE",
    "RECORDS",
    "RUNS",
    "VIEWS",
    "Collected",
    "collect",
    "in_words",
    "long_table",
    "query",
    "run_folders",
]

RUNS = "runs.parquet"
"""A row for each run: run, path, data_set, objective, hyperparameter, value, seed, state."""

RECORDS = "scores.parquet"
"""A row for each number: run, metric, part, value."""

LONG_TABLE = """\
SELECT runs.run, data_set, objective, hyperparameter, runs.value, seed, metric, scores.value AS score
FROM runs JOIN scores ON scores.run = runs.run
WHERE part = 'score'
ORDER BY runs.run, metric"""
"""DuckDB's query for the long table, of the views ``runs`` and ``scores``."""

VIEWS = f"""\
CREATE VIEW runs AS FROM '{RUNS}';
CREATE VIEW scores AS FROM '{RECORDS}';
"""
"""What makes these views, in the folder of the two files."""


class Collected(NamedTuple):
    """The runs of a study or of folders, and their scores."""

    runs: pyarrow.Table
    """A row for each run, see :data:`RUNS`; ``hyperparameter`` and ``value`` as :func:`study.run.variations` has it,
    ``path`` absolute."""
    records: pyarrow.Table
    """A row for each number that a finished run is scored by, see :data:`RECORDS` and
    :func:`study.run_scores.read_run_scores`."""
    problems: list[str]
    """A line for each run that could not be read."""
    in_several: int = 0
    """How many runs were found in two folders or more."""

    @property
    def unfinished(self) -> Counter[str]:
        """How many runs are in each of the states that are not the last."""
        return _unfinished(self.runs)


def collect(
    paths: Sequence[Path],
    folder: Path | None = None,
    *,
    with_udr: bool = False,
    show: Callable[[int, int], object] = lambda done, total: None,
) -> Collected:
    """Read the runs of a study, or of any folders, and write the two tables.

    A run that is in several folders is taken once, from the one with the most metrics of those where it is finished;
    the first of equal ones. What is damaged costs the run that it belongs to, and no other.

    Args:
        paths: the folder of a study alone; or run folders, and folders in which they are, however deep.
        folder: where to write :data:`RUNS` and :data:`RECORDS`, made if need be; default: nothing is written.
        with_udr: compute the metric ``udr``, see :func:`study.udr.udr_of`. What the tables in ``folder`` have of it
            stays in any case where the runs of a setting are still the same.
        show: called with the number of settings done and their total, with ``with_udr``.

    Raises:
        MistakeError: for a folder that holds no run, and if no run is finished; nothing is written then.
        WriteError: if the disk is full, and so on.
    """
    problems: list[str] = []
    is_study = len(paths) == 1 and (paths[0] / PLAN).is_file()
    runs, in_several = (_planned(Study(paths[0])), 0) if is_study else _found(paths, problems)
    unfinished = _unfinished(runs)
    if sum(unfinished.values()) == runs.num_rows:
        where = ", ".join(map(str, paths))
        raise MistakeError(f"study: none of the {runs.num_rows:,} runs in {where} is finished: {in_words(unfinished)}")
    records = _records(runs, problems, _Udr(with_udr, {} if folder is None else _known_udr(folder), show))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_table(folder / RUNS, runs)
        write_table(folder / RECORDS, records)
    return Collected(runs, records, problems, in_several)


def in_words(states: Counter[str]) -> str:
    """Give the numbers of runs by their state: "2 waiting, 1 failed"."""
    return ", ".join(f"{count:,} {state}" for state, count in states.items())


def long_table(runs: pyarrow.Table, records: pyarrow.Table) -> pyarrow.Table:
    """Join runs and scores by :data:`LONG_TABLE`: run, data_set, objective, hyperparameter, value, seed, metric, score.

    Args:
        runs: see :data:`RUNS`.
        records: see :data:`RECORDS`.
    """
    return _ask(LONG_TABLE, lambda connection: [connection.from_arrow(each) for each in (runs, records)])


def query(folder: Path, sql: str) -> pyarrow.Table:
    """Ask DuckDB about the tables that :func:`collect` has written.

    >>> query(Path("studies/a"), "SELECT metric, max(value) FROM scores WHERE part = 'score' GROUP BY metric")

    Args:
        folder: where they are.
        sql: a query of the tables ``runs`` and ``scores``.

    Raises:
        MistakeError: if the tables are not there, and for what DuckDB refuses.
    """
    paths = [folder / RUNS, folder / RECORDS]
    if not all(path.is_file() for path in paths):
        raise MistakeError(f"study: {folder} has no {RUNS} and {RECORDS}: 'study collect' writes them")
    return _ask(sql, lambda connection: [connection.read_parquet(str(path)) for path in paths])


def run_folders(paths: Sequence[Path]) -> list[Path]:
    """Find the run folders among ``paths`` and below them, each once; not those in another run folder.

    Raises:
        MistakeError: for a path that is no folder, or has no run folder in it.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise MistakeError(f"study: RUN must be a run folder or a folder of some, got {path}")
        below = dict.fromkeys(map(Path.absolute, _below(path)))
        if not below:
            raise MistakeError(f"study: RUN {path} is no run folder, and has none in it")
        found.update(below)
    return list(found)


def write_table(path: Path, table: pyarrow.Table) -> None:
    """Write a Parquet file, the whole or nothing.

    Raises:
        WriteError: if the disk is full, and so on.
    """
    parquet = require("pyarrow.parquet", extra="study", what="study")
    try:
        with replacing(path) as temporary:
            parquet.write_table(table, temporary, compression="zstd")
    except OSError as error:
        raise WriteError(path, error) from error


def _unfinished(runs: pyarrow.Table) -> Counter[str]:
    return Counter(state for state in runs.column("state").to_pylist() if state != State.DONE.value)


def _planned(study: Study) -> pyarrow.Table:
    plan = study.plan.drop_columns(["settings"])
    folders = [study.run_folder(name) for name in plan.column("run").to_pylist()]
    states = [state_of(folder).value for folder in folders]
    plan = plan.add_column(1, "path", [[str(folder.path.absolute()) for folder in folders]])
    return plan.append_column("state", [states]).replace_schema_metadata(None)


def _found(paths: Sequence[Path], problems: list[str]) -> tuple[pyarrow.Table, int]:
    """The runs in folders, and how many of them are in several.

    A run that ``evaluate`` has not scored is finished, too, with the scores of training.
    """
    arrow = require("pyarrow", extra="study", what="study")
    copies: dict[str, list[tuple[RunFolder, Run]]] = {}
    for path in run_folders(paths):
        folder = RunFolder(path)
        try:
            run = Run(resolve(read_yaml(path / CONFIG, source="study"), source="study"))
        except MistakeError as error:
            reason = str(error).partition(": ")[2]  # without the name of a program
            problems.append(f"study: {path / CONFIG}: {reason}; the run is left out")
            continue
        known = copies.setdefault(run.name, [])
        known.append((folder, run))
        if known[0][1] != run:
            problems.append(
                f"study: {path} and {known[0][0].path} differ in nothing but the path of their data: one is left out"
            )
    if not copies:
        raise MistakeError(problems[0] if problems else "study: there is no run")
    chosen = [each[0] if len(each) == 1 else max(each, key=lambda copy: _worth(copy[0])) for each in copies.values()]
    folders, configs = zip(*((folder, run.config) for folder, run in chosen))
    columns = {"run": list(copies), "path": [str(folder.path) for folder in folders]}
    about = variations([config.plain() for config in configs])
    columns.update({name: [getattr(each, name) for each in about] for name in about[0]._fields})
    columns["seed"] = [config.seed for config in configs]
    columns["state"] = [(State.DONE if folder.is_done else state_of(folder)).value for folder in folders]
    return arrow.table(columns), sum(any(run == each[0][1] for _, run in each[1:]) for each in copies.values())


def _worth(folder: RunFolder) -> tuple[bool, int]:
    """Orders the copies of a run: whether it is finished, and its metrics, -1 if they are damaged."""
    try:
        return folder.is_done, len(read_run_scores(folder.path))
    except MistakeError:
        return folder.is_done, -1


def _below(path: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(path):
        folders.sort()
        if CONFIG in files:
            folders.clear()
            yield Path(root)


class _Udr(NamedTuple):
    """Whether UDR is asked for, and what is known of it."""

    is_wanted: bool
    known: Mapping[frozenset[str], Mapping[str, float]]
    show: Callable[[int, int], object]


def _records(runs: pyarrow.Table, problems: list[str], udr: _Udr) -> pyarrow.Table:
    arrow = require("pyarrow", extra="study", what="study")
    table = _Numbers()
    paths: dict[str, Path] = {}
    for name, path, state in zip(*(runs.column(each).to_pylist() for each in ("run", "path", "state"))):
        if state != State.DONE.value:
            continue
        try:
            scores = read_run_scores(Path(path))
        except MistakeError as error:
            problems.append(f"{error}; the run is left out")
            continue
        for metric, parts in scores.items():
            for part, value in parts.items():
                table.add(len(paths), metric, part, value)
        paths[name] = Path(path)
    if udr.is_wanted or udr.known:
        groups = groups_of(runs, paths)
        chosen = groups if udr.is_wanted else {key: group for key, group in groups.items() if key in udr.known}
        places = {name: place for place, name in enumerate(paths)}
        for name, value in udr_of(chosen, paths, udr.known, problems, udr.show).items():
            table.add(places[name], UDR, SCORE, value)
    return table.build(arrow, list(paths))


def _known_udr(folder: Path) -> dict[frozenset[str], dict[str, float]]:
    """The scores of the settings whose runs all have one, in the tables that were written last."""
    try:
        rows = query(folder, f"SELECT run, value FROM scores WHERE metric = '{UDR}' AND part = '{SCORE}'")
        runs = query(folder, f"FROM runs WHERE state = '{State.DONE.value}'")
    except MistakeError:
        return {}
    scores = dict(zip(*(rows.column(name).to_pylist() for name in ("run", "value"))))
    groups = groups_of(runs, dict.fromkeys(runs.column("run").to_pylist())) if scores else {}
    return {key: {name: scores[name] for name in key} for key in groups if key <= scores.keys()}


class _Numbers:
    """Rows that become a table of records: 20 bytes each, where Python's own numbers and words have hundreds."""

    def __init__(self) -> None:
        self._runs, self._metrics, self._parts = (array("i") for _ in range(3))
        self._values = array("d")
        self._words: dict[str, int] = {}

    def add(self, run: int, metric: str, part: str, value: float) -> None:
        self._runs.append(run)
        self._metrics.append(self._words.setdefault(metric, len(self._words)))
        self._parts.append(self._words.setdefault(part, len(self._words)))
        self._values.append(value)

    def build(self, arrow: Any, runs: Sequence[str]) -> pyarrow.Table:
        """Make the table of what was added, with the names of the runs."""

        def column(words: Sequence[str], places: array[int]) -> Any:
            return arrow.array(words, arrow.string()).take(arrow.array(places, arrow.int32()))

        words = list(self._words)
        return arrow.table(
            {
                "run": column(runs, self._runs),
                "metric": column(words, self._metrics),
                "part": column(words, self._parts),
                "value": arrow.array(self._values, arrow.float64()),
            }
        )


def _ask(sql: str, open_views: Callable[[Any], Sequence[Any]]) -> pyarrow.Table:
    """Ask a query of the views ``runs`` and ``scores``, of relations that a connection opens."""
    duckdb = require("duckdb", extra="study", what="study")
    with duckdb.connect() as connection:
        try:
            for name, relation in zip(("runs", "scores"), open_views(connection)):
                relation.create_view(name)
            answer = connection.sql(sql)
            if answer is None:
                raise MistakeError(f"study: a query must select something, got {sql!r}")
            return answer.to_arrow_table()
        except duckdb.Error as error:
            raise MistakeError(f"study: DuckDB refuses the query: {' '.join(str(error).split())}") from None
