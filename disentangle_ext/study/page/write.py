"""The page of a study: everything in one HTML file, and each figure and table beside it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from disentangle_ext._errors import MistakeError
from disentangle_ext._extras import require
from disentangle_ext._files import write_atomically
from disentangle_ext.study.analysis import Scores
from disentangle_ext.study.page.drawing import drawing
from disentangle_ext.study.page.figure import write_csv
from disentangle_ext.study.page.markup import escape, fill, read, table_html
from disentangle_ext.study.page.published import comparison, differences
from disentangle_ext.study.page.run_list import list_table, run_list_html
from disentangle_ext.study.page.sections import Study
from disentangle_ext.study.records import LONG_TABLE, VIEWS, long_table

if TYPE_CHECKING:
    import pyarrow

__all__ = ["write_page"]

_TEXT = dict.fromkeys(("run", "path", "data_set", "objective", "hyperparameter", "value"), "string")
_RUNS = {**_TEXT, "seed": "int64", "state": "string"}
_RECORDS = {"run": "string", "metric": "string", "part": "string", "value": "float64"}
_LAST = (("published", "The published study"), ("runs", "All runs"), ("data", "The data"))


def write_page(folder: Path, runs: pyarrow.Table, records: pyarrow.Table, *, title: str) -> Path:
    """Write the page of a study, which needs no network, nor the files beside it to be read.

    ``folder`` gets index.html, figures/NAME.png and .pdf, and tables/NAME.csv. Figures that the study cannot fill are
    left out with a sentence of why. A large study has fewer marks than runs, and says so.

    Args:
        folder: where to write; made if need be.
        runs: a row per run: ``run``, ``path``, ``data_set``, ``objective``, ``hyperparameter``, ``value``, ``seed``,
            ``state``.
        records: a row per run, metric and part: ``run``, ``metric``, ``part`` ("score" for the score itself) and
            ``value``.
        title: the heading.

    Returns:
        The path of index.html.

    Raises:
        MistakeError: for a table without these columns, or without a run.
        MissingExtraError: without the extra ``study``.
        WriteError: if the disk is full, and so on.
    """
    runs, records = _typed("runs", runs, _RUNS), _typed("records", records, _RECORDS)
    if not runs.num_rows:
        raise MistakeError("study report: runs must have rows, got none")
    for name in ("figures", "tables"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    paths = {run: Path(path) for run, path in zip(*(runs.column(name).to_pylist() for name in ("run", "path")))}
    long = long_table(runs, records)
    study = Study(Scores.read(long, "study report"), paths, folder) if long.num_rows else None
    sections = study.sections if study else ()
    charts = {name: chart for each in sections for name, chart in each.charts.items()}
    with drawing(charts, folder / "figures") as drawn:
        write_csv(folder / "tables" / "scores.csv", long)
        parts = [each.save(folder) for each in sections] or [fill("omitted.html", reason="No run has a score yet.")]
        data = fill("data.html", sql=escape(VIEWS + LONG_TABLE))
        parts += [_published(study, runs, paths), _list(study, runs, paths, folder), data]
    contents = [*((each.name, each.title) for each in sections), *_LAST]
    page = fill(
        "page.html",
        title=escape(title),
        summary=escape(_summary(runs, study)),
        contents="".join(f'<li><a href="#{name}">{escape(words)}</a></li>' for name, words in contents),
        style=read("page.css"),
        body="".join(parts),
        library=drawn.library.replace("</script", "<\\/script").replace("<!--", "<\\!--"),
        script=read("page.js"),
    )
    path = folder / "index.html"
    write_atomically(path, page.encode("utf-8", "replace"))
    return path


def _typed(name: str, table: Any, columns: dict[str, str]) -> Any:
    """The columns with their types: text may come dictionary-encoded, or as nulls where there is none."""
    pyarrow = require("pyarrow", extra="study", what="study report")
    missing = [each for each in columns if each not in table.column_names]
    if missing:
        wanted = ", ".join(columns)
        raise MistakeError(f"study report: {name} must have the columns {wanted}; missing: {', '.join(missing)}")
    try:
        return table.select(list(columns)).cast(pyarrow.schema(list(columns.items())))
    except pyarrow.ArrowException as error:
        raise MistakeError(f"study report: {name} must have the types {columns}: {error}") from error


def _published(study: Study | None, runs: Any, paths: dict[str, Path]) -> str:
    rows = differences(runs, paths)
    differs = table_html(["what", "published", "here"], rows, label="What differs")
    held = []
    if study is not None:
        held = comparison(study.roles, study.correlations, study.shares, study.transfer, study.spread)
    beside = table_html(["finding", "published", "here"], held, label="Published findings")
    return fill("published.html", comparison=beside, differences=differs)


def _list(study: Study | None, runs: Any, paths: dict[str, Path], folder: Path) -> str:
    scores = study.scores if study else None
    metrics = (study.roles.main(), *study.roles.every) if study else ()
    table = list_table(runs, scores, tuple(dict.fromkeys(metrics)))
    write_csv(folder / "tables" / "runs.csv", table)
    return run_list_html(table, paths, folder)


def _summary(runs: Any, study: Study | None) -> str:
    """ "36 runs (35 done, 1 failed): 3 objectives, 1 data set, 3 seeds, 20 scores"."""
    states = Counter(runs.column("state").to_pylist())
    words = ", ".join(f"{count:,} {state}" for state, count in states.most_common())
    counts = [(name, len(set(runs.column(name).to_pylist()))) for name in ("objective", "data_set", "seed")]
    counts.append(("score", len(study.scores.metrics) if study else 0))
    parts = ", ".join(f"{count:,} {name.replace('_', ' ')}{'' if count == 1 else 's'}" for name, count in counts)
    return f"{runs.num_rows:,} run{'' if runs.num_rows == 1 else 's'} ({words}): {parts}"
