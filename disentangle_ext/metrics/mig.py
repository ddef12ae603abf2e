"""The mutual information gap of Chen et al. 2018."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from disentangle_ext import ops
from disentangle_ext._errors import MistakeError
from disentangle_ext._names import choose
from disentangle_ext.metrics._discrete import entropy, histogram_bins, mutual_information, to_numpy
from disentangle_ext.metrics._interval import half
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import code_names, heat_map
from disentangle_ext.metrics._problem import Problem, check_count, evaluate, pose, with_interval
from disentangle_ext.metrics._result import FactorResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MIG", "MIGResult", "mig"]

PROTOCOLS = ("histogram", "aggregate")


@dataclass(frozen=True, eq=False, kw_only=True)
class MIGResult(FactorResult):
    """The result of :func:`mig`.

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
    logvar: Any = None,
    queries: int = 10_000,
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

    ``protocol="aggregate"`` is Chen's own: no bins, but the densities of a sample z_id from the posterior of image i
    under the mixtures of the posteriors of all images, and of those that share the image's class v,

        I(z_d; v_k) = mean over images i of log q(z_id | v_k = v_ik) - log q(z_id).

    It takes the posteriors of a whole data set, and measures what the samples hold, whose noise the histogram of means
    does not see: the two differ widely, .50 against .20 for the same models of dSprites in the literature. The values
    of Chen's code follow from its samples; those of disvae, which reshapes where it should transpose, do not.

    A code dimension that does not vary has I = 0 with every factor. With a single code dimension the second
    largest I is 0, as if a dead dimension stood beside it.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean: tensor or array, any real type. Half
            types are binned in a wider one.
        factors: [N, K], the classes of the factors, whole numbers: each distinct one in a column is a class,
            whatever its value.
        num_bins: bins per code dimension, at least 2; of "histogram".
        protocol: "histogram" or "aggregate".
        logvar: [N, D], the log-variances beside the means ``codes``; of "aggregate".
        queries: images to draw a sample for, all of a set that has no more; of "aggregate".
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of random halves of the rows, of "aggregate" of the queries, for the interval of the score,
            100 say; 0 for none.
        seed: the seed of the halves, and of the samples of "aggregate".

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies (as with a single row), num_bins
            below 2, an unknown protocol, "aggregate" without ``logvar`` or "histogram" with it, or posteriors so
            narrow or wide that their densities are not finite.
        TypeError: for codes, factors or logvar that are not real numbers.

    Chen, Li, Grosse, Duvenaud, "Isolating Sources of Disentanglement in Variational Autoencoders", NeurIPS
    2018 (arXiv 1802.04942).
    """
    choose("mig: protocol", protocol, PROTOCOLS)
    bins = check_count("mig", "num_bins", num_bins, 2)
    problem = pose("mig", codes, factors, factor_names, seed=seed)
    if protocol == "aggregate":
        return _aggregate(problem, logvar, check_count("mig", "queries", queries, 2), bootstrap, seed)
    if logvar is not None:
        raise MistakeError("mig: logvar is of the aggregate protocol, got it with protocol='histogram'")
    return evaluate(problem, lambda each: _histogram(each, bins), bootstrap=bootstrap, seed=seed)


class MIG(Metric[MIGResult], function=mig, rows=("logvar",)):
    """:func:`mig` of rows that arrive in batches."""


def _histogram(problem: Problem, num_bins: int) -> MIGResult:
    codes = problem.codes
    bins = histogram_bins(codes, num_bins)
    information = mutual_information(bins, [num_bins] * codes.shape[1], problem.classes, problem.sizes)
    settings = {"protocol": "histogram", "num_bins": num_bins, "num_points": len(codes), "seed": None}
    return _result(problem, information, settings)


def _aggregate(problem: Problem, logvar: Any, queries: int, bootstrap: int, seed: int) -> MIGResult:
    mu, log_variance = _posteriors(problem, logvar)
    rows = len(mu)
    generator = torch.Generator().manual_seed(seed)
    index = torch.arange(rows) if rows <= queries else torch.randperm(rows, generator=generator)[:queries]
    z = ops.rsample_kl(mu[index], log_variance[index], key=torch.tensor([seed, 0]))[0]
    known = aggregate_information(z, index, mu, log_variance, problem.classes, problem.sizes)
    settings = {"protocol": "aggregate", "num_points": rows, "queries": len(index), "seed": int(seed)}

    def result(picked: np.ndarray) -> MIGResult:
        return _result(problem, np.maximum(known[picked].mean(0), 0), settings)

    return with_interval(
        "mig",
        result(np.arange(len(known))),
        lambda rng: result(half(len(known), rng)).score,
        bootstrap=bootstrap,
        seed=seed,
    )


def aggregate_information(
    z: Tensor, index: Tensor, mu: Tensor, logvar: Tensor, classes: np.ndarray, sizes: list[int]
) -> np.ndarray:
    """What each sample ``z`` [Q, D] of the images ``index`` [Q] tells of its factors, in nats: [Q, D, K]."""
    everything = _log_density(z, mu, logvar)
    known = np.zeros((*z.shape, len(sizes)))
    for k, size in enumerate(sizes):
        labels = torch.from_numpy(classes[:, k])
        for c in range(size if size > 1 else 0):
            mine = (labels[index] == c).nonzero()[:, 0]
            members = labels == c
            density = _log_density(z[mine], mu[members], logvar[members])
            known[mine, :, k] = (density - everything[mine]).double().numpy()
    return known


def _log_density(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """log q(z_d) [Q, D] under the mixture of the posteriors."""
    if not len(z):
        return z
    density = ops.aggregate_posterior(z, mu, logvar)[1]
    if not density.isfinite().all():
        raise MistakeError(
            f"mig: codes and logvar must have densities that are finite in {mu.dtype}, got logvar from "
            f"{float(logvar.min()):.4g} to {float(logvar.max()):.4g} and codes up to {float(mu.abs().max()):.4g}"
        )
    return density


def _posteriors(problem: Problem, logvar: Any) -> tuple[Tensor, Tensor]:
    if logvar is None:
        raise MistakeError("mig: logvar must be given with protocol='aggregate'")
    array = to_numpy(logvar)
    if array.shape != problem.codes.shape:
        expected = list(problem.codes.shape)
        raise MistakeError(f"mig: logvar must have the shape of codes {expected}, got {list(array.shape)}")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"mig: logvar must be real numbers, got {array.dtype}")
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise MistakeError(f"mig: logvar must be finite, got {array[row, column]} at [{row}, {column}]")
    mu = torch.from_numpy(np.array(problem.codes))
    return mu, torch.from_numpy(np.array(array)).to(mu.dtype)


def _result(problem: Problem, information: np.ndarray, settings: dict[str, Any]) -> MIGResult:
    varies, entropies = problem.varies, entropy(problem.classes, problem.sizes)
    gaps = _gaps(information, entropies, varies)
    return MIGResult(
        score=float(gaps[varies].mean()),
        gaps=gaps,
        mutual_information=information,
        entropy=entropies,
        best=np.where(varies, information.argmax(0), -1),
        skipped=problem.skipped,
        factor_names=problem.factor_names,
        settings=settings,
    )


def _gaps(information: np.ndarray, entropies: np.ndarray, varies: np.ndarray) -> np.ndarray:
    ranked = np.sort(np.vstack([np.zeros(len(entropies)), information]), axis=0)
    gaps = np.full(len(entropies), np.nan)
    # I <= H, but the two are rounded separately.
    gaps[varies] = np.minimum((ranked[-1] - ranked[-2])[varies] / entropies[varies], 1.0)
    return gaps
