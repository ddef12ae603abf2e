"""Codes and factors as one table per pair: what the scores made of mutual information gaps have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from disentangle_ext.metrics._discrete import entropy, histogram_bins, mutual_information
from disentangle_ext.metrics._problem import Problem

__all__ = ["Information", "first_and_second", "information"]


@dataclass(frozen=True, eq=False)
class Information:
    """The information that binned codes and factors share, in nats.

    Attributes:
        mutual: [D, K], the mutual information of code dimension d and factor k.
        codes: [D], the entropy of each binned code dimension.
        factors: [K], the entropy of each factor.
    """

    mutual: np.ndarray
    codes: np.ndarray
    factors: np.ndarray


def information(problem: Problem, num_bins: int) -> Information:
    """The information shared by ``num_bins`` bins of equal width over the range of each code dimension, and classes."""
    bins = histogram_bins(problem.codes, num_bins)
    counts = [num_bins] * bins.shape[1]
    mutual = mutual_information(bins, counts, problem.classes, problem.sizes)
    return Information(mutual, entropy(bins, counts), entropy(problem.classes, problem.sizes))


def first_and_second(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The largest and the second largest value in each column of ``values`` [n, m], none of them negative.

    Returns:
        The row of the largest value (the first of equals), the largest value, and the second, 0 for a single row: [m].
    """
    ranked = np.sort(np.vstack([np.zeros(values.shape[1]), values]), axis=0)
    return values.argmax(0), ranked[-1], ranked[-2]
