"""How many latent dimensions a model uses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext.metrics._code_table import Spread
from disentangle_ext.metrics._discrete import check_codes
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import bars, code_names
from disentangle_ext.metrics._result import MetricResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ActiveUnits", "ActiveUnitsResult", "active_units"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ActiveUnitsResult(MetricResult):
    """The result of :func:`active_units`.

    Attributes:
        score: the number of active dimensions, 0 to D.
        std: [D], the standard deviation of each dimension over the rows.
        active: [D], whether its square exceeds the threshold.
    """

    std: np.ndarray
    active: np.ndarray

    title: ClassVar[str] = "Active units"
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)
    no_interval: ClassVar[str | None] = (
        "a count jumps where a variance is close to the threshold, and does not move elsewhere"
    )

    def plot(self, ax: Axes | None = None) -> Axes:
        """The standard deviation of each dimension; the names of active ones carry a star."""
        names = [f"{name} *" if on else name for name, on in zip(code_names(len(self.std)), self.active)]
        title = f"{self._headline()}: standard deviation"
        return bars(self.std, names, title=title, what="ActiveUnitsResult.plot", ax=ax)


def active_units(codes: Any, *, threshold: float = 0.01) -> ActiveUnitsResult:
    """The number of latent dimensions whose posterior mean varies over the data.

        score = number of d with Var_x(E[z_d | x]) > threshold

    The variance is that of the rows (ddof 0). A VAE pushes dimensions that it does not use onto the prior, where the
    mean is the same for every image. There is no interval: a count jumps where a variance is close to the threshold,
    and does not move elsewhere; ``std`` tells which.

    Args:
        codes: [N, D], the encoder's means, one row per image.
        threshold: the variance above which a dimension is active, at least 0.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, or a negative threshold.
        TypeError: for codes that are not real numbers.

    Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016 (arXiv 1509.00519).
    """
    if not isinstance(threshold, (int, float)) or not 0 <= threshold < math.inf:
        raise MistakeError(f"active_units: threshold must be a number of at least 0, got {threshold!r}")
    return _measure(check_codes(codes, "active_units"), float(threshold))


class ActiveUnits(Metric[ActiveUnitsResult], function=active_units):
    """:func:`active_units` of rows that arrive in batches."""


def _measure(codes: np.ndarray, threshold: float) -> ActiveUnitsResult:
    about = Spread(codes)
    std = about.std * about.scale
    active = std > math.sqrt(threshold)
    return ActiveUnitsResult(
        score=float(active.sum()),
        std=std,
        active=active,
        settings={"threshold": threshold, "num_points": len(codes), "seed": None},
    )
