"""The mutual information of pairs of code dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext.metrics._code_table import evaluate_codes
from disentangle_ext.metrics._discrete import histogram_bins, mutual_information
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import code_names, heat_map
from disentangle_ext.metrics._problem import check_count
from disentangle_ext.metrics._result import MetricResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MutualInformationScore", "MutualInformationScoreResult", "mutual_information_score"]


@dataclass(frozen=True, eq=False, kw_only=True)
class MutualInformationScoreResult(MetricResult):
    """The result of :func:`mutual_information_score`.

    Attributes:
        score: the mean over pairs in nats, in [0, log num_bins]; less is better.
        mutual_information: [D, D], nats; on the diagonal the entropy of each binned dimension.
    """

    mutual_information: np.ndarray

    title: ClassVar[str] = "Mean pairwise MI"
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)

    def plot(self, ax: Axes | None = None) -> Axes:
        """The mutual information of all pairs in nats, without the diagonal."""
        names = code_names(len(self.mutual_information))
        shown = self.mutual_information.copy()
        np.fill_diagonal(shown, np.nan)
        title = f"{self._headline()} nats: I(z_i; z_j)"
        return heat_map(shown, names, names, title=title, what="MutualInformationScoreResult.plot", ax=ax)


def mutual_information_score(
    codes: Any, *, num_bins: int = 20, bootstrap: int = 0, seed: int = 0
) -> MutualInformationScoreResult:
    """The mean mutual information of two code dimensions, each cut into bins of equal width over its range.

        score = mean over i != j of I(z_i; z_j)    nats

    A dimension that does not vary shares nothing with any other, and pairs with it count; a single dimension scores
    0. Independent dimensions score about (num_bins - 1)^2 / 2N rather than 0: that is the bias of the table.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean.
        num_bins: bins per code dimension, at least 2.
        bootstrap: number of random halves of the rows for the interval of the score, 100 say; 0 for none.
        seed: the seed of the halves.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, or num_bins below 2.
        TypeError: for codes that are not real numbers.

    Locatello et al., "Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations",
    ICML 2019 (arXiv 1811.12359).
    """
    bins = check_count("mutual_information_score", "num_bins", num_bins, 2)
    return evaluate_codes(
        "mutual_information_score", codes, lambda table: _measure(table, bins), bootstrap=bootstrap, seed=seed
    )


class MutualInformationScore(Metric[MutualInformationScoreResult], function=mutual_information_score):
    """:func:`mutual_information_score` of rows that arrive in batches."""


def _measure(codes: np.ndarray, num_bins: int) -> MutualInformationScoreResult:
    dims = codes.shape[1]
    bins = histogram_bins(codes, num_bins)
    information = np.empty((dims, dims))
    for d in range(dims):
        information[d, d:] = mutual_information(bins[:, d:], [num_bins] * (dims - d), bins[:, [d]], [num_bins])[:, 0]
        information[d:, d] = information[d, d:]
    pairs = information[~np.eye(dims, dtype=bool)]
    return MutualInformationScoreResult(
        score=float(pairs.mean()) if dims > 1 else 0.0,
        mutual_information=information,
        settings={"num_bins": num_bins, "num_points": len(codes), "seed": None},
    )
