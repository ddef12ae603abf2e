"""What the intervals of several analyses have in common: checks, draws and percentiles."""

from __future__ import annotations

import warnings

import numpy as np

from disentangle_ext._errors import MistakeError, describe

__all__ = ["FEWEST_MODELS", "check_level", "check_resampling", "draw_counts", "percentiles"]

FEWEST_MODELS = 4
"""The fewest models for an interval by a bootstrap: most draws of 3 hold two different models, whose correlation is 1
or -1 whatever their scores."""


def check_level(where: str, level: float) -> None:
    if isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 < level < 1:
        raise MistakeError(f"{where}: level must be greater than 0 and less than 1, got {describe(level)}")


def check_resampling(where: str, resamples: int, level: float, seed: int) -> None:
    """Check the arguments of a bootstrap; ``resamples`` may be 0, for none."""
    check_level(where, level)
    for name, value in (("resamples", resamples), ("seed", seed)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise MistakeError(f"{where}: {name} must be a whole number of at least 0, got {describe(value)}")


def draw_counts(rng: np.random.Generator, items: int, resamples: int) -> np.ndarray:
    """[resamples, items], float64: how often each item is among as many draws with replacement."""
    drawn = rng.integers(items, size=(resamples, items)) + items * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * items)
    return counts.reshape(resamples, items).astype(np.float64)


def percentiles(drawn: np.ndarray, level: float) -> np.ndarray:
    """[2, ...], both ends of the percentile interval of [resamples, ...]; resamples that are NaN are left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where all are NaN
        return np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
