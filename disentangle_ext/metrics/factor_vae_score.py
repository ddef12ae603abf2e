"""The metric of Kim and Mnih 2018."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext.metrics._draws import draw_factors, factors_to_draw, represent, slices
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import code_names, heat_map
from disentangle_ext.metrics._problem import check_count, with_interval
from disentangle_ext.metrics._result import FactorResult
from disentangle_ext.metrics.representation import Representation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FactorVAEScore", "FactorVAEScoreResult", "factor_vae_score"]


@dataclass(frozen=True, eq=False, kw_only=True)
class FactorVAEScoreResult(FactorResult):
    """The result of :func:`factor_vae_score`.

    Attributes:
        score: the share of the test votes that the majority of the training votes foretells, in [0, 1].
        train_score: the share of the training votes that they foretell themselves.
        votes: [D, K], the training votes: how often dimension d varied least while factor k was held.
        test_votes: [D, K].
        vote: [D], the factor that most training votes of a dimension name; -1 for one without votes.
        active: the code dimensions that take part.
    """

    train_score: float
    votes: np.ndarray
    test_votes: np.ndarray
    vote: np.ndarray
    active: tuple[int, ...]

    title: ClassVar[str] = "FactorVAE score"

    def plot(self, ax: Axes | None = None) -> Axes:
        """The table of training votes; the majority of each dimension, which foretells its factor, is framed."""
        return heat_map(
            self.votes.astype(float),
            [name if d in self.active else f"{name} (pruned)" for d, name in enumerate(code_names(len(self.vote)))],
            self.factor_names,
            title=f"{self._headline()}: training votes",
            what="FactorVAEScoreResult.plot",
            ax=ax,
            marked=[(d, int(k)) for d, k in enumerate(self.vote) if k >= 0],
            digits=0,
        )


def factor_vae_score(
    codes: Any,
    factors: Any = None,
    *,
    batch_size: int = 64,
    num_train: int = 10_000,
    num_test: int = 5_000,
    num_variance: int = 10_000,
    prune_threshold: float = 0.05,
    factor_names: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> FactorVAEScoreResult:
    """The FactorVAE metric: whether the code dimension that varies least tells which factor is held fixed.

    A vote is made by holding a factor k at a random class, drawing ``batch_size`` rows that have it, and naming

        d = argmin over dimensions of var(z_d over the batch) / var(z_d over all),

    both variances with N - 1. Each dimension foretells the factor that most of its training votes come from; the score
    is the share of test votes foretold. Chance is about 1 / K; a perfect code scores 1, as may a code that spreads a
    factor over several dimensions.

    Dimensions whose standard deviation is below ``prune_threshold`` take no part: .05, as in the large study
    (Locatello et al. 2019). With 0 only exactly constant ones are left out. disentanglement_lib keeps even these, their
    0 / 0 wins every vote, and a perfect code with a dead dimension scores what chance does. The threshold is in units
    of the codes, so codes of another scale than a VAE's need another. If no dimension is active the score is 0.

    Args:
        codes: a :class:`Representation`, or [N, D], the codes of the whole grid in any order, or of rows drawn from it.
        factors: [N, K], the classes of the factors beside a table of codes.
        batch_size: rows for a vote, at least 2.
        num_train: number of training votes.
        num_test: number of test votes.
        num_variance: rows for the variance over all, at least 2.
        prune_threshold: the least standard deviation of a dimension that takes part.
        factor_names: the K names, with a table of codes; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of random halves of the rows for the interval of the score, 100 say, with as many votes from
            each; 0 for none.
        seed: the seed of the draws and the halves.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, or a number out of range.
        TypeError: for codes or factors that are not real numbers.

    Kim, Mnih, "Disentangling by Factorising", ICML 2018 (arXiv 1802.05983).
    """
    where = "factor_vae_score"
    least = {"batch_size": 2, "num_train": 1, "num_test": 1, "num_variance": 2}
    given = {"batch_size": batch_size, "num_train": num_train, "num_test": num_test, "num_variance": num_variance}
    counts = {name: check_count(where, name, given[name], least[name]) for name in given}
    check_count(where, "seed", seed, 0)
    if not isinstance(prune_threshold, (int, float)) or not 0 <= prune_threshold < np.inf:
        raise MistakeError(f"{where}: prune_threshold must be at least 0 and finite, got {prune_threshold!r}")
    representation = represent(where, codes, factors, factor_names)
    settings = {**counts, "prune_threshold": prune_threshold, "num_points": len(representation), "seed": int(seed)}
    return with_interval(
        where,
        _measure(representation, settings, np.random.default_rng(seed)),
        lambda rng: _measure(representation._half(rng), settings, rng).score,
        bootstrap=bootstrap,
        seed=seed,
    )


class FactorVAEScore(Metric[FactorVAEScoreResult], function=factor_vae_score):
    """:func:`factor_vae_score` of a table whose rows arrive in batches."""


def _measure(
    representation: Representation, settings: dict[str, Any], rng: np.random.Generator
) -> FactorVAEScoreResult:
    columns = factors_to_draw("factor_vae_score", representation)
    scale, active = _scale(representation, settings["num_variance"], settings["prune_threshold"], rng)
    shape = len(scale), len(representation.sizes)
    train, test = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    if active.any():
        train, test = (
            _votes(
                representation, draw_factors(columns, settings[name], rng), settings["batch_size"], scale, active, rng
            )
            for name in ("num_train", "num_test")
        )
    return FactorVAEScoreResult(
        score=_foretold(train, test),
        train_score=_foretold(train, train),
        votes=train,
        test_votes=test,
        vote=np.where(train.sum(1) > 0, train.argmax(1), -1),
        active=tuple(int(d) for d in np.flatnonzero(active)),
        factor_names=representation.factor_names,
        skipped=tuple(int(k) for k in np.flatnonzero(np.array(representation.sizes) < 2)),
        settings=dict(settings),
    )


def _scale(
    representation: Representation, rows: int, threshold: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Per dimension, what brings its variance over all to 1, and whether it takes part."""
    codes = representation.codes(representation.draw(rows, rng)).astype(np.float64)
    unit = np.maximum(np.abs(codes).max(0), np.finfo(np.float64).tiny)
    deviation = np.where(codes.min(0) < codes.max(0), (codes / unit).std(0, ddof=1), 0.0)
    with np.errstate(over="ignore"):
        active = (deviation > 0) & (deviation * unit >= threshold)
    return unit * np.where(deviation > 0, deviation, 1.0), active


def _votes(
    representation: Representation,
    held: np.ndarray,
    batch_size: int,
    scale: np.ndarray,
    active: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """[D, K], how often each dimension varied least while each of the factors ``held`` [batches] stood still."""
    votes = np.zeros((len(scale), len(representation.sizes)), np.int64)
    dims = np.flatnonzero(active)
    for k, batches in slices(held, batch_size):
        rows = representation.draw_alike(representation.draw(len(batches), rng), k, rng, batch_size)
        with np.errstate(over="ignore"):  # of a row so far out that the variance over all has missed it
            codes = np.clip(representation.codes(rows)[:, :, dims] / scale[dims], -1e100, 1e100)
        variance = codes.var(1, ddof=1)
        votes[:, k] += np.bincount(dims[variance.argmin(1)], minlength=len(scale))
    return votes


def _foretold(train: np.ndarray, votes: np.ndarray) -> float:
    total = int(votes.sum())
    return float(votes[np.arange(len(votes)), train.argmax(1)].sum() / total) if total else 0.0
