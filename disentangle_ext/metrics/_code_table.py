"""Codes without factors: the checks, the spread and the bootstrap that the unsupervised scores have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from disentangle_ext.metrics._discrete import check_codes
from disentangle_ext.metrics._interval import half
from disentangle_ext.metrics._problem import check_count, with_interval
from disentangle_ext.metrics._result import MetricResult

__all__ = ["Spread", "evaluate_codes"]

R = TypeVar("R", bound=MetricResult)


class Spread:
    """Codes about their mean, in units that no square of them can leave the range of float64 in.

    Attributes:
        centred: [N, D], float64: the codes less their mean, divided by ``scale``.
        scale: [D], the largest magnitude in each column, and 1 for a constant one.
        std: [D], the standard deviation (ddof 0) of the columns of ``centred``; exactly 0 for a constant one.
        dead: the constant columns.
    """

    def __init__(self, codes: np.ndarray) -> None:
        wide = codes.astype(np.float64, copy=False)
        constant = wide.min(0) == wide.max(0)
        self.scale = np.where(constant, 1.0, np.abs(wide).max(0))
        centred = np.where(constant, 0.0, wide) / self.scale
        centred -= centred.mean(0)
        self.centred = centred
        self.std = np.sqrt(np.square(centred).mean(0))
        self.dead = tuple(int(d) for d in np.flatnonzero(constant))


def evaluate_codes(where: str, codes: Any, compute: Callable[[np.ndarray], R], *, bootstrap: int, seed: int) -> R:
    """The result of ``compute`` on the checked codes [N, D], with an interval from ``bootstrap`` halves of the rows.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, or a wrong seed or bootstrap.
        TypeError: for codes that are not real numbers.
    """
    table = check_codes(codes, where)
    check_count(where, "seed", seed, 0)
    return with_interval(
        where,
        compute(table),
        lambda rng: compute(table[half(len(table), rng)]).score,
        bootstrap=bootstrap,
        seed=seed,
    )
