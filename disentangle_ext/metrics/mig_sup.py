"""MIG-sup, the supplement of the mutual information gap of Li et al. 2020."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext._names import choose
from disentangle_ext.metrics._gaps import first_and_second, information
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import code_names, heat_map
from disentangle_ext.metrics._problem import Problem, check_count, evaluate, pose
from disentangle_ext.metrics._result import FactorResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MIGSup", "MIGSupResult", "mig_sup"]

NORMALIZATIONS = ("codes", "factors")


@dataclass(frozen=True, eq=False, kw_only=True)
class MIGSupResult(FactorResult):
    """The result of :func:`mig_sup`.

    Attributes:
        score: the mean of ``gaps`` over the code dimensions that vary, in [0, 1]; 0 if none does.
        gaps: [D], each code dimension's gap; NaN for a dead one.
        normalized: [D, K], the mutual information between code dimension d and factor k, divided by an entropy; NaN
            where that is 0.
        best: [D], the factor that each code dimension knows most about (the first of equals); -1 for a dead one.
        dead: the code dimensions that fall into one bin. They are left out of ``score``.
    """

    gaps: np.ndarray
    normalized: np.ndarray
    best: np.ndarray
    dead: tuple[int, ...]

    title: ClassVar[str] = "MIG-sup"

    def plot(self, ax: Axes | None = None) -> Axes:
        """The normalized mutual information; the largest value of each code dimension is framed."""
        names = zip(code_names(len(self.gaps)), self.gaps)
        return heat_map(
            self.normalized,
            [f"{name}  gap {gap:.2f}" if gap == gap else name for name, gap in names],
            list(self.factor_names),
            title=f"{self._headline()}: I(z; v) / H({'z' if self.settings['normalize'] == 'codes' else 'v'})",
            what="MIGSupResult.plot",
            ax=ax,
            marked=[(d, int(k)) for d, k in enumerate(self.best) if k >= 0],
            high=1.0,
        )


def mig_sup(
    codes: Any,
    factors: Any,
    *,
    num_bins: int = 20,
    normalize: str = "codes",
    factor_names: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> MIGSupResult:
    """MIG-sup: how much more a code dimension knows of one factor than of any other.

    With the normalized mutual information J of code dimension z_d and factor v_k,

        gap_d = largest J(z_d, v_k) - second largest J(z_d, v_k) over k,    score = mean of gap_d over d,

    where J = I / H(z_d), the entropy of the binned code, for ``normalize="codes"``, and J = I / H(v_k), as in MIG,
    for ``normalize="factors"``. MIG asks that a factor be in one dimension; MIG-sup that a dimension hold one factor,
    so a code may repeat a factor as often as it likes.

    The authors' program (proVLAE) divides by H(v_k), takes its mutual information from samples of the posteriors as
    :func:`mig` with ``protocol="aggregate"`` does, and leaves out dimensions whose means have a variance below .01:
    ``normalize="factors"`` is its gap, on bins. The default is the normalization of Zaidi et al. 2020: it asks what
    share of a dimension is about one factor, so a score of 1 takes dimensions that are functions of one factor. Its
    result is that of their code to rounding. Bins of the means with the first normalization, and leaving out by bins,
    are this library's.

    A code dimension that falls into one bin is dead: it is named in the result and left out of the mean. The
    public code divides by 0 there. With one factor that varies, the second largest J is 0.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean.
        factors: [N, K], the classes of the factors, whole numbers: each distinct one in a column is a class.
        num_bins: bins per code dimension, at least 2.
        normalize: "codes" or "factors".
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of random halves of the rows for the interval of the score, 100 say; 0 for none. It is for
            scores of as many rows: more of them reach farther out and widen the bins.
        seed: the seed of the halves.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, num_bins below 2, or an unknown
            normalization.
        TypeError: for codes or factors that are not real numbers.

    Li, Murkute, Gyawali, Wang, "Progressive Learning and Disentanglement of Hierarchical Representations", ICLR 2020
    (arXiv 2002.10549). Zaidi, Boilard, Gagnon, Carbonneau, "Measuring Disentanglement: A Review of Metrics", 2020
    (arXiv 2012.09276).
    """
    choose("mig_sup: normalize", normalize, NORMALIZATIONS)
    bins = check_count("mig_sup", "num_bins", num_bins, 2)
    problem = pose("mig_sup", codes, factors, factor_names, seed=seed)
    return evaluate(problem, lambda each: _measure(each, bins, normalize), bootstrap=bootstrap, seed=seed)


class MIGSup(Metric[MIGSupResult], function=mig_sup):
    """:func:`mig_sup` of rows that arrive in batches."""


def _measure(problem: Problem, num_bins: int, normalize: str) -> MIGSupResult:
    known = information(problem, num_bins)
    total = known.codes[:, None] if normalize == "codes" else known.factors[None]
    total = np.broadcast_to(total, known.mutual.shape)
    share = np.divide(known.mutual, total, out=np.full(total.shape, np.nan), where=total > 0)
    best, first, second = first_and_second(np.nan_to_num(share).T)
    dead = known.codes == 0
    # I <= H, but the two are rounded separately.
    gaps = np.where(dead, np.nan, np.minimum(first - second, 1.0))
    return MIGSupResult(
        score=float(gaps[~dead].mean()) if not dead.all() else 0.0,
        gaps=gaps,
        normalized=share,
        best=np.where(dead, -1, best),
        dead=tuple(int(d) for d in np.flatnonzero(dead)),
        skipped=problem.skipped,
        factor_names=problem.factor_names,
        settings={"num_bins": num_bins, "normalize": normalize, "num_points": len(problem.codes), "seed": None},
    )
