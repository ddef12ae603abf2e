"""Which figures a study has, and why not others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from disentangle_ext._extras import require
from disentangle_ext.study import analysis
from disentangle_ext.study.analysis import Scores
from disentangle_ext.study.page.figure import Figure, Omitted, Section
from disentangle_ext.study.page.heat_maps import correlation_maps, selection_maps
from disentangle_ext.study.page.numbers import rows_of
from disentangle_ext.study.page.panels import FEWEST, POINTS, hyperparameter_panels, scatter_panels, violin_panels
from disentangle_ext.study.page.pictures import exemplars_html
from disentangle_ext.study.page.roles import DOWNSTREAM, Roles
from disentangle_ext.study.page.shares import share_panels

__all__ = ["Study"]

_PANELS = 32
"""Panels of a kind of figure, at most, over all data sets: a page of more is slow to write, to open and to read."""
_COLUMNS = 56
"""Columns of a figure's heat maps, at most, over all data sets."""
_RESAMPLES_OF = 4_000_000
"""Bootstrap draws of a model and metric, at most, which bounds the seconds of a large study."""


@dataclass(frozen=True, eq=False)
class Study:
    """The scores of a study, with the tables that its figures are drawn from.

    Attributes:
        scores: runs and metrics.
        paths: the folder of each run.
        folder: the folder of the page.
    """

    scores: Scores
    paths: dict[str, Path]
    folder: Path

    @cached_property
    def roles(self) -> Roles:
        return Roles.of(self.scores.metrics)

    @cached_property
    def objectives(self) -> list[str]:
        return sorted(set(self.scores.objective.tolist()))

    @cached_property
    def data_sets(self) -> list[str]:
        return sorted(set(self.scores.data_set.tolist()))

    @cached_property
    def correlations(self) -> Any:
        return self._correlate(self.roles.metrics, self.roles.metrics)

    @cached_property
    def spread(self) -> Any:
        return analysis.distributions(self.scores)

    @cached_property
    def shares(self) -> Any:
        return analysis.variance_explained(self.scores, resamples=self._resamples)

    @cached_property
    def transfer(self) -> Any:
        """The study's table of transfer; None without a second setting or seed."""
        return analysis.model_selection_summary(self._directed, **self._orders) if self._can_select else None

    @property
    def sections(self) -> tuple[Section, ...]:
        """The parts of the page in their order, each with its figures or why it has none."""
        return (
            Section("correlations", "Rank correlation of all metrics", _CORRELATIONS, (self._heat_map(),)),
            Section("violins", "Scores by objective", _VIOLINS, tuple(self._violins())),
            Section("hyperparameters", "Scores by hyperparameter", _HYPERPARAMETERS, tuple(self._hyperparameters())),
            Section("variance", "What explains the scores", _VARIANCE, (self._variance(),)),
            Section("selection", "Model selection", _SELECTION, (self._selection(),)),
            Section("unsupervised", "Unsupervised scores and metrics", _UNSUPERVISED, tuple(self._unsupervised())),
            Section("downstream", "Metrics and accuracy downstream", _DOWNSTREAM, tuple(self._downstream())),
            Section("exemplars", "Best, median and worst runs", _EXEMPLARS, (self._exemplars(),)),
        )

    @property
    def _resamples(self) -> int:
        return int(np.clip(_RESAMPLES_OF // max(1, len(self.scores.run)), 200, 1000))

    def _correlate(self, rows: tuple[str, ...], columns: tuple[str, ...]) -> Any:
        return analysis.rank_correlations(self.scores, rows=rows, columns=columns, resamples=self._resamples)

    def _heat_map(self) -> Figure | Omitted:
        metrics = self.roles.metrics
        if len(metrics) < 2:
            return Omitted("A correlation takes two metrics, and there are fewer.")
        chart = correlation_maps(self.correlations, metrics, metrics)
        words = f"Spearman's rank correlation of {len(metrics)} metrics over the models of each data set."
        interval = f"the 95 % bootstrap interval over models, from {self._resamples:,} resamples"
        caption = f"{words} The tooltip has {interval}, and the number of models."
        return Figure("correlations", "Rank correlation of all metrics", caption, words, self.correlations, chart)

    def _violins(self) -> Iterator[Figure | Omitted]:
        for i, (data_set, here) in enumerate(self.scores.by_data_set()):
            table = _only(self.spread, data_set)
            metrics, note = self._drawn(_present(self.roles.every, table))
            chart, drawn = violin_panels(here, table, metrics, self.objectives, points=self._points)
            words = f"Each metric on {data_set}, by objective: all values of the hyperparameter and all seeds."
            count = _count(drawn, len(here.run))
            shapes = f"Shapes are densities of all runs, where an objective has {FEWEST} or more"
            caption = f"{words} {shapes}, bars medians, points runs: {count}.{note}"
            name = self._name("violins", i)
            yield Figure(name, f"Scores on {data_set}", caption, words, table, chart, folded=i > 0)

    def _hyperparameters(self) -> Iterator[Figure | Omitted]:
        table = analysis.by_hyperparameter(self.scores)
        settings = {(row["objective"], row["value"]) for row in rows_of(table.select(["objective", "value"]))}
        if len(settings) == len(self.objectives):
            yield Omitted("No objective has two values of a hyperparameter.")
            return
        for i, data_set in enumerate(self.data_sets):
            own = _only(table, data_set)
            metrics, note = self._drawn(_present(self.roles.every, own))
            chart = hyperparameter_panels(own, metrics, self.objectives)
            words = f"Median and quartiles over seeds of each metric on {data_set}, by the value of the hyperparameter."
            name, title = self._name("hyperparameters", i), f"Scores by hyperparameter on {data_set}"
            levels = _LEVELS if "" in own.column("value").to_pylist() else ""
            yield Figure(name, title, f"{words}{levels}{note}", words, own, chart, folded=i > 0)

    def _variance(self) -> Figure | Omitted:
        settings = self.scores.settings()
        if settings.max() == 0:
            return Omitted("All runs have the same objective and hyperparameter, which therefore explain nothing.")
        if len(np.unique(settings)) == len(settings):
            return Omitted("No setting has two seeds, so that nothing tells the seed's part from the rest.")
        chart = share_panels(self.shares, self.roles.every)
        words = "The share of the variance of each metric that objective, hyperparameter and seed explain."
        return Figure("variance", "Variance explained", f"{words} {_SHARE_MARKS}", words, self.shares, chart)

    @property
    def _can_select(self) -> bool:
        enough = self.scores.settings().max() > 0 and len(set(self.scores.seed.tolist())) > 1
        return bool(enough and self._judges)

    @property
    def _judges(self) -> list[str]:
        return [name for name in self.roles.metrics if name in self.roles.directed]

    @property
    def _directed(self) -> Scores:
        """The scores that can choose."""
        metrics = tuple(name for name in self.scores.metrics if name in self.roles.directed)
        return replace(
            self.scores, metrics=metrics, scores=self.scores.scores[:, np.isin(self.scores.metrics, metrics)]
        )

    @property
    def _orders(self) -> dict[str, Any]:
        return {
            "unsupervised": [name for name in self.roles.directed if name not in self.roles.metrics],
            "lower_is_better": self.roles.lower_is_better,
        }

    def _selection(self) -> Figure | Omitted:
        if not self._judges:
            return Omitted("There is no metric of which one end is known to be the better one.")
        if not self._can_select:
            return Omitted("A selection takes two settings and two seeds to choose from.")
        table = analysis.model_selection(self._directed, **self._orders)
        rows = rows_of(table)
        same = [row for row in rows if row["source_set"] == row["target_set"]]
        groups = {"the same data set": _means(same)}
        if len(self.data_sets) > 1:
            groups["another data set"] = _means([row for row in rows if row["source_set"] != row["target_set"]])
        chart = selection_maps(groups, self.roles.directed, self._judges)
        words = (
            "The probability that the setting which is best by the score of a row beats a random one by the metric of "
            "a column, with another seed"
        )
        mean = ", mean over data sets" if len(self.data_sets) > 1 else ""
        interval = "The table has its interval over seeds for each pair of data sets."
        caption = f"{words}{mean}. {self._ends} {interval}"
        return Figure("selection", "Model selection", caption, f"{words}.", table, chart)

    @property
    def _ends(self) -> str:
        """Which end of a score is taken as the best, and which scores have none."""
        lower, directed = self.roles.lower_is_better, self.roles.directed
        unknown = [name for name in self.roles.every if name not in directed]
        text = f"The highest score is taken as the best{f', but the lowest of {_listed(lower)}' if lower else ''}."
        if unknown:
            text += f" Left out, since neither end is known to be the better one: {_listed(unknown)}."
        return text

    def _unsupervised(self) -> Iterator[Figure | Omitted]:
        if not (self.roles.unsupervised and self.roles.metrics):
            yield Omitted("The runs have no unsupervised score, or no metric to hold against it.")
            return
        table = self._correlate(self.roles.unsupervised, self.roles.metrics)
        words = (
            "Rank correlation of scores that need no factors (rows) with metrics (columns), over the models of a set."
        )
        columns, note = self._columns
        chart = correlation_maps(table, self.roles.unsupervised, columns)
        yield Figure("unsupervised", "Unsupervised scores against metrics", words + note, words, table, chart)
        main = self.roles.main()
        yield from self._scatter("unsupervised-runs", [(each, main) for each in self.roles.unsupervised])

    def _downstream(self) -> Iterator[Figure | Omitted]:
        if not (self.roles.downstream and self.roles.metrics):
            yield Omitted("The runs have no accuracy downstream: score them by the metric downstream.")
            return
        table = self._correlate(self.roles.downstream, self.roles.metrics)
        words = (
            "Rank correlation of the accuracy of a classifier of the factors with metrics, over the models of a set; "
            "the number in a name is that of labels, and downstream has the most."
        )
        columns, note = self._columns
        chart = correlation_maps(table, self.roles.downstream, columns)
        yield Figure("downstream", "Metrics against accuracy downstream", words + note, words, table, chart)
        names = self.roles.downstream
        accuracy = f"{DOWNSTREAM}_100" if f"{DOWNSTREAM}_100" in names else names[0]
        yield from self._scatter("downstream-runs", [(each, accuracy) for each in self.roles.metrics])

    @property
    def _points(self) -> int:
        return POINTS // len(self.data_sets)

    def _drawn(self, names: list[Any], panels: int = _PANELS) -> tuple[list[Any], str]:
        """The first of ``names``, as many as each data set has panels for, and a sentence where these are not all."""
        most = max(2, panels // len(self.data_sets))
        note = f" The first {most} of {len(names)} scores are drawn; the table has all." if most < len(names) else ""
        return names[:most], note

    @property
    def _columns(self) -> tuple[list[str], str]:
        """The metrics that heat maps have beside that of all metrics: numbers in cells are slow to draw."""
        return self._drawn(list(self.roles.metrics), _COLUMNS)

    def _scatter(self, name: str, pairs: list[tuple[str, str]]) -> Iterator[Figure]:
        names = list(dict.fromkeys(each for pair in pairs for each in pair))
        pairs, note = self._drawn(pairs, _PANELS // 2)
        for i, (data_set, here) in enumerate(self.scores.by_data_set()):
            prefix = name.replace("-", "_")
            chart, drawn = scatter_panels(here, pairs, self.objectives, name=prefix, points=self._points)
            words = (
                f"{pairs[0][1]} against {'each unsupervised score' if name[0] == 'u' else 'each metric'} on {data_set}."
            )
            caption = f"{words} A point is a run: {_count(drawn, len(here.run))}.{note}"
            table = require("pyarrow", extra="study", what="study report").table(
                {"run": here.run, "objective": here.objective, "value": here.value, "seed": here.seed}
                | {f"score: {each}": here.scores[:, here.metrics.index(each)] for each in names}
            )
            title = f"{pairs[0][1]}, run by run, on {data_set}"
            yield Figure(self._name(name, i), title, caption, words, table, chart, folded=i > 0)

    def _exemplars(self) -> Figure | Omitted:
        metric = self.roles.main()
        if metric not in self.roles.directed:
            return Omitted("There is no score of which one end is known to be the better one.")
        table = analysis.exemplars(self.scores, metric, lower_is_better=self.roles.lower_is_better)
        if not table.num_rows:
            return Omitted(f"No run has a score by {metric}.")
        html = exemplars_html(table, self.paths, self.folder, metric=metric)
        words = f"Latent traversals of the best, the median and the worst run of each objective by {metric}."
        return Figure("exemplars", "Exemplars", f"{words} A click opens the picture in full.", words, table, html=html)

    def _name(self, figure: str, data_set: int) -> str:
        """A file's name: a data set may have any, in which a path could hide."""
        if len(self.data_sets) == 1:
            return figure
        plain = re.sub(r"[^A-Za-z0-9]+", "-", self.data_sets[data_set]).strip("-")[:40]
        return f"{figure}-{data_set + 1}-{plain}".rstrip("-")


def _only(table: Any, data_set: str) -> Any:
    return table.filter(np.array(table.column("data_set").to_pylist(), dtype=object) == data_set)


def _present(names: tuple[str, ...], table: Any) -> list[str]:
    known = set(table.column("metric").to_pylist())
    return [name for name in names if name in known]


def _listed(names: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _count(drawn: int, runs: int) -> str:
    return f"{drawn:,} of {runs:,} runs drawn" if drawn < runs else f"all {runs:,}"


def _means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean over data sets per criterion and metric; the interval is kept where there is one set."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["probability"] == row["probability"]:
            groups.setdefault((row["criterion"], row["metric"]), []).append(row)
    means = []
    for (criterion, metric), group in groups.items():
        alone = group[0] if len(group) == 1 else {"low": None, "high": None}
        probability = float(np.mean([row["probability"] for row in group]))
        seeds = min(row["n"] for row in group)
        kept = {"probability": probability, "low": alone["low"], "high": alone["high"], "n": seeds}
        means.append({"criterion": criterion, "metric": metric, **kept})
    return means


_CORRELATIONS = (
    "Do metrics agree on which model is the better one? 1 (blue): they order the models alike; -1 (red): the other way."
)
_VIOLINS = "How far do objectives differ, and how far do runs of one objective differ among themselves?"
_HYPERPARAMETERS = "Is there a value that is good for a metric, beyond what the seed alone does?"
_LEVELS = " A dashed line and its band are those of runs without a value, across the panel."
_VARIANCE = (
    "How much of the spread of a score is due to the objective, to objective and hyperparameter, and to the seed alone?"
)
_SHARE_MARKS = (
    "A dot is the share without the bias of few seeds (omega squared) with its 95 % interval; the diamond is the share "
    "as the published study computes it (R squared)."
)
_SELECTION = (
    "Does a setting that one metric finds best do well by another metric, or on another data set? 0.5 is chance."
)
_UNSUPERVISED = "Could a good model be found without labels of the factors?"
_DOWNSTREAM = "Does a better score mean that a classifier of the factors needs fewer labels?"
_EXEMPLARS = "What do the numbers look like? Each row of a picture moves one latent."
