"""RMIG, the robust mutual information gap of Do and Tran 2020."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from disentangle_ext._errors import MistakeError
from disentangle_ext.metrics._discrete import check_codes, entropy
from disentangle_ext.metrics._gaps import first_and_second
from disentangle_ext.metrics._interval import half
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import code_names, heat_map
from disentangle_ext.metrics._problem import Problem, check_count, pose, with_interval
from disentangle_ext.metrics._result import FactorResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RMIG", "RMIGResult", "rmig"]

# Rows whose masses are held at once.
_CHUNK = 4096


@dataclass(frozen=True, eq=False, kw_only=True)
class RMIGResult(FactorResult):
    """The result of :func:`rmig`.

    Attributes:
        score: the mean of ``normalized`` over the factors that vary, in [0, 1].
        normalized: [K], each factor's gap divided by its entropy; NaN for a skipped factor.
        gaps: [K], nats, as the paper defines them; NaN for a skipped factor.
        mutual_information: [D, K], nats, between code dimension d and factor k.
        entropy: [K], nats, of each factor.
        best: [K], the code dimension that knows most about each factor (the first of equals); -1 if skipped.
    """

    normalized: np.ndarray
    gaps: np.ndarray
    mutual_information: np.ndarray
    entropy: np.ndarray
    best: np.ndarray

    title: ClassVar[str] = "RMIG"
    by_factor: ClassVar[tuple[str, ...]] = ("normalized", "gaps", "entropy")

    def plot(self, ax: Axes | None = None) -> Axes:
        """The mutual information in shares of each factor's entropy; the best dimension of each is framed."""
        names = zip(self.factor_names, self.normalized)
        some = self.entropy > 0
        share = np.full(self.mutual_information.shape, np.nan)
        share[:, some] = self.mutual_information[:, some] / self.entropy[some]
        return heat_map(
            share,
            code_names(len(share)),
            [f"{name}\ngap {gap:.2f}" if gap == gap else name for name, gap in names],
            title=f"{self._headline()}: I(z; v) / H(v)",
            what="RMIGResult.plot",
            ax=ax,
            marked=[(int(d), k) for k, d in enumerate(self.best) if d >= 0],
            high=1.0,
        )


def rmig(
    codes: Any,
    factors: Any,
    *,
    logvar: Any = None,
    num_bins: int = 100,
    value_range: tuple[float, float] = (-4.0, 4.0),
    factor_names: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> RMIGResult:
    """The robust MIG: the gap of :func:`mig` with the posterior's noise in it, and bins that no outlier moves.

    The value range is cut into ``num_bins`` bins b of equal width, the first and last of which also take what lies
    outside. With the posterior mass q(b | x_i) of N(codes_id, exp(logvar_id)) in each bin,

        q(b, v) = 1/N sum of q(b | x_i) over the rows i of class v,    I(z_d; v_k) = MI of that table,
        gap_k = largest I(z_d; v_k) - second largest,    score = mean of gap_k / H(v_k) over k.

    Without ``logvar`` each code is a value itself and falls into one bin. The default range is that of a posterior
    close to a standard normal prior: give another one for codes that are not a VAE's. The paper reports the gap in
    nats (``gaps``); the score is normalized as MIG is, so that it lies in [0, 1]. A score of 1 takes posteriors narrow
    against the distance of classes, and bins between all of them.

    A constant factor is skipped and named in the result. With a single code dimension the second largest I is 0.

    Args:
        codes: [N, D], the means of the posteriors, or samples.
        factors: [N, K], the classes of the factors, whole numbers: each distinct one in a column is a class.
        logvar: [N, D], the posteriors' log-variances.
        num_bins: bins over the range, at least 2.
        value_range: its two ends.
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of random halves of the rows for the interval of the score, 100 say; 0 for none.
        seed: the seed of the halves.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, num_bins below 2, or an empty range.
        TypeError: for codes, factors or logvar that are not real numbers.

    Do and Tran, "Theory and Evaluation Metrics for Learning Disentangled Representations", ICLR 2020
    (arXiv 1908.09961).
    """
    bins = check_count("rmig", "num_bins", num_bins, 2)
    ends = _check_range(value_range)
    problem = pose("rmig", codes, factors, factor_names, seed=seed)
    noise = None if logvar is None else _check_logvar(logvar, problem.codes.shape)
    rows = len(problem.codes)
    return with_interval(
        "rmig",
        _measure(problem, noise, bins, ends, np.arange(rows)),
        lambda rng: _measure(problem, noise, bins, ends, half(rows, rng)).score,
        bootstrap=bootstrap,
        seed=seed,
    )


class RMIG(Metric[RMIGResult], function=rmig, rows=("logvar",)):
    """:func:`rmig` of rows that arrive in batches; ``update(codes, factors, logvar=logvar)``."""


def _check_range(value_range: Any) -> tuple[float, float]:
    ends = np.asarray(value_range, dtype=np.float64)
    if ends.shape != (2,) or not np.isfinite(ends).all() or not ends[0] < ends[1]:
        raise MistakeError(f"rmig: value_range must be two numbers, the lower one first, got {value_range!r}")
    return float(ends[0]), float(ends[1])


def _check_logvar(logvar: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = check_codes(logvar, "rmig", "logvar")
    if array.shape != shape:
        raise MistakeError(f"rmig: logvar must have the shape of codes {list(shape)}, got {list(array.shape)}")
    return array


def _measure(
    problem: Problem, logvar: np.ndarray | None, num_bins: int, ends: tuple[float, float], rows: np.ndarray
) -> RMIGResult:
    classes, sizes = problem.classes[rows], problem.sizes
    entropies = entropy(classes, sizes)
    varies = entropies > 0
    if not varies.any():
        raise MistakeError(f"rmig: factors must hold a column with two values or more, got {len(rows)} equal rows")
    # The share of each code and bin among the rows of each class, for all factors at once.
    tables = np.zeros((sum(sizes), problem.codes.shape[1], num_bins))
    offsets = np.cumsum([0, *sizes[:-1]])
    for some in np.array_split(rows, -(-len(rows) // _CHUNK)):
        mass = _mass(problem.codes[some], None if logvar is None else logvar[some], num_bins, ends)
        for k, offset in enumerate(offsets):
            np.add.at(tables, problem.classes[some, k] + offset, mass)
    tables /= len(rows)
    mutual = np.empty((problem.codes.shape[1], len(sizes)))
    for k, (offset, size) in enumerate(zip(offsets, sizes)):
        mutual[:, k] = [_mutual_information(tables[offset : offset + size, d]) for d in range(len(mutual))]
    best, first, second = first_and_second(mutual)
    gaps = np.where(varies, first - second, np.nan)
    # I <= H, but the two are rounded separately.
    normalized = np.minimum(np.divide(gaps, entropies, out=np.full(len(sizes), np.nan), where=varies), 1.0)
    return RMIGResult(
        score=float(normalized[varies].mean()),
        normalized=normalized,
        gaps=gaps,
        mutual_information=mutual,
        entropy=entropies,
        best=np.where(varies, best, -1),
        skipped=tuple(int(k) for k in np.flatnonzero(~varies)),
        factor_names=problem.factor_names,
        settings={
            "num_bins": num_bins,
            "value_range": ends,
            "posterior": logvar is not None,
            "num_points": len(rows),
            "seed": None,
        },
    )


def _mass(mean: np.ndarray, logvar: np.ndarray | None, num_bins: int, ends: tuple[float, float]) -> np.ndarray:
    """The share of each code in each bin: [n, D, num_bins]."""
    edges = np.linspace(*ends, num_bins + 1)[1:-1]
    if logvar is None:
        return np.eye(num_bins)[np.searchsorted(edges, mean, side="right")]
    # Beyond these a posterior is flat or a point on any range, and its width stays finite.
    width = np.exp(np.clip(logvar.astype(np.float64), -700, 700) / 2)[..., None]
    below = torch.special.ndtr(torch.from_numpy((edges - mean[..., None].astype(np.float64)) / width)).numpy()
    return np.diff(below, axis=-1, prepend=0.0, append=1.0)


def _mutual_information(table: np.ndarray) -> float:
    """The mutual information of a joint distribution [classes, bins], in nats."""
    expected = table.sum(1, keepdims=True) * table.sum(0)
    some = (table > 0) & (expected > 0)
    return max(0.0, float((table[some] * np.log(table[some] / expected[some])).sum()))
