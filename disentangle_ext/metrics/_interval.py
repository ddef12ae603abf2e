"""Random halves of the points, and the quantile of Student's distribution: what the interval of a score is made of."""

from __future__ import annotations

import math

import numpy as np

from disentangle_ext._errors import MistakeError

__all__ = ["half", "student_quantile"]


def half(count: int, rng: np.random.Generator) -> np.ndarray:
    """The indices of half of ``count`` points, drawn without replacement; an odd one is left out.

    Raises:
        ValueError: for a single point.
    """
    if count < 2:
        raise MistakeError(f"an interval needs two points or more to halve, got {count}")
    return rng.permutation(count)[: count // 2]


def student_quantile(confidence: float, freedom: int) -> float:
    """The t for which P(|T| <= t) = ``confidence``, where T is Student's with ``freedom`` degrees of freedom.

    The probability is the finite sum of Abramowitz and Stegun, 26.7.3 and 26.7.4, in the angle atan(t / sqrt(freedom)).
    """
    odd = freedom % 2
    step = 2.0 * np.arange(1, (freedom - odd) // 2)
    factors = np.cumprod([1.0, *(step / (step + 1) if odd else (step - 1) / step)])
    powers = np.arange(len(factors))

    def probability(angle: float) -> float:
        total = math.sin(angle) * float(factors @ math.cos(angle) ** (2 * powers))
        if not odd:
            return total
        return 2 / math.pi * (angle + (math.cos(angle) * total if freedom > 1 else 0.0))

    low, high = 0.0, math.pi / 2
    while low < (angle := (low + high) / 2) < high:
        low, high = (angle, high) if probability(angle) < confidence else (low, angle)
    return math.sqrt(freedom) * math.tan(angle)
