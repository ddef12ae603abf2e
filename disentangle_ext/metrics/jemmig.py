"""JEMMIG, the joint entropy minus mutual information gap of Do and Tran 2020."""

from __future__ import annotations

import math
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

__all__ = ["JEMMIG", "JEMMIGResult", "jemmig"]

# Tables that are equal up to the order of their cells have mutual informations that differ by the order of a sum, nats.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False, kw_only=True)
class JEMMIGResult(FactorResult):
    """The result of :func:`jemmig`.

    Attributes:
        score: the mean of ``normalized`` over the factors that vary, in [0, 1]; more is better.
        normalized: [K], each factor's score, in [0, 1]; NaN for a skipped one.
        jemmig: [K], nats, as the paper defines it: less is better, 0 is best. NaN for a skipped factor.
        joint_entropy: [D, K], nats, the entropy of code dimension d and factor k together.
        mutual_information: [D, K], nats, between them.
        best: [K], the code dimension that knows most about each factor; of those that know equally much, to rounding,
            the one with the smallest joint entropy. -1 if skipped.
    """

    normalized: np.ndarray
    jemmig: np.ndarray
    joint_entropy: np.ndarray
    mutual_information: np.ndarray
    best: np.ndarray

    title: ClassVar[str] = "JEMMIG"
    by_factor: ClassVar[tuple[str, ...]] = ("normalized", "jemmig")

    def plot(self, ax: Axes | None = None) -> Axes:
        """Joint entropy less mutual information, in nats: what is in one and not in the other. Best ones are framed."""
        names = zip(self.factor_names, self.normalized)
        return heat_map(
            self.joint_entropy - self.mutual_information,
            code_names(len(self.joint_entropy)),
            [f"{name}\n{value:.2f}" if value == value else name for name, value in names],
            title=f"{self._headline()}: H(z, v) - I(z; v) in nats",
            what="JEMMIGResult.plot",
            ax=ax,
            marked=[(int(d), k) for k, d in enumerate(self.best) if d >= 0],
        )


def jemmig(
    codes: Any,
    factors: Any,
    *,
    num_bins: int = 20,
    factor_names: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> JEMMIGResult:
    """JEMMIG, normalized: whether a factor and one code dimension are the same thing, and no other knows of it.

    For factor v_k, with z* the code dimension that knows most about it (of equals the one with the smallest joint
    entropy, which the paper leaves open) and z' the one that knows second most,

        JEMMIG_k = H(z*, v_k) - I(z*; v_k) + I(z'; v_k)    nats,
        normalized_k = 1 - JEMMIG_k / (H(v_k) + log num_bins),    score = mean of normalized_k over k,

    with all terms from the table of ``num_bins`` bins of equal width and the classes. The joint entropy is what MIG
    lacks: it falls if z* holds anything besides v_k. A score of 1 takes bins and classes that determine each other, so
    no fewer bins than classes.

    Its floor is not 0: a dimension that fills its bins evenly and knows nothing scores 0, one that fills them unevenly
    (log num_bins - H(z*)) / (H(v_k) + log num_bins), and a dead one log num_bins / (H(v_k) + log num_bins), which is
    large. Look at ``mutual_information`` before you praise a score.

    The result is that of the code of Zaidi et al. 2020 to rounding, except that a constant factor is skipped and named
    in the result, and that among dimensions that know equally much that code takes whichever its sort puts last.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean.
        factors: [N, K], the classes of the factors, whole numbers: each distinct one in a column is a class.
        num_bins: bins per code dimension, at least 2.
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of random halves of the rows for the interval of the score, 100 say; 0 for none. It is for
            scores of as many rows: more of them reach farther out and widen the bins.
        seed: the seed of the halves.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, or num_bins below 2.
        TypeError: for codes or factors that are not real numbers.

    Do and Tran, "Theory and Evaluation Metrics for Learning Disentangled Representations", ICLR 2020
    (arXiv 1908.09961). Zaidi, Boilard, Gagnon, Carbonneau, "Measuring Disentanglement: A Review of Metrics", 2020
    (arXiv 2012.09276).
    """
    bins = check_count("jemmig", "num_bins", num_bins, 2)
    problem = pose("jemmig", codes, factors, factor_names, seed=seed)
    return evaluate(problem, lambda each: _measure(each, bins), bootstrap=bootstrap, seed=seed)


class JEMMIG(Metric[JEMMIGResult], function=jemmig):
    """:func:`jemmig` of rows that arrive in batches."""


def _measure(problem: Problem, num_bins: int) -> JEMMIGResult:
    known = information(problem, num_bins)
    joint = known.codes[:, None] + known.factors - known.mutual
    _, first, second = first_and_second(known.mutual)
    tied = known.mutual >= first - ROUNDING
    best = np.where(tied, joint, np.inf).argmin(0)
    value = np.maximum(joint[best, np.arange(len(best))] - first + second, 0.0)
    value[~problem.varies] = np.nan
    normalized = np.maximum(1 - value / (known.factors + math.log(num_bins)), 0.0)
    return JEMMIGResult(
        score=float(normalized[problem.varies].mean()),
        normalized=normalized,
        jemmig=value,
        joint_entropy=joint,
        mutual_information=known.mutual,
        best=np.where(problem.varies, best, -1),
        skipped=problem.skipped,
        factor_names=problem.factor_names,
        settings={"num_bins": num_bins, "num_points": len(problem.codes), "seed": None},
    )
