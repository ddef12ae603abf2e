"""Scores for each value of what varies, with the seeds taken together: as text, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext._files import write_atomically
from disentangle_ext.metrics.suite import SUITE
from disentangle_ext.runs.config import TrainConfig
from disentangle_ext.study.run import Variation, variations
from disentangle_ext.study.run_scores import DOWNSTREAM, SCORE, read_run_scores

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Line", "Scored", "as_csv", "as_latex", "as_text", "scored", "summarise", "summary_of", "write_summary"]


class Scored(NamedTuple):
    """A score of a run."""

    setting: Variation
    """What the runs of a line have in common."""
    metric: str
    score: float


class Line(NamedTuple):
    """A score of the runs that differ in nothing but their seed."""

    setting: Variation
    metric: str
    n: int
    """How many runs have the score."""
    mean: float
    sd: float
    """The standard deviation over seeds, with n - 1; NaN for one run."""
    median: float


def scored(table: pyarrow.Table) -> list[Scored]:
    """The rows of a long table, see :func:`study.records.long_table`."""
    names = (*Variation._fields, "metric", "score")
    columns = [table.column(name).to_pylist() for name in names]
    return [Scored(Variation(*row[:4]), *row[4:]) for row in zip(*columns)]


def summary_of(runs: Sequence[tuple[TrainConfig, Path]]) -> tuple[list[Line], list[str]]:
    """Summarise finished runs, without the extra ``study``.

    Args:
        runs: their configurations and folders.

    Returns:
        The lines, and what is wrong with the runs that are left out.
    """
    settings = variations([config.plain() for config, _ in runs])
    scores: list[Scored] = []
    problems: list[str] = []
    for setting, (_, folder) in zip(settings, runs):
        try:
            found = read_run_scores(folder)
        except MistakeError as error:
            problems.append(f"{error}; the run is left out")
            continue
        scores.extend(Scored(setting, metric, parts[SCORE]) for metric, parts in found.items())
    return summarise(scores), problems


def summarise(scores: Iterable[Scored]) -> list[Line]:
    """Mean, standard deviation, median and number of the scores of each setting, settings and metrics in their order.

    Args:
        scores: of any runs, in any order; what is not finite is left out.
    """
    groups: dict[tuple[Variation, str], list[float]] = defaultdict(list)
    for setting, metric, score in scores:
        if math.isfinite(score):
            groups[setting, metric].append(score)
    lines = []
    for (setting, metric), values in sorted(
        groups.items(), key=lambda group: (_place(group[0][0]), _rank(group[0][1]))
    ):
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        lines.append(Line(setting, metric, len(values), float(np.mean(values)), sd, float(np.median(values))))
    return lines


def as_text(lines: Sequence[Line], *, width: int = 100, metrics: Collection[str] | None = None) -> str:
    """Tables for the terminal, one for each data set, cut into as many as the width needs.

    Args:
        lines: from :func:`summarise`.
        width: columns of the terminal.
        metrics: the metrics to show; default: all.
    """
    parts = []
    for data_set, table in _tables(lines, metrics).items():
        names = [_name(setting) for setting in table.settings]
        left = max(map(len, names))
        parts.append(f"{data_set}: mean, standard deviation and median of n runs that differ in their seed")
        blocks = [_block(table, metric) for metric in table.metrics]
        while blocks:
            fitting = 1
            while left + sum(len(block[0]) + 3 for block in blocks[: fitting + 1]) <= width and fitting < len(blocks):
                fitting += 1
            rows = zip(["", "", *names], *blocks[:fitting])
            parts.extend("   ".join([row[0].ljust(left), *row[1:]]).rstrip() for row in rows)
            parts.append("")
            blocks = blocks[fitting:]
    return "\n".join(parts)


def as_csv(lines: Sequence[Line]) -> str:
    """A row for each line, with all digits: data_set, objective, hyperparameter, value, metric, n, mean, sd, median."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*Variation._fields, *Line._fields[1:]])
    for line in lines:
        writer.writerow([*line.setting, *("" if each != each else each for each in line[1:])])
    return file.getvalue()


def as_latex(lines: Sequence[Line], *, columns: int = 5) -> str:
    r"""Tables for a paper that uses ``booktabs``, one for each data set and ``columns`` metrics.

    The best mean of a column is bold where it is ahead of every other by more than the standard error of their
    difference, sqrt(sd_1^2 / n_1 + sd_2^2 / n_2): the captions say so. Scores of which neither end is good, as the KL,
    have none, nor do columns with a single run in some setting.
    """
    parts = ["% \\usepackage{booktabs}"]
    for data_set, table in _tables(lines, None).items():
        for begin in range(0, len(table.metrics), columns):
            metrics = table.metrics[begin : begin + columns]
            rows = ["setting & " + " & ".join(map(_escape, metrics)) + r" \\", r"\midrule"]
            for setting in table.settings:
                cells = [_cell(table, setting, metric) for metric in metrics]
                rows.append(" & ".join([_escape(_name(setting)), *cells]) + r" \\")
            body = "\n".join(rows)
            parts.append(
                f"\\begin{{table}}\n\\centering\n\\caption{{{_escape(data_set)}: {_CAPTION}}}\n"
                f"\\begin{{tabular}}{{l{'c' * len(metrics)}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"
                "\\end{table}"
            )
    return "\n\n".join(parts) + "\n"


def write_summary(folder: Path, lines: Sequence[Line]) -> list[Path]:
    """Write summary.csv and summary.tex.

    Raises:
        WriteError: if the disk is full, and so on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {folder / "summary.csv": as_csv(lines), folder / "summary.tex": as_latex(lines)}
    for path, content in contents.items():
        write_atomically(path, content.encode())
    return list(contents)


_CAPTION = (
    "mean $\\pm$ standard deviation (median; number of runs) over seeds. Bold: the best mean of a column, where it is "
    "ahead of every other by more than the standard error of their difference."
)

_FIRST = (*SUITE, "udr", "elbo", "reconstruction", "kl")
_LOWER = ("reconstruction", "gaussian_total_correlation", "wasserstein_correlation", "mutual_information_score")
_HIGHER = (*(name for name in SUITE if name not in (*_LOWER, "active_units")), "correlation", "udr", "elbo")


class _Table(NamedTuple):
    """The lines of a data set."""

    settings: list[Variation]
    metrics: list[str]
    lines: dict[tuple[Variation, str], Line]


def _tables(lines: Sequence[Line], metrics: Collection[str] | None) -> dict[str, _Table]:
    tables: dict[str, _Table] = {}
    chosen = [line for line in lines if metrics is None or line.metric in metrics]
    for data_set in dict.fromkeys(line.setting.data_set for line in chosen):
        own = [line for line in chosen if line.setting.data_set == data_set]
        tables[data_set] = _Table(
            list(dict.fromkeys(line.setting for line in own)),
            sorted({line.metric for line in own}, key=_rank),
            {(line.setting, line.metric): line for line in own},
        )
    return tables


def _place(setting: Variation) -> tuple[object, ...]:
    """Settings in the order of their numbers."""
    values = [(0, float(part), "") if _is_number(part) else (1, 0.0, part) for part in setting.value.split(",")]
    return setting.data_set, setting.objective, setting.hyperparameter, values


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _rank(metric: str) -> tuple[int, int, str]:
    """Metrics in the order of the suite, the accuracies downstream by their labels, then all others."""
    labels = metric.removeprefix(f"{DOWNSTREAM}_")
    if metric != labels and labels.isdecimal():
        return _FIRST.index(DOWNSTREAM), int(labels), metric
    return (_FIRST.index(metric), 0, metric) if metric in _FIRST else (len(_FIRST), 0, metric)


def _name(setting: Variation) -> str:
    """The objective and what varies of it: "beta_vae beta=4"."""
    names, values = setting.hyperparameter.split(","), setting.value.split(",")
    if not setting.hyperparameter:
        return setting.objective
    if len(names) != len(values):  # a value has commas itself
        return f"{setting.objective} {setting.hyperparameter}={setting.value}"
    return " ".join([setting.objective, *(f"{name}={value}" for name, value in zip(names, values))])


def _block(table: _Table, metric: str) -> list[str]:
    """The columns of a metric: two lines of headings, and one for each setting."""
    rows = [["n", "mean", "sd", "median"]]
    for setting in table.settings:
        line = table.lines.get((setting, metric))
        rows.append([str(line.n), *map(_number, line[3:])] if line else ["0", "-", "-", "-"])
    widths = [max(map(len, column)) for column in zip(*rows)]
    texts = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]
    size = max(len(metric), len(texts[0]))
    return [metric.center(size), *(text.rjust(size) for text in texts)]


def _number(value: float) -> str:
    if value != value:
        return "-"
    text = f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"
    return text if float(text) else text.lstrip("-")


def _cell(table: _Table, setting: Variation, metric: str) -> str:
    line = table.lines.get((setting, metric))
    if line is None:
        return "--"
    mean = _number(line.mean)
    mean = f"\\mathbf{{{mean}}}" if _is_ahead(table, line) else mean
    spread = f" \\pm {_number(line.sd)}" if line.n > 1 else ""
    return f"${mean}{spread}$ (${_number(line.median)}$; {line.n})"


def _is_ahead(table: _Table, line: Line) -> bool:
    """Whether a mean is better than that of every other setting by more than the standard error of the difference."""
    sign = _sign(line.metric)
    others = [each for each in table.lines.values() if each.metric == line.metric and each is not line]
    ahead = [sign * (line.mean - each.mean) > math.sqrt(line.sd**2 / line.n + each.sd**2 / each.n) for each in others]
    return bool(sign and ahead and all(ahead))


def _sign(metric: str) -> int:
    """1 where more is better, -1 where less is, 0 where neither."""
    if metric in _HIGHER or metric.startswith(f"{DOWNSTREAM}_"):
        return 1
    return -1 if metric in _LOWER else 0


def _escape(text: str) -> str:
    return "".join(_ESCAPES.get(each, each) for each in text)


_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{each: f"\\{each}" for each in "&%$#_{}"},
}
