"""The explicitness of Ridgeway and Mozer 2018."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext._names import choose
from disentangle_ext.metrics._learn import fit_classifier, sklearn, standardise
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import bars
from disentangle_ext.metrics._problem import Problem, evaluate, pose
from disentangle_ext.metrics._result import FactorResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Explicitness", "ExplicitnessResult", "explicitness"]

VARIANTS = ("multinomial", "one_vs_rest", "auc")


@dataclass(frozen=True, eq=False, kw_only=True)
class ExplicitnessResult(FactorResult):
    """The result of :func:`explicitness`.

    Attributes:
        score: the mean of ``auc`` over the factors that vary: in [0, 1], or in [-1, 1] by "one_vs_rest".
        auc: [K], each factor's mean area under the ROC curve over its classes; by "one_vs_rest" 2 AUC - 1. NaN for a
            skipped factor.
        train_score: the score on the training rows; NaN if each factor has but one class among them.
    """

    auc: np.ndarray
    train_score: float

    title: ClassVar[str] = "Explicitness"
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    by_factor: ClassVar[tuple[str, ...]] = ("auc",)

    def plot(self, ax: Axes | None = None) -> Axes:
        """A bar for each factor."""
        return bars(self.auc, self.factor_names, title=self._headline(), what="ExplicitnessResult.plot", ax=ax)


def explicitness(
    codes: Any,
    factors: Any,
    *,
    variant: str = "multinomial",
    test_share: float = 0.2,
    shuffle: bool = False,
    factor_names: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> ExplicitnessResult:
    """Explicitness: how well a linear classifier reads each factor from all code dimensions together.

    The score is the mean over factors, and over the classes of each, of the area under the ROC curve by which logistic
    regression separates the class from the others: 1 for classes that lines separate, .5 for chance.

    - ``variant="auc"`` is the form of the paper (Ridgeway and Mozer 2018): the plain AUC of a regression of each class
      against the rest, with next to no penalty (C = 1e10, as in the authors' program), on the rows it was fitted to,
      all of them. The mean is over the classes of a factor first and then over factors, as in that program, which
      divides the probabilities of a row by their sum before it orders the rows; here each regression stands alone.
    - ``"one_vs_rest"`` is that of Zaidi et al. 2020 (ubisoft's code): a regression per class, with scikit-learn's
      penalty and balanced classes, on codes scaled to [0, 1], on the rows it was fitted to, as 2 AUC - 1: 1 is perfect
      and 0 chance.
    - ``"multinomial"`` is that of the large study (Locatello et al. 2019) and disentanglement_lib: one softmax
      regression per factor, with scikit-learn's penalty, on codes of mean 0 and variance 1, as the plain AUC on test
      rows. It is the default because it is scored on rows that it has not seen.

    They differ by more than their scale: a class amid others on a line is seen by the softmax regression alone.

    A code dimension that does not vary is 0 here; disentanglement_lib divides by its deviation and fails. A class that
    is in the test rows alone has no score and is left out; so is one that all of the rows have.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean: tensor or array, any real type.
        factors: [N, K], the classes of the factors, whole numbers: each distinct one in a column is a class.
        variant: "multinomial", "one_vs_rest" or "auc".
        test_share: the share of the rows, the last of them, that is the test of "multinomial".
        shuffle: whether to bring the rows into a random order first. Needed if they are those of a grid in order;
            a sample of a data set is in random order already.
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of random halves of the rows for the interval of the score, 100 say, of training and test rows
            each; 0 for none.
        seed: the seed of the order and the halves.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, test rows whose classes no training row
            has, no row for training or for test, or no class for which the score is defined.
        TypeError: for codes or factors that are not real numbers.
        ImportError: without scikit-learn.

    Ridgeway, Mozer, "Learning Deep Disentangled Embeddings with the F-Statistic Loss", NeurIPS 2018 (arXiv 1802.05312).
    Zaidi, Boilard, Gagnon, Carbonneau, "Measuring Disentanglement: A Review of Metrics", 2020 (arXiv 2012.09276).
    """
    choose("explicitness: variant", variant, VARIANTS)
    multinomial = variant == "multinomial"
    share = test_share if multinomial else 0.0
    problem = pose(
        "explicitness", codes, factors, factor_names, test_share=share, shuffle=shuffle, classify=multinomial, seed=seed
    )
    settings = {"variant": variant, "test_share": share, "shuffle": shuffle}
    settings |= {"num_points": len(problem.codes), "seed": int(seed) if shuffle else None}
    return evaluate(problem, lambda each: _explicitness(each, settings), bootstrap=bootstrap, seed=seed)


class Explicitness(Metric[ExplicitnessResult], function=explicitness):
    """:func:`explicitness` of rows that arrive in batches."""


def _explicitness(problem: Problem, settings: dict[str, Any]) -> ExplicitnessResult:
    measure = {"multinomial": _multinomial, "one_vs_rest": _balanced_one_vs_rest, "auc": _plain_auc}[
        settings["variant"]
    ]
    auc, train = np.full(len(problem.sizes), np.nan), np.full(len(problem.sizes), np.nan)
    for k in np.flatnonzero(problem.varies):
        auc[k], train[k] = measure(problem, problem.classes[:, k])
    defined = auc == auc
    if not defined.any():
        raise MistakeError("explicitness: factors must have a class that is among the test rows and not all of them")
    return ExplicitnessResult(
        score=float(auc[defined].mean()),
        auc=auc,
        train_score=float(train[train == train].mean()) if (train == train).any() else float("nan"),
        skipped=problem.skipped,
        factor_names=problem.factor_names,
        settings=dict(settings),
    )


def _multinomial(problem: Problem, labels: np.ndarray) -> tuple[float, float]:
    rows = problem.train_rows
    train, test = standardise(problem.codes[:rows], problem.codes[rows:])
    model = fit_classifier(_logistic(), train, labels[:rows])
    return tuple(
        _mean_auc(model.predict_proba(x), y[:, None] == model.classes_)
        for x, y in ((test, labels[rows:]), (train, labels[:rows]))
    )  # type: ignore[return-value]


def _balanced_one_vs_rest(problem: Problem, labels: np.ndarray) -> tuple[float, float]:
    value = 2 * (_one_vs_rest_auc(problem, labels, _logistic(class_weight="balanced")) - 0.5)
    return value, value


def _plain_auc(problem: Problem, labels: np.ndarray) -> tuple[float, float]:
    value = _one_vs_rest_auc(problem, labels, _logistic(C=1e10, max_iter=1000))
    return value, value


def _one_vs_rest_auc(problem: Problem, labels: np.ndarray, make: Any) -> float:
    """The mean AUC of a regression per class, on the rows it was fitted to."""
    low, high = problem.codes.min(0), problem.codes.max(0)
    half = high / 2 - low / 2
    x = (problem.codes / 2 - low / 2) / np.where(half > 0, half, 1)
    members = labels[:, None] == np.unique(labels)
    probability = np.stack([fit_classifier(make, x, each).predict_proba(x)[:, 1] for each in members.T], 1)
    return _mean_auc(probability, members)


def _logistic(**options: Any) -> Any:
    return partial(sklearn("linear_model", "explicitness").LogisticRegression, **options)


def _mean_auc(probability: np.ndarray, members: np.ndarray) -> float:
    """The mean over the columns [n, S] of the area under the ROC curve; NaN if none has both members and others."""
    counts = members.sum(0)
    both = (counts > 0) & (counts < len(members))
    if not both.any():
        return float("nan")
    return float(np.mean([_auc(p, m) for p, m in zip(probability[:, both].T, members[:, both].T)]))


def _auc(score: np.ndarray, member: np.ndarray) -> float:
    """The share of pairs of a member and another that the score orders rightly, equal scores counting half."""
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of equal scores
    ones = int(member.sum())
    return float((rank[place][member].sum() - ones * (ones + 1) / 2) / (ones * (len(member) - ones)))
