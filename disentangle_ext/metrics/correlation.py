"""How well single latents follow single factors, as straight lines or around a circle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext._names import choose
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import code_names, heat_map
from disentangle_ext.metrics._problem import Problem, check_count, evaluate, pose
from disentangle_ext.metrics._result import FactorResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Correlation", "CorrelationResult", "correlation"]


@dataclass(frozen=True, eq=False, kw_only=True)
class CorrelationResult(FactorResult):
    """The result of :func:`correlation`.

    Attributes:
        score: the mean of ``correlations`` over the factors that have a latent and vary, in [0, 1].
        correlations: [K], of each factor with its latent; NaN for a factor without one, or a skipped one.
        latents: [K], the latent of each factor; -1 for none.
        matrix: [D, K], of every latent with every factor; NaN in the columns of skipped factors.
    """

    correlations: np.ndarray
    latents: np.ndarray
    matrix: np.ndarray

    title: ClassVar[str] = "Correlation"
    by_factor: ClassVar[tuple[str, ...]] = ("correlations", "latents")

    def plot(self, ax: Axes | None = None) -> Axes:
        """The matrix, with the latent of each factor framed."""
        return heat_map(
            self.matrix,
            code_names(len(self.matrix)),
            self.factor_names,
            title=f"{self._headline()}: |r(z; v)|",
            what="CorrelationResult.plot",
            ax=ax,
            marked=[(int(d), k) for k, d in enumerate(self.latents) if d >= 0],
            high=1.0,
        )


def correlation(
    codes: Any,
    factors: Any,
    *,
    latents: Mapping[str, int] | None = None,
    periods: Mapping[str, float] | None = None,
    factor_names: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> CorrelationResult:
    """The absolute correlation of each latent with each factor, and of each factor with the latent that is its own.

    For a factor on a line it is Pearson's,

        |r| = |Cov[z, v]| / sqrt(Var[z] Var[v]).

    For a factor on a circle, v at the angle a = 2 pi v / period, it is the multiple correlation of z with (cos a,
    sin a), which does not depend on where the circle is cut (Mardia 1976, "Linear-circular correlation coefficients and
    rhythmometry"): the correlation of z with its best linear fit in them, and so never less than that with either.

    Both ask for more than information: a latent that knows a factor by a curve that turns back has a low one. Classes
    are taken as numbers, so that the column of a factor without an order, as an identity, says little.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean: tensor or array, any real type.
        factors: [N, K], the classes or values of the factors: tensor or array.
        latents: the latent of each factor that has one of its own, by the factor's name. By default all factors that
            vary have one, the latent that correlates most with each.
        periods: for each factor on a circle, by its name, what its values grow by in a turn, above 0; the number of its
            classes where they divide the circle. All others are on a line.
        factor_names: the K names; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of random halves of the rows for the interval of the score, 100 say; 0 for none.
        seed: the seed of the halves.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, an unknown name, a latent that is not
            there, or a period that is not positive.
        TypeError: for codes or factors that are not real numbers.

    A constant latent has correlation 0 with every factor. Kulkarni et al. 2015, "Deep convolutional inverse graphics
    network", figure 7, hold the latents of DC-IGN against the factors that they were trained for.
    """
    problem = pose("correlation", codes, factors, factor_names, values=True, seed=seed)
    own = _check_latents(problem, latents)
    turns = _check_periods(problem, periods or {})
    return evaluate(problem, lambda each: _correlate(each, own, turns), bootstrap=bootstrap, seed=seed)


class Correlation(Metric[CorrelationResult], function=correlation):
    """:func:`correlation` of rows that arrive in batches."""


def _check_latents(problem: Problem, latents: Mapping[str, int] | None) -> np.ndarray | None:
    if latents is None:
        return None
    own = np.full(len(problem.factor_names), -1)
    for name, latent in latents.items():
        k = problem.factor_names.index(choose("correlation: latents: factor", name, problem.factor_names))
        own[k] = check_count("correlation", f"latents[{name!r}]", latent, 0)
    if own.max() >= problem.codes.shape[1]:
        raise MistakeError(
            f"correlation: latents must be below the {problem.codes.shape[1]} columns of codes, got {dict(latents)}"
        )
    return own


def _check_periods(problem: Problem, periods: Mapping[str, float]) -> dict[int, float]:
    for name, period in periods.items():
        choose("correlation: periods: factor", name, problem.factor_names)
        if not 0 < period < np.inf:
            raise MistakeError(f"correlation: periods must be greater than 0 and finite, got {period} for {name}")
    return {problem.factor_names.index(name): float(period) for name, period in periods.items()}


def _correlate(problem: Problem, own: np.ndarray | None, periods: Mapping[int, float]) -> CorrelationResult:
    names, varies = problem.factor_names, problem.varies
    z = _standardise(problem.codes.astype(np.float64))
    matrix = np.full((z.shape[1], len(names)), np.nan)
    for k in map(int, np.flatnonzero(varies)):
        v = problem.factors[:, k].astype(np.float64)[:, None]
        if k in periods:
            angle = 2 * np.pi * v / periods[k]
            v = np.concatenate([np.cos(angle), np.sin(angle)], 1)
        matrix[:, k] = _multiple(z, v)
    latents = np.nan_to_num(matrix).argmax(0) if own is None else own
    latents = np.where(varies, latents, -1)
    if (latents < 0).all():
        given = {name: int(d) for name, d in zip(names, own if own is not None else latents) if d >= 0}
        raise MistakeError(f"correlation: latents must name a factor that varies, got {given}")
    chosen = np.where(latents >= 0, matrix[latents, np.arange(len(names))], np.nan)
    return CorrelationResult(
        score=float(np.nanmean(chosen)),
        correlations=chosen,
        latents=latents,
        matrix=matrix,
        skipped=problem.skipped,
        factor_names=names,
        settings={
            "periods": {names[k]: period for k, period in periods.items()},
            "num_points": len(z),
            "seed": None,
        },
    )


def _standardise(columns: np.ndarray) -> np.ndarray:
    """Each column about its mean, in units of its length; 0 where it is constant."""
    constant = (columns == columns[:1]).all(0)  # what is left of such a column is the rounding of its mean
    centred = np.where(constant, 0, columns / np.maximum(np.abs(columns).max(0), np.finfo(np.float64).tiny))
    centred = centred - centred.mean(0)
    return np.where(constant, 0, centred / np.where(constant, 1, np.linalg.norm(centred, axis=0)))


def _multiple(z: np.ndarray, v: np.ndarray) -> np.ndarray:
    """[D], the length of the projection of each column of ``z`` onto the span of the centred columns of ``v``."""
    basis, lengths, _ = np.linalg.svd(_standardise(v), full_matrices=False)
    basis = basis[:, lengths > 1e-9]  # two classes on a circle are a line
    # At most 1 but for rounding.
    return np.minimum(np.linalg.norm(basis.T @ z, axis=0), 1.0)
