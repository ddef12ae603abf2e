"""How often a model that one metric chooses beats a random one by another: the study's transfer of good settings."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from disentangle_ext.study.analysis._resample import check_level
from disentangle_ext.study.analysis._trials import Trials, jackknife_interval
from disentangle_ext.study.analysis.columns import to_table

__all__ = ["model_selection", "model_selection_summary"]


def model_selection(
    scores: Any,
    *,
    unsupervised: Collection[str] = (),
    lower_is_better: Collection[str] = (),
    level: float = 0.95,
) -> Any:
    """The probability that the setting which is best by metric A on data set X beats a random one by metric B on Y.

    A setting c is an objective with a value of its hyperparameter; its run with a seed is a model. With each seed s, A
    chooses the setting c(s) of the best model on X. It is tried with every other seed t on Y, against the models of all
    m settings with that seed:

        win(c, t) = (number of c' with B(c', t) < B(c, t) + 1/2 number of c' with B(c', t) = B(c, t)) / m
        probability = mean over s, and t other than s, of win(c(s), t)

    The random model may be the chosen one itself, which is a tie. So a choice that is always the best reaches
    1 - 1 / (2 m), a random choice 1/2, and one that is always the worst 1 / (2 m). Settings that are equally good by A
    count in equal parts. Only settings with scores by B on Y can be chosen. Equal seeds are left out because a choice
    would profit there from its own luck, so two seeds are needed. Two runs of a setting with the same seed count as two
    seeds.

    The study draws at random a metric and a data set to choose by, and then a random model with another seed to compare
    with; averages over such draws are in :func:`model_selection_summary`. Here every choice is tried against all models
    of a seed, which has the same expectation with less noise, and settings are compared within a seed.

    The interval is that of the jackknife over seeds: with p_(i) the probability without seed i, and t the quantile of
    Student's distribution with n - 1 degrees of freedom,

        probability -+ t sqrt((n - 1) / n sum (p_(i) - mean p_(i))^2),    cut off at 0 and 1.

    It is an interval over seeds; the settings, metrics and data sets are fixed. It is NaN with fewer than three seeds,
    and with three it is long. Where all seeds agree, it has no length.

    Args:
        scores: a long table, see :class:`Scores`.
        unsupervised: the metrics that only choose, and that nothing is judged by.
        lower_is_better: the metrics whose lowest score is the best.
        level: the probability that an interval is made for.

    Returns:
        A pyarrow.Table with the columns ``criterion`` (A), ``source_set`` (X), ``metric`` (B), ``target_set`` (Y),
        ``probability``, ``low``, ``high`` and ``n`` (the seeds with which there was a choice), for all combinations.

    Raises:
        MistakeError: for a wrong table, an unknown metric or a wrong level.

    Locatello et al., "Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations",
    ICML 2019 (arXiv 1811.12359), section 5.5.
    """
    check_level("model_selection", level)
    trials = Trials.make(scores, "model_selection", unsupervised, lower_is_better)
    low, high = jackknife_interval(trials.probability, trials.without, trials.involved, level)
    sources, targets = len(trials.source), len(trials.target)
    source, target = (np.array(each, dtype=object).reshape(-1, 2).T for each in (trials.source, trials.target))
    return to_table(
        {
            "criterion": np.repeat(source[0], targets),
            "source_set": np.repeat(source[1], targets),
            "metric": np.tile(target[0], sources),
            "target_set": np.tile(target[1], sources),
            "probability": trials.probability.ravel(),
            "low": low.ravel(),
            "high": high.ravel(),
            "n": trials.choices.ravel(),
        }
    )


def model_selection_summary(
    scores: Any,
    *,
    unsupervised: Collection[str] = (),
    lower_is_better: Collection[str] = (),
    level: float = 0.95,
) -> Any:
    """The means of :func:`model_selection` over metrics and data sets, as in the study's table of transfer.

    It is a mean over all pairs of metrics and data sets, equal or different, in which an unsupervised score chooses in
    no case. The interval is the jackknife over seeds of the mean: the metrics and data sets are fixed.

    Args:
        scores: a long table, see :class:`Scores`.
        unsupervised: the metrics that are left out.
        lower_is_better: the metrics whose lowest score is the best.
        level: the probability that an interval is made for.

    Returns:
        A pyarrow.Table with the columns ``metric`` and ``data_set`` ("same" or "different"), ``probability``, ``low``,
        ``high`` and ``n`` (the pairs that the mean is of); no row where n is 0. The study has 80.7 % where both are the
        same, 59.3 % on a different data set, and 54.9 % where both differ.

    Raises:
        MistakeError: for a wrong table, an unknown metric or a wrong level.
    """
    check_level("model_selection_summary", level)
    trials = Trials.make(scores, "model_selection_summary", unsupervised, lower_is_better)
    judges = {metric for metric, _ in trials.target}
    rows = []
    for metric in ("same", "different"):
        for data_set in ("same", "different"):
            wanted = [
                [
                    a in judges and (a == b) == (metric == "same") and (x == y) == (data_set == "same")
                    for b, y in trials.target
                ]
                for a, x in trials.source
            ]
            kept = np.array(wanted) & np.isfinite(trials.probability)
            if kept.any():
                probability = trials.probability[kept].mean()
                without, involved = trials.without[kept].mean(0), trials.involved[kept].any(0)
                low, high = jackknife_interval(probability, without, involved, level)
                rows.append((metric, data_set, probability, low, high, kept.sum()))
    columns = ("metric", "data_set", "probability", "low", "high", "n")
    cells = list(zip(*rows)) or [()] * len(columns)
    types = (object, object, np.float64, np.float64, np.float64, np.int64)
    return to_table({name: np.array(cell, dtype=kind) for name, cell, kind in zip(columns, cells, types)})
