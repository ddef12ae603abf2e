"""The list of all runs, which a click on a column's head sorts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from disentangle_ext.study.analysis import Scores
from disentangle_ext.study.page.markup import breakable, cell_html, escape, fill
from disentangle_ext.study.page.numbers import rows_of
from disentangle_ext.study.page.pictures import picture, relative_link, traversals

__all__ = ["LISTED", "list_table", "run_list_html"]

LISTED = 2000
"""Rows of the list, at most."""
_WITH_PICTURES, _THUMBNAIL = 120, 240
_TRAVERSALS = "traversals"
_ABOUT = ("run", "data_set", "objective", "hyperparameter", "value", "seed", "state")


def list_table(runs: Any, scores: Scores | None, metrics: Sequence[str]) -> Any:
    """The runs with a column per metric, those with the highest of the first metric first."""
    table = runs.select(list(_ABOUT))
    if scores is None:
        return table
    row_of = {name: row for row, name in enumerate(scores.run)}
    rows = np.array([row_of.get(name, -1) for name in runs.column("run").to_pylist()], dtype=np.int64)
    for metric in metrics:
        column = np.append(scores.scores[:, scores.metrics.index(metric)], np.nan)
        name = metric if metric not in table.column_names else f"{metric} (score)"
        table = table.append_column(name, [column[rows]])
    if not metrics:
        return table
    first = np.append(scores.scores[:, scores.metrics.index(metrics[0])], np.nan)[rows]
    return table.take(np.argsort(np.nan_to_num(-first, nan=np.inf), kind="stable"))


def run_list_html(table: Any, paths: dict[str, Path], folder: Path) -> str:
    """The first :data:`LISTED` rows of :func:`list_table`, each with its traversals or a link to its folder."""
    with_pictures = table.num_rows <= _WITH_PICTURES
    names = [name for name in table.column_names if name != "run"]
    about, scores = names[: len(_ABOUT) - 1], names[len(_ABOUT) - 1 :]
    cells = "".join(_head(name) for name in ("run", *about, _TRAVERSALS, *scores))
    body = []
    for row in rows_of(table.slice(0, LISTED)):
        path = paths[row["run"]]
        link = relative_link(path, folder)
        first = f'<th scope="row"><a href="{link}">{breakable(row["run"])}</a></th>'
        source = picture(traversals(path), _THUMBNAIL) if with_pictures else None
        shown = f"<td>{_picture(source, row['run'], relative_link(traversals(path), folder))}</td>"
        left, right = ("".join(cell_html(row[name]) for name in each) for each in (about, scores))
        body.append(f"<tr>{first}{left}{shown}{right}</tr>\n")
    listed = min(LISTED, table.num_rows)
    note = f"The first {listed:,} of {table.num_rows:,} runs are listed." if listed < table.num_rows else ""
    return fill("run_list.html", heads=cells, body="".join(body), note=note)


def _head(name: str) -> str:
    words = breakable(name.replace("data_set", "data set"))
    return f'<th scope="col">{words if name is _TRAVERSALS else f"<button type=button>{words}</button>"}</th>'


def _picture(source: str | None, run: str, link: str) -> str:
    if source is None:
        return f'<a href="{link}">traversals</a>'
    return f'<a href="{link}"><img loading="lazy" src="{source}" alt="Latent traversals of {escape(run)}"></a>'
