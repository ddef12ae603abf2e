"""The total correlation of a Gaussian with the covariance of the codes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext.metrics._code_table import Spread, evaluate_codes
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import code_names, heat_map
from disentangle_ext.metrics._result import MetricResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["GaussianTotalCorrelation", "GaussianTotalCorrelationResult", "gaussian_total_correlation"]

# Codes that depend on one another linearly leave directions this thin, in standard deviations, where float32 rounds
# them: the logarithm of such a direction is that of rounding noise.
_THIN = 1e-6


@dataclass(frozen=True, eq=False, kw_only=True)
class GaussianTotalCorrelationResult(MetricResult):
    """The result of :func:`gaussian_total_correlation`.

    Attributes:
        score: the total correlation in nats, 0 or more; less is better.
        correlation: [D, D], of the codes; NaN in the rows and columns of dead ones.
        dead: the code dimensions that do not vary.
    """

    correlation: np.ndarray
    dead: tuple[int, ...]

    title: ClassVar[str] = "Gaussian TC"
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)

    def plot(self, ax: Axes | None = None) -> Axes:
        """The absolute correlations of the codes."""
        names = code_names(len(self.correlation))
        title = f"{self._headline()}: |correlation|"
        what = "GaussianTotalCorrelationResult.plot"
        return heat_map(np.abs(self.correlation), names, names, title=title, what=what, ax=ax, high=1.0)


def gaussian_total_correlation(codes: Any, *, bootstrap: int = 0, seed: int = 0) -> GaussianTotalCorrelationResult:
    """The total correlation of the Gaussian that has the covariance of the codes: 0 if they are uncorrelated.

    With the covariance S of the codes, and R their correlation,

        TC = KL(N(0, S) || N(0, diag S)) = 1/2 (sum_d log S_dd - log det S) = -1/2 log det R    nats.

    It does not change with the scale of any code dimension. A dimension that does not vary is independent of
    the others and left out; one dimension alone scores 0. Dimensions that depend on one another linearly have an
    infinite total correlation, for which public codes return rounding noise (90 for a mix of 5 dimensions into 10):
    that is an error here. So is a table with no more rows than dimensions that vary, where some always do.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean.
        bootstrap: number of random halves of the rows for the interval of the score, 100 say; 0 for none.
        seed: the seed of the halves.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, or a covariance that is singular to rounding.
        TypeError: for codes that are not real numbers.

    Watanabe, "Information Theoretical Analysis of Multivariate Correlation", 1960; as a score of codes: Locatello
    et al., "Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations", ICML 2019
    (arXiv 1811.12359).
    """
    return evaluate_codes("gaussian_total_correlation", codes, _measure, bootstrap=bootstrap, seed=seed)


class GaussianTotalCorrelation(Metric[GaussianTotalCorrelationResult], function=gaussian_total_correlation):
    """:func:`gaussian_total_correlation` of rows that arrive in batches."""


def _measure(codes: np.ndarray) -> GaussianTotalCorrelationResult:
    rows, dims = codes.shape
    about = Spread(codes)
    live = np.setdiff1d(np.arange(dims), about.dead)
    standard = about.centred[:, live] / about.std[live]
    # The singular values keep digits that those of the covariance, their squares, have lost.
    widths = np.linalg.svd(np.linalg.qr(standard, mode="r"), compute_uv=False) / math.sqrt(rows)
    rank = int((widths > _THIN).sum())
    if rank < len(live):
        raise MistakeError(
            f"gaussian_total_correlation: codes must have a covariance of full rank (the total correlation is "
            f"infinite otherwise), got rank {rank} for {len(live)} dimensions that vary, in {rows} rows"
        )
    correlation = np.full((dims, dims), np.nan)
    correlation[np.ix_(live, live)] = standard.T @ standard / rows
    return GaussianTotalCorrelationResult(
        # log det R <= 0, but it is rounded.
        score=max(0.0, -float(np.log(widths).sum())),
        correlation=correlation,
        dead=about.dead,
        settings={"num_points": rows, "seed": None},
    )
