"""Settings that are chosen with one seed, and tried with the others."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from disentangle_ext.metrics._interval import student_quantile
from disentangle_ext.study.analysis.scores import Scores, group

__all__ = ["Trials", "jackknife_interval"]

_ROUNDING = 1e-9
"""More than the errors of sums that should be 0, and less than the part of one setting in a choice."""


@dataclass(frozen=True, eq=False)
class Trials:
    """Every choice, tried by every metric on every data set.

    Attributes:
        source: the A pairs of criterion and data set that choose.
        target: the B pairs of metric and data set that judge.
        probability: [A, B], how often the chosen setting beats a random one; NaN without a trial.
        without: [A, B, S], the same without each of the seeds.
        involved: [A, B, S], whether a seed takes part.
        choices: [A, B], the seeds with which there was a choice.
    """

    source: list[tuple[str, str]]
    target: list[tuple[str, str]]
    probability: np.ndarray
    without: np.ndarray
    involved: np.ndarray
    choices: np.ndarray

    @classmethod
    def make(cls, scores: Any, where: str, unsupervised: Collection[str], lower_is_better: Collection[str]) -> Trials:
        """Try the choices of all metrics by those that are not ``unsupervised``; ``where`` begins the errors."""
        every = Scores.read(scores, where)
        only_choose = every.columns_of(unsupervised, where, "unsupervised")
        sign = np.ones(len(every.metrics))
        sign[every.columns_of(lower_is_better, where, "lower_is_better")] = -1
        sets = list(dict.fromkeys(every.data_set))
        names = [(metric, data_set) for metric in every.metrics for data_set in sets]
        models = _models(every, every.scores * sign)
        judges = [i for i in range(len(names)) if i // len(sets) not in only_choose]
        wins = _wins(models[judges])
        tried = np.isfinite(wins)
        won, all_trials = (np.zeros((3, len(names), len(judges), models.shape[2])) for _ in range(2))
        # A setting that is never tried cannot be chosen; targets that try the same settings share the choices.
        offered = tried.any(2)
        for pattern in np.unique(offered, axis=0):
            targets = np.flatnonzero((offered == pattern).all(1))
            choice = _choices(np.where(pattern[:, None], models, np.nan))
            won[:, :, targets] = _sums(choice, np.nan_to_num(wins[targets]))
            all_trials[:, :, targets] = _sums(choice, tried[targets].astype(np.float64))
        with np.errstate(invalid="ignore", divide="ignore"):
            return cls(
                source=names,
                target=[names[i] for i in judges],
                probability=won[0, ..., 0] / all_trials[0, ..., 0],
                without=_shares(won[0] - won[1] - won[2], np.round(all_trials[0] - all_trials[1] - all_trials[2], 9)),
                involved=all_trials[1] + all_trials[2] > _ROUNDING,
                choices=(all_trials[1] > _ROUNDING).sum(-1),
            )


def _shares(won: np.ndarray, tried: np.ndarray) -> np.ndarray:
    """won / tried, NaN where nothing was tried: what rounding has left of ``won`` would be infinite there."""
    return np.divide(won, tried, out=np.full(won.shape, np.nan), where=tried > 0)


def jackknife_interval(
    probability: np.ndarray, without: np.ndarray, involved: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the jackknife's interval of probabilities, [...], from those without each of S seeds, [..., S]."""
    seeds = involved.sum(-1)
    mean = np.divide(np.where(involved, without, 0).sum(-1), seeds, out=np.full(seeds.shape, np.nan), where=seeds > 2)
    squares = np.where(involved, (without - mean[..., None]) ** 2, 0).sum(-1)
    known = {int(each): student_quantile(level, int(each) - 1) for each in np.unique(seeds) if each > 2}
    quantile = np.array([known.get(int(each), np.nan) for each in seeds.ravel()]).reshape(seeds.shape)
    reach = quantile * np.sqrt(squares * (seeds - 1) / np.maximum(seeds, 1))
    return np.clip(probability - reach, 0, 1), np.clip(probability + reach, 0, 1)


def _models(every: Scores, scores: np.ndarray) -> np.ndarray:
    """[metrics x data sets, settings, seeds], NaN where there is no score."""
    setting = every.settings()
    data_set = group(every.data_set)
    # The second run of a setting with the same seed is one more seed.
    seen: dict[tuple[int, ...], int] = {}
    repeat = np.empty(len(setting), dtype=np.int64)
    for i, key in enumerate(zip(data_set.tolist(), setting.tolist(), every.seed.tolist())):
        repeat[i] = seen[key] = seen.get(key, -1) + 1
    seed = group(every.seed, repeat)
    cube = np.full((len(every.metrics), data_set.max() + 1, setting.max() + 1, seed.max() + 1), np.nan)
    cube[:, data_set, setting, seed] = scores.T
    return cube.reshape(-1, *cube.shape[2:])


def _wins(models: np.ndarray) -> np.ndarray:
    """[B, C, S], how often each model beats a random one with its seed; NaN for what is no model."""
    lower = np.zeros(models.shape)
    for other in models.swapaxes(0, 1):
        lower += (other[:, None] < models) + 0.5 * (other[:, None] == models)
    count = np.isfinite(models).sum(1, keepdims=True)
    return np.where(np.isfinite(models), lower / np.maximum(count, 1), np.nan)


def _choices(models: np.ndarray) -> np.ndarray:
    """[A, C, S], the share that each setting has in the choice with a seed: equal parts for equally good ones."""
    best = np.where(np.isfinite(models), models, -np.inf).max(1, keepdims=True)
    chosen = (models == best).astype(np.float64)
    return chosen / np.maximum(chosen.sum(1, keepdims=True), 1)


def _sums(choice: np.ndarray, value: np.ndarray) -> np.ndarray:
    """[3, A, B, S], sums of choice(c, s) value(c, t) over settings c and seeds s other than t.

    The first is over all pairs of seeds, and the same for every S; the second over those that choose with the seed, and
    the third over those that try with it.
    """
    same = (choice.transpose(2, 0, 1) @ value.transpose(2, 1, 0)).transpose(1, 2, 0)
    chosen = np.einsum("acs,bc->abs", choice, value.sum(2), optimize=True) - same
    tried = np.einsum("ac,bct->abt", choice.sum(2), value, optimize=True) - same
    return np.stack([np.broadcast_to(chosen.sum(-1, keepdims=True), chosen.shape), chosen, tried])
