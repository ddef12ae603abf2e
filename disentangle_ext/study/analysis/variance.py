"""The share of the variance of scores that objective and hyperparameter explain; the rest is the seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from disentangle_ext.study.analysis._resample import FEWEST_MODELS, check_resampling, draw_counts, percentiles
from disentangle_ext.study.analysis.columns import to_table
from disentangle_ext.study.analysis.scores import Scores, group

__all__ = ["variance_explained"]

_SOURCES = ("objective", "objective and hyperparameter", "seed")


def variance_explained(scores: Any, *, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> Any:
    """The share of a metric's variance over the models of a data set that objective and hyperparameter explain.

    With G settings (objective, hyperparameter and value) of n_g runs with mean m_g, of K objectives with mean m_k, n
    runs with mean m, and the sums of squares

        total = sum (y - m)^2,  objective = sum n_k (m_k - m)^2,  setting = sum n_g (m_g - m)^2,

    ``share`` is objective / total for "objective" and setting / total for "objective and hyperparameter": the R^2 of a
    linear regression on one-hot variables, as in the study. "seed" is the rest, 1 - setting / total.

    ``share`` is too large with few seeds, since means of noise differ too: of scores that are nothing but noise, it is
    (G - 1) / (n - 1) in expectation, 31 % for 12 settings with 3 seeds. ``unbiased`` is omega squared: with the
    variance between seeds s^2 = (total - setting) / (n - G),

        (objective - (K - 1) s^2) / (total + s^2),    (setting - (G - 1) s^2) / (total + s^2),

    and 1 less the latter for the seed. The expectation of the numerator is the sum of squares of the true means, that
    of the denominator the same plus n times the true variance. So omega squared estimates the share for infinitely many
    seeds of the same grid; a ratio of unbiased terms leaves a bias of order 1 / n. It may be below 0. It is NaN where
    no setting has two seeds, and both are NaN for a metric that is constant. With one objective, all is NaN for
    "objective", and with one setting for every source: what does not vary explains nothing that these runs could show.

    The interval is one of that share, around ``unbiased``, so that ``share`` may lie outside of it. It is a percentile
    bootstrap of omega squared within settings: runs are drawn from the residuals of their own setting, stretched by
    sqrt(n_g / (n_g - 1)) because residuals from a mean of few scatter too little, around means that are moved towards
    those of the objectives, and these towards the whole, until the true shares are as estimated. It is NaN for fewer
    than four runs. Seeds are taken for independent, and the grid for fixed: another grid has other shares.

    Args:
        scores: a long table, see :class:`Scores`.
        resamples: number of draws; 0 for no interval.
        level: the probability that an interval is made for.
        seed: the seed of the draws.

    Returns:
        A pyarrow.Table with the columns ``data_set``, ``metric``, ``source`` ("objective", "objective and
        hyperparameter", "seed"), ``share``, ``low``, ``high``, ``unbiased`` and ``n`` (the runs with a score).

    Raises:
        MistakeError: for a wrong table or argument.

    Locatello et al., "Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations",
    ICML 2019 (arXiv 1811.12359), section 5.4; Hays, "Statistics for Psychologists", 1963, for omega squared.
    """
    check_resampling("variance_explained", resamples, level, seed)
    every = Scores.read(scores, "variance_explained")
    names, rows = list(every.metrics), []
    for number, (data_set, here) in enumerate(every.by_data_set()):
        shares = np.full((5, len(_SOURCES), len(names)), np.nan)  # share, low, high, unbiased, n
        scored = np.isfinite(here.scores)
        shares[4] = scored.sum(0)
        for pattern in np.unique(scored, axis=1).T:
            if not pattern.any():
                continue
            alike = np.flatnonzero((scored == pattern[:, None]).all(0))
            rng = np.random.default_rng([seed, number])
            shares[:4, :, alike] = _explain(here.take(pattern), alike, resamples, level, rng)
        rows += [
            (data_set, name, source, *shares[:4, j, i], int(shares[4, j, i]))
            for i, name in enumerate(names)
            for j, source in enumerate(_SOURCES)
        ]
    columns = ("data_set", "metric", "source", "share", "low", "high", "unbiased", "n")
    return to_table(dict(zip(columns, zip(*rows))))


@dataclass(frozen=True, eq=False)
class _Grid:
    """The settings of a study.

    Attributes:
        size: [G], how many runs a setting has.
        member: [K, G], whether a setting belongs to an objective.
    """

    size: np.ndarray
    member: np.ndarray

    def middles(self, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mean of each setting's objective, [..., G], and of all, [..., 1], from the means of settings."""
        sizes = self.member @ self.size
        objectives = (means * self.size) @ (self.member.T / sizes)
        return objectives @ self.member, (means @ self.size / self.size.sum())[..., None]

    def squares(self, means: np.ndarray, within: np.ndarray) -> np.ndarray:
        """[3, ...], the sums of squares between objectives, between settings, and within these, which are given."""
        objectives, whole = self.middles(means)
        return np.stack([(objectives - whole) ** 2 @ self.size, (means - whole) ** 2 @ self.size, within])

    def shrink(self, means: np.ndarray, squares: np.ndarray) -> np.ndarray:
        """[M, G], means whose sums of squares are what is left of these without what noise adds, or 0."""
        objective, setting, within = squares
        k, g = self.member.shape
        noise = within / (self.size.sum() - g)
        between = np.array([objective, setting - objective])
        true = np.maximum(between - np.array([[k - 1], [g - k]]) * noise, 0)
        scale = np.sqrt(np.divide(true, between, out=np.zeros_like(true), where=between > 0))[..., None]
        objectives, whole = self.middles(means)
        return whole + scale[0] * (objectives - whole) + scale[1] * (means - objectives)

    def shares(self, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The share and omega squared, [3, ...] each, by source."""
        objective, setting, within = squares
        total = setting + within
        n, (k, g) = self.size.sum(), self.member.shape
        with np.errstate(invalid="ignore", divide="ignore"):
            noise = within / (n - g) if n > g else np.full_like(within, np.nan)
            omega = [(objective - (k - 1) * noise) / (total + noise), (setting - (g - 1) * noise) / (total + noise)]
            return (
                np.stack([objective / total, setting / total, within / total]),
                np.stack([*omega, 1 - omega[1]]),
            )


def _explain(here: Scores, columns: np.ndarray, resamples: int, level: float, rng: np.random.Generator) -> np.ndarray:
    """[4, 3, M]: share, low, high and omega squared by source, of metrics that all the runs have."""
    scores = here.scores[:, columns] - here.scores[0, columns]  # so that sums of a constant metric are exactly 0
    place = here.settings()
    first = np.unique(place, return_index=True)[1]
    of_objective = group(here.objective)[first]
    size = np.bincount(place)
    grid = _Grid(size, of_objective == np.arange(of_objective.max() + 1)[:, None])
    means = np.stack([np.bincount(place, column) for column in scores.T]) / size
    residuals = scores - means[:, place].T
    squares = grid.squares(means, (residuals**2).sum(0))
    share, omega = grid.shares(squares)
    result = np.full((4, *share.shape), np.nan)
    result[0], result[3] = share, omega
    if resamples and len(scores) > len(size) and len(scores) >= FEWEST_MODELS:
        stretch = np.sqrt(size / np.maximum(size - 1, 1))[place]
        drawn = grid.shrink(means, squares)[None] + np.zeros((resamples, 1, 1))
        within = np.zeros((resamples, len(columns)))
        for each in range(len(size)):
            own = (residuals * stretch[:, None])[place == each]
            times = draw_counts(rng, len(own), resamples)
            moved = times @ own / len(own)
            drawn[:, :, each] += moved
            within += times @ own**2 - len(own) * moved**2
        result[1:3] = percentiles(grid.shares(grid.squares(drawn, within))[1].swapaxes(0, 1), level)
    if len(grid.member) < 2:
        result[:, 0] = np.nan
    if len(size) < 2:
        result[:] = np.nan
    return result
