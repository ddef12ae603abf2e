"""Draws that the metrics with a factor held fixed have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext.metrics.representation import Representation

__all__ = ["draw_factors", "factors_to_draw", "represent", "slices"]

# Codes in one slice of batches: 32 MB of float64 with ten dimensions.
_SLICE = 1 << 19


def represent(where: str, codes: Any, factors: Any, factor_names: Sequence[str] | None) -> Representation:
    """The argument ``codes`` as a representation: it is one, or a table with its factors."""
    if not isinstance(codes, Representation):
        if factors is None:
            raise MistakeError(f"{where}: factors must be given with a table of codes")
        return Representation._from_table(where, codes, factors, factor_names)
    if factors is not None or factor_names is not None:
        raise MistakeError(f"{where}: a Representation has its own factors and factor_names: give no others")
    return codes


def factors_to_draw(where: str, representation: Representation) -> np.ndarray:
    """The columns of the factors that vary: to hold a constant one is to hold none."""
    columns = np.flatnonzero(np.array(representation.sizes) > 1)
    if not len(columns):
        raise MistakeError(
            f"{where}: factors must hold a column with two values or more, got {len(representation)} equal rows"
        )
    return columns


def draw_factors(columns: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """The factor that each of ``count`` batches holds fixed, drawn uniformly: [count]."""
    return columns[rng.integers(0, len(columns), count)]


def slices(held: np.ndarray, batch_size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Each factor with the batches that hold it, so many at a time that their codes fit in memory."""
    for k in np.unique(held):
        batches = np.flatnonzero(held == k)
        for start in range(0, len(batches), max(1, _SLICE // batch_size)):
            yield int(k), batches[start : start + max(1, _SLICE // batch_size)]
