"""The unsupervised disentanglement ranking of Duan et al. 2020."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext._extras import require
from disentangle_ext._names import choose
from disentangle_ext.metrics._code_table import Spread
from disentangle_ext.metrics._discrete import check_codes, to_numpy
from disentangle_ext.metrics._interval import half
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import heat_map
from disentangle_ext.metrics._problem import check_count, with_interval
from disentangle_ext.metrics._result import MetricResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["UDR", "UDRResult", "udr"]

SIMILARITIES = ("lasso", "spearman")
AVERAGES = ("sides", "latents")


@dataclass(frozen=True, eq=False, kw_only=True)
class UDRResult(MetricResult):
    """The result of :func:`udr`.

    Attributes:
        score: the mean of ``models``.
        models: [M], each model's median agreement with the others: what to choose a model by.
        best: the model with the largest (the first of equals).
        pairs: [M, M], the agreement of each two models; NaN on the diagonal.
        informative: for each model [D_m], whether each dimension was kept.
    """

    models: np.ndarray
    best: int
    pairs: np.ndarray
    informative: tuple[np.ndarray, ...]

    title: ClassVar[str] = "UDR"
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)

    def plot(self, ax: Axes | None = None) -> Axes:
        """The agreement of each two models."""
        names = [f"model {m}" for m in range(len(self.models))]
        title = f"{self._headline()}: agreement"
        return heat_map(self.pairs, names, names, title=title, what="UDRResult.plot", ax=ax)

    def _details(self) -> str:
        return f"best model {self.best}, {self.models[self.best]:.3f}"


def udr(
    codes: Sequence[Any],
    *,
    kl: Sequence[Any] | None = None,
    similarity: str = "lasso",
    alpha: float = 0.1,
    average: str = "sides",
    kl_threshold: float = 0.01,
    bootstrap: int = 0,
    seed: int = 0,
) -> UDRResult:
    """How well models agree, up to order, sign and scale of their latents: a score for choosing one without labels.

    With R(a, b) the similarity of latent a of model i and latent b of model j, over latents that are informative,

        s_b = r_b^2 / sum_a R(a, b),    s_a = r_a^2 / sum_b R(a, b),
        r_b = max_a R(a, b),            r_a = max_b R(a, b),
        UDR_ij = 1/2 (mean over b of s_b + mean over a of s_a),    UDR_i = median of UDR_ij over j != i,

    where a latent with no similarity at all adds 0. This average of two means, ``average="sides"``, is that of
    disentanglement_lib (``relative_strength_disentanglement``, read at 86a644d). ``average="latents"`` divides once, by
    the number of informative latents of both models,

        UDR_ij = (sum over b of s_b + sum over a of s_a) / (number of a + number of b),

    which is the formula of the paper as we remember it; its text could not be read to verify that. The two are equal
    where both models have equally many informative latents; elsewhere the second gives the model with more of them
    more weight.

    ``similarity="lasso"``: the absolute weights of a lasso regression of all latents of j on those of i, both
    standardized; not symmetric. Its penalty takes ``alpha`` off each weight, so that two models with the same
    independent latents agree by 1 - alpha. ``"spearman"``: the absolute rank correlation, for which they agree by 1
    less the chance correlations of the others. Unrelated models agree by 0 with lasso, and with spearman by the size of
    chance correlations.

    A latent is informative if its mean KL from the prior exceeds ``kl_threshold`` nats. Without ``kl`` all that vary
    are. A pair without an informative latent on either side agrees by 0.

    Disentangled models tend to agree, since independent latents leave only a few ways to hold the same factors; models
    that agree need not be disentangled. The models should be of one method and setting, with different seeds.

    Args:
        codes: for each of M >= 2 models the codes [N, D_m] of the same images in the same order.
        kl: for each model [D_m], the mean KL(q(z_d | x) || p(z_d)) of each latent in nats.
        similarity: "lasso" or "spearman".
        alpha: the penalty of the lasso, greater than 0.
        average: "sides", as in disentanglement_lib, or "latents", the other form above.
        kl_threshold: nats.
        bootstrap: number of random halves of the rows for the interval of the score, 100 say; 0 for none.
        seed: the seed of the halves.

    Raises:
        ValueError: for fewer than two models, a wrong shape, NaN or infinity, or an unknown name.
        TypeError: for codes that are not real numbers.
        ImportError: without scikit-learn.

    Duan, Matthey, Saraiva, Watters, Burgess, Lerchner, Higgins, "Unsupervised Model Selection for Variational
    Disentangled Representation Learning", ICLR 2020 (arXiv 1905.12614).
    """
    choose("udr: similarity", similarity, SIMILARITIES)
    choose("udr: average", average, AVERAGES)
    check_count("udr", "seed", seed, 0)
    for name, value, least in (("alpha", alpha, 0.0), ("kl_threshold", kl_threshold, -math.inf)):
        if not isinstance(value, (int, float)) or not least < value < math.inf:
            raise MistakeError(f"udr: {name} must be a number greater than {least}, got {value!r}")
    tables = _check_tables(codes)
    kept = _informative(tables, kl, float(kl_threshold))
    settings = {
        "similarity": similarity,
        "alpha": float(alpha) if similarity == "lasso" else None,
        "average": average,
        "kl_threshold": float(kl_threshold) if kl is not None else None,
        "num_points": len(tables[0]),
        "seed": None,
    }
    rows = len(tables[0])
    pairs = _pairs(tables, kept, settings)
    models = np.nanmedian(pairs, axis=0)

    def again(rng: np.random.Generator) -> float:
        drawn = half(rows, rng)
        sampled = _pairs([table[drawn] for table in tables], kept, settings)
        return float(np.nanmedian(sampled, axis=0).mean())

    result = UDRResult(
        score=float(models.mean()),
        models=models,
        best=int(models.argmax()),
        pairs=pairs,
        informative=tuple(kept),
        settings=settings,
    )
    return with_interval("udr", result, again, bootstrap=bootstrap, seed=seed)


class UDR(Metric[UDRResult], function=udr):
    """:func:`udr` of rows that arrive in batches; ``kl``, which has no rows, is an option."""

    def update(self, *inputs: Any, **named: Any) -> None:
        """Adds a batch: a table of codes [n, D_m] of each model, for the same images.

        Raises:
            TypeError: for anything else than one list of tables.
            ValueError: for tables of different lengths, or other models or widths than before.
        """
        tables = [to_numpy(table) for table in self._bind("UDR.update", inputs, named)["codes"]]
        lengths = [len(table) if table.ndim else 0 for table in tables]
        if len(set(lengths)) > 1:
            raise MistakeError(f"UDR.update: codes must have the same number of rows for each model, got {lengths}")
        shapes = [list(table.shape[1:]) for table in tables]
        before = [list(batches[0].shape[1:]) for batches in self._batches.values()] or shapes
        if shapes != before:
            raise MistakeError(f"UDR.update: codes must have rows of shapes {before} as before, got {shapes}")
        for m, table in enumerate(tables):
            self._batches.setdefault(str(m), []).append(np.array(table))

    def compute(self) -> UDRResult:
        """:func:`udr` of all rows since the last :meth:`reset`.

        Raises:
            ValueError: where there are none, and wherever the function does.
        """
        if not self._batches:
            raise MistakeError("UDR.compute: no batch was given to update")
        return udr([np.concatenate(batches) for batches in self._batches.values()], **self.options)


def _check_tables(codes: Sequence[Any]) -> list[np.ndarray]:
    tables = [check_codes(table, f"udr, model {m}") for m, table in enumerate(codes)]
    if len(tables) < 2:
        raise MistakeError(f"udr: codes must hold the tables of at least 2 models, got {len(tables)}")
    lengths = [len(table) for table in tables]
    if len(set(lengths)) > 1:
        raise MistakeError(f"udr: codes must have the same number of rows for each model, got {lengths}")
    return tables


def _informative(tables: list[np.ndarray], kl: Sequence[Any] | None, threshold: float) -> list[np.ndarray]:
    vary = [table.min(0) < table.max(0) for table in tables]
    if kl is None:
        return vary
    values = [to_numpy(each) for each in kl]
    widths, expected = [list(each.shape) for each in values], [[table.shape[1]] for table in tables]
    if widths != expected:
        raise MistakeError(f"udr: kl must have shapes {expected}, one value for each latent, got {widths}")
    if not all(np.isfinite(each).all() for each in values):
        raise MistakeError("udr: kl must be finite, got NaN or infinity")
    return [np.asarray(each > threshold) & some for each, some in zip(values, vary)]


def _pairs(tables: list[np.ndarray], kept: list[np.ndarray], settings: dict[str, Any]) -> np.ndarray:
    """The agreement [M, M] of each two models."""
    similarity, average = settings["similarity"], settings["average"]
    prepared = [_standardize(_ranks(table) if similarity == "spearman" else table) for table in tables]
    pairs = np.full((len(tables), len(tables)), np.nan)
    for i, j in itertools.permutations(range(len(tables)), 2):
        source, target = prepared[i] * kept[i], prepared[j]
        if not (kept[i].any() and kept[j].any()):
            pairs[i, j] = 0.0
        elif similarity == "spearman":
            matrix = np.minimum(np.abs(source.T @ target) / len(source), 1.0)
            pairs[i, j] = _agreement(matrix[kept[i]][:, kept[j]], average)
        else:
            weights = _lasso(source, target[:, kept[j]], settings["alpha"])
            pairs[i, j] = _agreement(weights[kept[i]], average)
    return pairs


def _lasso(source: np.ndarray, target: np.ndarray, alpha: float) -> np.ndarray:
    linear = require("sklearn.linear_model", extra="metrics", what="udr")
    with warnings.catch_warnings():
        # Codes that depend on one another converge slowly, to weights that are good to what is asked here.
        warnings.simplefilter("ignore")
        weights = linear.Lasso(alpha=alpha).fit(source, target).coef_
    return np.abs(np.atleast_2d(weights)).T


def _agreement(matrix: np.ndarray, average: str) -> float:
    sides = []
    for axis in (0, 1):
        total, largest = matrix.sum(axis), matrix.max(axis)
        sides.append(np.divide(largest**2, total, out=np.zeros_like(total), where=total > 0))
    if average == "latents":
        return float(np.concatenate(sides).mean())
    return float(np.mean([side.mean() for side in sides]))


def _standardize(table: np.ndarray) -> np.ndarray:
    about = Spread(table)
    return about.centred / np.where(about.std > 0, about.std, 1.0)


def _ranks(table: np.ndarray) -> np.ndarray:
    """The ranks in each column, with the mean rank for equal values."""
    ranks = np.empty(table.shape)
    for d, column in enumerate(table.T):
        _, place, count = np.unique(column, return_inverse=True, return_counts=True)
        ranks[:, d] = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks
