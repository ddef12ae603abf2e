"""The mutual information gap of Chen et al. 2018."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext._names import choose
from disentangle_ext.metrics._discrete import entropy, histogram_bins, mutual_information
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import code_names, heat_map
from disentangle_ext.metrics._problem import Problem, check_count, evaluate, pose
from disentangle_ext.metrics._result import FactorResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MIG", "MIGResult", "mig"]

PROTOCOLS = ("histogram",)


@dataclass(frozen=True, eq=False, kw_only=True)
class MIGResult(FactorResult):
    """What :func:`mig` measured.

    Attributes:
        score: the mean of ``gaps`` over the factors that vary, in [0, 1].
        gaps: [K], each factor's gap divided by its entropy; NaN for a skipped factor.
        mutual_information: [D, K], nats, between code dimension d and factor k.
        entropy: [K], nats, of each factor.
        best: [K], the code dimension that knows most about each factor (the first of equals); -1 if skipped.
    """

    gaps: np.ndarray
    mutual_information: np.ndarray
    entropy: np.ndarray
    best: np.ndarray

    title: ClassVar[str] = "MIG"
    by_factor: ClassVar[tuple[str, ...]] = ("gaps",)

    def plot(self, ax: Axes | None = None) -> Axes:
        """The mutual information of each code dimension with each factor, in shares of the factor's entropy.

        The two largest of a factor, whose difference is its gap, are framed; the gaps stand beside the names.
        """
        varies = np.flatnonzero(self.entropy > 0)
        share = np.full(self.mutual_information.shape, np.nan)
        share[:, varies] = self.mutual_information[:, varies] / self.entropy[varies]
        ranked = np.argsort(-share[:, varies], axis=0, kind="stable")[:2]
        return heat_map(
            share,
            code_names(len(share)),
            [f"{name}\ngap {gap:.2f}" if gap == gap else name for name, gap in zip(self.factor_names, self.gaps)],
            title=f"{self._headline()}: I(z; v) / H(v)",
            what="MIGResult.plot",
            ax=ax,
            marked=[(int(d), int(k)) for row in ranked for d, k in zip(row, varies)],
            high=1.0,
        )


def mig(
    codes: Any,
    factors: Any,
    *,
    num_bins: int = 20,
    protocol: str = "histogram",
    factor_names: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> MIGResult:
    """The mutual information gap: how much better one code dimension knows a factor than any other does.

    For factor v_k with entropy H, and the mutual information I of each code dimension with it,

        gap_k = (largest I(z_d; v_k) - second largest I(z_d; v_k)) / H(v_k),    score = mean of gap_k over k.

    A score of 1 means that every factor can be read off one dimension, and that no other dimension knows
    anything of it; it does not ask that a dimension hold one factor only.

    ``protocol="histogram"`` is that of the large study (Locatello et al. 2019): each code dimension is cut
    into ``num_bins`` bins of equal width over its range, and I is that of the contingency table of bins and
    classes. With N points and S classes the table overestimates I by about (num_bins - 1)(S - 1) / 2N nats,
    so use thousands of points, and the same number in every comparison. A uniform factor with more classes
    than ``num_bins`` cannot reach a gap of 1. The result is that of disentanglement_lib to rounding, except
    that a constant factor, for which that code gives NaN, is skipped and named in the result.

    A code dimension that does not vary has I = 0 with every factor. With a single code dimension the second
    largest I is 0, as if a dead dimension stood beside it.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean: tensor or array, any real type. Half
            types are binned in a wider one.
        factors: [N, K], the classes of the factors: each distinct number in a column is a class, whatever its
            value.
        num_bins: bins per code dimension, at least 2.
        protocol: "histogram".
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of resamples of the rows for the interval of the score; 0 for none.
        seed: of the resamples.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies (as with a single row), num_bins
            below 2, or an unknown protocol.
        TypeError: for codes or factors that are not real numbers.

    Chen, Li, Grosse, Duvenaud, "Isolating Sources of Disentanglement in Variational Autoencoders", NeurIPS
    2018 (arXiv 1802.04942).
    """
    choose("mig: protocol", protocol, PROTOCOLS)
    bins = check_count("mig", "num_bins", num_bins, 2)
    problem = pose("mig", codes, factors, factor_names, seed=seed)
    return evaluate(problem, lambda each: _histogram(each, bins), bootstrap=bootstrap, seed=seed)


class MIG(Metric[MIGResult], function=mig):
    """:func:`mig` of rows that arrive in batches."""


def _histogram(problem: Problem, num_bins: int) -> MIGResult:
    codes, classes, sizes, varies = problem.codes, problem.classes, problem.sizes, problem.varies
    bins = histogram_bins(codes, num_bins)
    information = mutual_information(bins, [num_bins] * codes.shape[1], classes, sizes)
    entropies = entropy(classes, sizes)
    gaps = _gaps(information, entropies, varies)
    return MIGResult(
        score=float(gaps[varies].mean()),
        gaps=gaps,
        mutual_information=information,
        entropy=entropies,
        best=np.where(varies, information.argmax(0), -1),
        skipped=problem.skipped,
        factor_names=problem.factor_names,
        settings={"protocol": "histogram", "num_bins": num_bins, "num_points": len(codes), "seed": None},
    )


def _gaps(information: np.ndarray, entropies: np.ndarray, varies: np.ndarray) -> np.ndarray:
    ranked = np.sort(np.vstack([np.zeros(len(entropies)), information]), axis=0)
    gaps = np.full(len(entropies), np.nan)
    # I <= H, but the two are rounded separately.
    gaps[varies] = np.minimum((ranked[-1] - ranked[-2])[varies] / entropies[varies], 1.0)
    return gaps
