"""The modularity of Ridgeway and Mozer 2018."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext._names import choose
from disentangle_ext.metrics._discrete import histogram_bins, mutual_information
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import code_names, heat_map
from disentangle_ext.metrics._problem import Problem, check_count, evaluate, pose
from disentangle_ext.metrics._result import FactorResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Modularity", "ModularityResult", "modularity"]

DEAD_CODES = ("zero", "skip")


@dataclass(frozen=True, eq=False, kw_only=True)
class ModularityResult(FactorResult):
    """The result of :func:`modularity`.

    Attributes:
        score: the mean of ``by_code``, in [0, 1].
        by_code: [D], the modularity of each code dimension; of a dead one 0, or NaN with ``dead_codes="skip"``.
        mutual_information: [D, K], nats, between code dimension d and factor k.
        dead: the code dimensions that know nothing of any factor.
    """

    by_code: np.ndarray
    mutual_information: np.ndarray
    dead: tuple[int, ...]

    title: ClassVar[str] = "Modularity"

    def plot(self, ax: Axes | None = None) -> Axes:
        """The mutual information of each code dimension with each factor; the largest of each code is framed."""
        alive = [d for d in range(len(self.by_code)) if d not in self.dead]
        varying = np.array(self.mutual_information)
        varying[:, list(self.skipped)] = np.nan
        return heat_map(
            varying,
            [f"{code}: {value:.2f}" for code, value in zip(code_names(len(self.by_code)), self.by_code)],
            self.factor_names,
            title=f"{self._headline()}: I(z; v), nats",
            what="ModularityResult.plot",
            ax=ax,
            marked=[(d, int(np.nanargmax(varying[d]))) for d in alive],
        )


def modularity(
    codes: Any,
    factors: Any,
    *,
    num_bins: int = 20,
    dead_codes: str = "zero",
    factor_names: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> ModularityResult:
    """Modularity: whether each code dimension knows of one factor only.

    For the mutual information I_dk of code dimension d with factor k, and its largest value M_d = max_k I_dk,

        modularity_d = 1 - sum over the other k of I_dk^2 / (M_d^2 (K - 1)),    score = mean over d.

    A score of 1 asks nothing of how many dimensions share a factor, nor whether they hold all of it. Pure noise scores
    high, because its I is no more than what :func:`mig` says a finite sample overestimates: .6 for 5,000 points of the
    large study's protocol. Read it beside :func:`explicitness`.

    Each dimension is cut into ``num_bins`` bins of equal width, 20 as in the large study (Locatello et al. 2019) and in
    the program of the authors, which leaves out cells that hold 1e-4 of the rows or less. The score is that of
    disentanglement_lib to rounding, except that a constant factor is skipped, K counting only those that vary. With one
    of them a dimension has no other factor to know: it scores 1.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean: tensor or array, any real type.
        factors: [N, K], the classes of the factors, whole numbers: each distinct one in a column is a class.
        num_bins: bins per code dimension, at least 2.
        dead_codes: what a dimension that knows nothing, 0 / 0 in the formula, counts: "zero" as in the study, which
            then ranks a model lower for every dimension that it left unused; or "skip", out of the mean, which is 0
            if all are dead. ubisoft's code returns NaN.
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of random halves of the rows for the interval of the score, 100 say; 0 for none.
        seed: the seed of the halves.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, num_bins below 2, or an unknown name.
        TypeError: for codes or factors that are not real numbers.

    Ridgeway, Mozer, "Learning Deep Disentangled Embeddings with the F-Statistic Loss", NeurIPS 2018 (arXiv 1802.05312).
    """
    choose("modularity: dead_codes", dead_codes, DEAD_CODES)
    bins = check_count("modularity", "num_bins", num_bins, 2)
    problem = pose("modularity", codes, factors, factor_names, seed=seed)
    return evaluate(problem, lambda each: _modularity(each, bins, dead_codes), bootstrap=bootstrap, seed=seed)


class Modularity(Metric[ModularityResult], function=modularity):
    """:func:`modularity` of rows that arrive in batches."""


def _modularity(problem: Problem, num_bins: int, dead_codes: str) -> ModularityResult:
    count = problem.codes.shape[1]
    bins = histogram_bins(problem.codes, num_bins)
    information = mutual_information(bins, [num_bins] * count, problem.classes, problem.sizes)
    varying = information[:, problem.varies]
    largest = varying.max(1)
    dead = largest == 0
    # Shares of the largest, so that no square of a tiny information underflows.
    share = varying / np.where(dead, 1.0, largest)[:, None]
    others = np.maximum(0.0, (share**2).sum(1) - 1) / max(1, varying.shape[1] - 1)
    by_code = np.where(dead, 0.0 if dead_codes == "zero" else np.nan, 1 - others)
    counted = by_code[by_code == by_code]
    return ModularityResult(
        score=float(counted.mean()) if len(counted) else 0.0,
        by_code=by_code,
        mutual_information=information,
        dead=tuple(int(d) for d in np.flatnonzero(dead)),
        skipped=problem.skipped,
        factor_names=problem.factor_names,
        settings={"num_bins": num_bins, "dead_codes": dead_codes, "num_points": len(problem.codes), "seed": None},
    )
