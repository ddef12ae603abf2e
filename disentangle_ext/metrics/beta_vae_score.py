"""The metric of Higgins et al. 2017."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext.metrics._draws import draw_factors, factors_to_draw, represent, slices
from disentangle_ext.metrics._learn import accuracy, fit_classifier, sklearn
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import heat_map
from disentangle_ext.metrics._problem import check_count, with_interval
from disentangle_ext.metrics._result import FactorResult
from disentangle_ext.metrics.representation import Representation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BetaVAEScore", "BetaVAEScoreResult", "beta_vae_score"]


@dataclass(frozen=True, eq=False, kw_only=True)
class BetaVAEScoreResult(FactorResult):
    """The result of :func:`beta_vae_score`.

    Attributes:
        score: the test accuracy of the classifier, in [0, 1].
        train_score: its accuracy on the points that it was fitted to.
        accuracy: [K], the test accuracy where factor k was shared; NaN for a skipped factor.
        confusion: [K, K], test points where factor k was shared and factor j named.
    """

    train_score: float
    accuracy: np.ndarray
    confusion: np.ndarray

    title: ClassVar[str] = "BetaVAE score"
    by_factor: ClassVar[tuple[str, ...]] = ("accuracy",)

    def plot(self, ax: Axes | None = None) -> Axes:
        """How often each factor was named where each was shared."""
        points = self.confusion.sum(1, keepdims=True)
        share = np.where(points > 0, self.confusion / np.maximum(points, 1), np.nan)
        axes = heat_map(
            share,
            self.factor_names,
            self.factor_names,
            title=f"{self._headline()}: share of test points",
            what="BetaVAEScoreResult.plot",
            ax=ax,
            high=1.0,
        )
        axes.set_xlabel("factor named")
        axes.set_ylabel("factor shared")
        return axes


def beta_vae_score(
    codes: Any,
    factors: Any = None,
    *,
    batch_size: int = 64,
    num_train: int = 10_000,
    num_test: int = 5_000,
    factor_names: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> BetaVAEScoreResult:
    """The BetaVAE metric: whether a linear classifier tells which factor two images share.

    A point is made by choosing a factor k and drawing ``batch_size`` pairs of rows that share its class, all else
    about them being independent:

        x_d = mean over the pairs of abs(z_d - z'_d).

    Logistic regression learns k from x on ``num_train`` points; the score is its accuracy on ``num_test`` others.
    Chance is 1 / K. It is easily 1: a code that mixes the factors linearly can score 1 too.

    The protocol and the classifier, scikit-learn's defaults on unscaled points, are those of the large study
    (Locatello et al. 2019), so codes of a tiny scale are lost to its regularisation; Higgins et al. train it by SGD.

    Args:
        codes: a :class:`Representation`, or [N, D], the codes of the whole grid in any order, or of rows drawn from it.
        factors: [N, K], the classes of the factors beside a table of codes.
        batch_size: pairs for a point.
        num_train: number of training points.
        num_test: number of test points.
        factor_names: the K names, with a table of codes; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of random halves of the rows for the interval of the score, 100 say, with as many points from
            each; 0 for none.
        seed: the seed of the draws and the halves.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, or a number out of range.
        TypeError: for codes or factors that are not real numbers.
        ImportError: without scikit-learn.

    Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework", ICLR 2017.
    """
    where = "beta_vae_score"
    given = {"batch_size": batch_size, "num_train": num_train, "num_test": num_test}
    counts = {name: check_count(where, name, value, 1) for name, value in given.items()}
    check_count(where, "seed", seed, 0)
    representation = represent(where, codes, factors, factor_names)
    settings = {**counts, "num_points": len(representation), "seed": int(seed)}
    return with_interval(
        where,
        _measure(representation, settings, np.random.default_rng(seed)),
        lambda rng: _measure(representation._half(rng), settings, rng).score,
        bootstrap=bootstrap,
        seed=seed,
    )


class BetaVAEScore(Metric[BetaVAEScoreResult], function=beta_vae_score):
    """:func:`beta_vae_score` of a table whose rows arrive in batches."""


def _measure(representation: Representation, settings: dict[str, Any], rng: np.random.Generator) -> BetaVAEScoreResult:
    where = "beta_vae_score"
    columns = factors_to_draw(where, representation)
    train, test = (draw_factors(columns, settings[name], rng) for name in ("num_train", "num_test"))
    points = [_points(representation, held, settings["batch_size"], rng) for held in (train, test)]
    model = fit_classifier(sklearn("linear_model", where).LogisticRegression, points[0], train)
    named = model.predict(points[1])
    size = len(representation.sizes)
    confusion = np.bincount(test * size + named, minlength=size * size).reshape(size, size)
    counted = confusion.sum(1)
    return BetaVAEScoreResult(
        score=float(np.mean(named == test)),
        train_score=accuracy(model, points[0], train),
        accuracy=np.where(counted > 0, confusion.diagonal() / np.maximum(counted, 1), np.nan),
        confusion=confusion,
        factor_names=representation.factor_names,
        skipped=tuple(int(k) for k in range(size) if k not in columns),
        settings=dict(settings),
    )


def _points(representation: Representation, held: np.ndarray, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """[points, D], the mean absolute difference of pairs that share the factor ``held`` [points]."""
    parts, order = [], []
    for k, batches in slices(held, batch_size):
        rows = representation.draw(len(batches) * batch_size, rng)
        pairs = representation.draw_alike(rows, k, rng)[:, 0]
        # Halves, and shares of the mean: no difference or sum of finite codes overflows.
        difference = np.abs(representation.codes(rows) / 2 - representation.codes(pairs) / 2).astype(np.float64)
        mean = (difference / batch_size).reshape(len(batches), batch_size, -1).sum(1)
        parts.append(np.minimum(mean, np.finfo(np.float64).max / 4) * 2)
        order.append(batches)
    points = np.concatenate(parts)
    result = np.empty_like(points)
    result[np.concatenate(order)] = points
    return result
