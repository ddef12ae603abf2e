"""How far the codes' Gaussian is from one with independent dimensions, by optimal transport."""

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

__all__ = ["WassersteinCorrelation", "WassersteinCorrelationResult", "wasserstein_correlation"]


@dataclass(frozen=True, eq=False, kw_only=True)
class WassersteinCorrelationResult(MetricResult):
    """The result of :func:`wasserstein_correlation`.

    Attributes:
        score: the squared distance, in squared units of the codes; less is better.
        normalized: the score divided by the total variance, in [0, 2): it does not change with the scale of the table.
        covariance: [D, D], of the codes (ddof 1).
        dead: the code dimensions that do not vary. They add nothing.
    """

    normalized: float
    covariance: np.ndarray
    dead: tuple[int, ...]

    title: ClassVar[str] = "Wasserstein correlation"
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)

    def plot(self, ax: Axes | None = None) -> Axes:
        """The absolute covariances of the codes, which are 0 off the diagonal where the score is."""
        names = code_names(len(self.covariance))
        title = f"{self._headline()}: |covariance|"
        what = "WassersteinCorrelationResult.plot"
        return heat_map(np.abs(self.covariance), names, names, title=title, what=what, ax=ax)


def wasserstein_correlation(codes: Any, *, bootstrap: int = 0, seed: int = 0) -> WassersteinCorrelationResult:
    """The squared 2-Wasserstein distance from the codes' Gaussian to the one without its correlations.

    With the covariance S of the codes and V its diagonal,

        W2(N(0, S), N(0, V))^2 = 2 tr S - 2 tr (V^1/2 S V^1/2)^1/2,

    which is 0 if the codes are uncorrelated. Unlike the total correlation it is finite where they depend on one
    another, and it weighs each dimension by its variance, so that dimensions that the model hardly uses count
    little. ``normalized`` divides it by tr S. The root is taken from the singular values of the centred codes:
    scipy's sqrtm, which public codes use, gives a complex number for a singular covariance.

    Args:
        codes: [N, D] with N >= 2, one row per image, usually the encoder's mean.
        bootstrap: number of random halves of the rows for the interval of the score, 100 say; 0 for none.
        seed: the seed of the halves.

    Raises:
        ValueError: for a wrong shape, fewer than 2 rows, NaN or infinity, or codes so large that their variance
            exceeds float64.
        TypeError: for codes that are not real numbers.

    Dowson and Landau, "The Frechet Distance between Multivariate Normal Distributions", 1982; as a score of codes:
    Locatello et al., "Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations",
    ICML 2019 (arXiv 1811.12359).
    """
    return evaluate_codes("wasserstein_correlation", codes, _measure, bootstrap=bootstrap, seed=seed)


class WassersteinCorrelation(Metric[WassersteinCorrelationResult], function=wasserstein_correlation):
    """:func:`wasserstein_correlation` of rows that arrive in batches."""


def _measure(codes: np.ndarray) -> WassersteinCorrelationResult:
    rows = len(codes)
    if rows < 2:
        raise MistakeError(f"wasserstein_correlation: codes must have at least 2 rows, got {rows}")
    about = Spread(codes)
    unit = float((about.std * about.scale).max())
    if unit > 1e150:
        raise MistakeError(
            f"wasserstein_correlation: codes must have a variance that float64 can hold, got a deviation of {unit:.3g}"
        )
    # In units of the widest dimension, so that no product under- or overflows.
    relative = about.centred * (np.where(about.std > 0, about.scale, 0.0) / (unit or 1.0))
    std = np.sqrt(np.square(relative).sum(0) / (rows - 1))
    root = np.linalg.svd(np.linalg.qr(relative * std, mode="r"), compute_uv=False).sum() / math.sqrt(rows - 1)
    total = float(np.square(std).sum())
    distance = max(0.0, 2 * (total - float(root)))
    return WassersteinCorrelationResult(
        score=distance * unit * unit,
        normalized=distance / total if total else 0.0,
        covariance=relative.T @ relative * (unit * unit / (rows - 1)),
        dead=about.dead,
        settings={"num_points": rows, "seed": None},
    )
