"""Codes on a grid of cyclic factors: which rows an action of the group takes to which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext.metrics._discrete import check_table, to_classes
from disentangle_ext.metrics._problem import check_count, check_names

__all__ = ["CyclicCodes", "pose_cyclic"]


@dataclass(frozen=True, eq=False)
class CyclicCodes:
    """Checked codes of distinct combinations of cyclic factors.

    Attributes:
        where: the name of the metric; begins the errors.
        codes: [M, D], float64, about their mean and divided by their largest magnitude; 0 if they are all equal.
        classes: [M, K], distinct rows, sorted: the class of each factor that varies.
        sizes: how many classes each of these has.
        factor_names: the names of these.
        num_points: how many rows there were.
    """

    where: str
    codes: np.ndarray
    classes: np.ndarray
    sizes: tuple[int, ...]
    factor_names: tuple[str, ...]
    num_points: int

    @property
    def whole(self) -> bool:
        """Whether every combination is there."""
        return len(self.codes) == int(np.prod(self.sizes, dtype=np.float64))

    @cached_property
    def _flat(self) -> np.ndarray:
        return self._index(self.classes)

    def step(self, factor: int, steps: int = 1) -> np.ndarray:
        """For each row the row that ``steps`` steps along a factor lead to; -1 where it is not there."""
        moved = self.classes.copy()
        moved[:, factor] = (moved[:, factor] + steps) % self.sizes[factor]
        flat = self._index(moved)
        place = np.minimum(np.searchsorted(self._flat, flat), len(self._flat) - 1)
        return np.where(self._flat[place] == flat, place, -1)

    def _index(self, classes: np.ndarray) -> np.ndarray:
        return np.ravel_multi_index(tuple(classes.T), self.sizes)


def pose_cyclic(
    where: str, codes: Any, factors: Any, sizes: Sequence[int] | None, factor_names: Sequence[str] | None
) -> CyclicCodes:
    """Checks codes and cyclic factors, and keeps the first row of each combination of factors.

    Args:
        where: the name of the metric; begins the errors.
        codes, factors, factor_names: as the metrics take them.
        sizes: the number of classes of each factor, which then holds 0 to n - 1. None: the distinct values of each
            column, in order, are its classes.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, wrong names or sizes, or a group with
            more elements than int64 counts.
        TypeError: for codes or factors that are not real numbers.
    """
    table, labels = check_table(codes, factors, where)
    names = check_names(where, factor_names, labels.shape[1])
    if sizes is None:
        classes, counts = to_classes(labels)
    else:
        classes, counts = _check_sizes(where, labels, sizes)
    vary = [k for k, count in enumerate(counts) if count > 1]
    if not vary:
        raise MistakeError(f"{where}: factors must hold a column with two values or more, got {len(table)} equal rows")
    if np.prod([counts[k] for k in vary], dtype=np.float64) >= 2.0**63:
        raise MistakeError(f"{where}: factors must have fewer than 2**63 combinations, got classes {counts}")
    distinct, first = np.unique(classes[:, vary], axis=0, return_index=True)
    wide = table[first].astype(np.float64)
    wide /= np.abs(wide).max() or 1.0
    wide -= wide.mean(0)
    # What is left of a constant column is the rounding of its mean.
    wide[:, (table[first] == table[first[0]]).all(0)] = 0
    chosen = tuple(names[k] for k in vary)
    return CyclicCodes(where, wide, distinct, tuple(counts[k] for k in vary), chosen, len(table))


def _check_sizes(where: str, labels: np.ndarray, sizes: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    counts = [check_count(where, "sizes", size, 1) for size in sizes]
    if len(counts) != labels.shape[1]:
        raise MistakeError(f"{where}: sizes must hold a number for each of the {labels.shape[1]} factors, got {counts}")
    if (labels < 0).any() or (labels >= counts).any():
        raise MistakeError(f"{where}: factors must hold classes 0 to n - 1 for sizes {counts}, got others")
    return labels.astype(np.int64), counts
