"""DCIMIG, the third characteristic of Sepliarskaia et al. 2019 (3CharM)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext.metrics._gaps import first_and_second, information
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import code_names, heat_map
from disentangle_ext.metrics._problem import Problem, check_count, evaluate, pose
from disentangle_ext.metrics._result import FactorResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DCIMIG", "DCIMIGResult", "dcimig"]


@dataclass(frozen=True, eq=False, kw_only=True)
class DCIMIGResult(FactorResult):
    """The result of :func:`dcimig`.

    Attributes:
        score: the sum of ``captured`` over that of ``entropy``, in [0, 1].
        captured: [K], nats, the largest gap of a code dimension that belongs to the factor; 0 if none does, NaN for
            a skipped factor.
        gaps: [D], nats, of each code dimension.
        best: [D], the factor that each code dimension belongs to (the first of equals).
        mutual_information: [D, K], nats, between code dimension d and factor k.
        entropy: [K], nats, of each factor.
    """

    captured: np.ndarray
    gaps: np.ndarray
    best: np.ndarray
    mutual_information: np.ndarray
    entropy: np.ndarray

    title: ClassVar[str] = "DCIMIG"
    by_factor: ClassVar[tuple[str, ...]] = ("captured", "entropy")

    def plot(self, ax: Axes | None = None) -> Axes:
        """The mutual information in nats; the factor that each code dimension belongs to is framed."""
        names = zip(self.factor_names, self.captured)
        return heat_map(
            self.mutual_information,
            [f"{name}  gap {gap:.2f}" for name, gap in zip(code_names(len(self.gaps)), self.gaps)],
            [f"{name}\ncaptured {value:.2f}" if value == value else name for name, value in names],
            title=f"{self._headline()}: I(z; v) in nats",
            what="DCIMIGResult.plot",
            ax=ax,
            marked=[(d, int(k)) for d, k in enumerate(self.best)],
        )


def dcimig(
    codes: Any,
    factors: Any,
    *,
    num_bins: int = 20,
    factor_names: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> DCIMIGResult:
    """DCIMIG: the share of the factors' information that code dimensions hold which hold nothing else.

    Each code dimension z_d belongs to the factor that it knows most about, by a gap

        R_d = largest I(z_d; v_k) - second largest I(z_d; v_k) over k,
        S_k = largest R_d of the dimensions that belong to v_k (0 if none does),
        score = sum_k S_k / sum_k H(v_k),

    with I from the table of ``num_bins`` bins of equal width and the classes. A score of 1 means that every factor can
    be read off a dimension of its own; other dimensions may know anything. A uniform factor with more classes than
    bins cannot reach it. A constant factor adds nothing on either side. With one factor that varies, the second
    largest I is 0. The result is that of the code of Zaidi et al. 2020 to rounding.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean.
        factors: [N, K], the classes of the factors, whole numbers: each distinct one in a column is a class.
        num_bins: bins per code dimension, at least 2.
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of random halves of the rows for the interval of the score, 100 say; 0 for none.
        seed: the seed of the halves.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, or num_bins below 2.
        TypeError: for codes or factors that are not real numbers.

    Sepliarskaia, Kiseleva, de Rijke, "How to Not Measure Disentanglement", 2019 (arXiv 1910.05587). Zaidi, Boilard,
    Gagnon, Carbonneau, "Measuring Disentanglement: A Review of Metrics", 2020 (arXiv 2012.09276).
    """
    bins = check_count("dcimig", "num_bins", num_bins, 2)
    problem = pose("dcimig", codes, factors, factor_names, seed=seed)
    return evaluate(problem, lambda each: _measure(each, bins), bootstrap=bootstrap, seed=seed)


class DCIMIG(Metric[DCIMIGResult], function=dcimig):
    """:func:`dcimig` of rows that arrive in batches."""


def _measure(problem: Problem, num_bins: int) -> DCIMIGResult:
    known = information(problem, num_bins)
    best, first, second = first_and_second(known.mutual.T)
    gaps = first - second
    captured = np.zeros(len(known.factors))
    np.maximum.at(captured, best, gaps)
    captured[~problem.varies] = np.nan
    return DCIMIGResult(
        # I <= H, but the two are rounded separately.
        score=min(1.0, float(np.nansum(captured) / known.factors.sum())),
        captured=captured,
        gaps=gaps,
        best=best,
        mutual_information=known.mutual,
        entropy=known.factors,
        skipped=problem.skipped,
        factor_names=problem.factor_names,
        settings={"num_bins": num_bins, "num_points": len(problem.codes), "seed": None},
    )
