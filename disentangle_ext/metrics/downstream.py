"""How well, and from how few labels, a simple classifier reads factors off a code."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext._extras import require
from disentangle_ext._names import choose
from disentangle_ext.metrics._interval import half
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import heat_map
from disentangle_ext.metrics._problem import Problem, check_count, pose, with_interval
from disentangle_ext.metrics._result import FactorResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Downstream", "DownstreamResult", "downstream"]

PREDICTORS = ("logistic", "boosted_trees", "histogram_boosting")


@dataclass(frozen=True, eq=False, kw_only=True)
class DownstreamResult(FactorResult):
    """The result of :func:`downstream`.

    Attributes:
        score: the mean over factors of the accuracy with the most labels, in [0, 1].
        accuracies: [K], each factor's accuracy with the most labels; NaN for a skipped factor.
        curve: [S, K], the accuracy on the test rows with each number of labels; NaN for a skipped factor.
        train_sizes: the S numbers of labels.
        efficiency: by number of labels, without the largest: the mean accuracy over that with the most labels.
        chance: [K], the accuracy on the test rows of naming the training rows' most frequent class; NaN for a
            skipped factor.
    """

    accuracies: np.ndarray
    curve: np.ndarray
    train_sizes: tuple[int, ...]
    efficiency: dict[int, float]
    chance: np.ndarray

    title: ClassVar[str] = "Downstream accuracy"
    by_factor: ClassVar[tuple[str, ...]] = ("accuracies", "chance")

    def plot(self, ax: Axes | None = None) -> Axes:
        """The accuracy of each factor by the number of labels, with chance in the last row."""
        return heat_map(
            np.vstack([self.curve, self.chance]),
            [*(f"{size:,} labels" for size in self.train_sizes), "chance"],
            list(self.factor_names),
            title=f"{self._headline()}, {self.settings['predictor']}",
            what="DownstreamResult.plot",
            ax=ax,
            high=1.0,
        )


def downstream(
    codes: Any,
    factors: Any,
    *,
    predictor: str = "logistic",
    train_sizes: Sequence[int] = (10, 100, 1000, 10000),
    test_share: float = 1 / 3,
    shuffle: bool = True,
    factor_names: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> DownstreamResult:
    """The accuracy with which a classifier fitted to some labels names each factor of fresh images.

    One classifier per factor and number of labels is fitted to the first rows of the training part, and scores on the
    test part. ``efficiency`` is the sample efficiency of the large study: the mean accuracy with n labels over that
    with the most, for every n.

    ``predictor="logistic"`` is scikit-learn's logistic regression of standardized codes with an L2 penalty of
    C = 1; the study took the codes as they are, chose C by cross-validation, and drew other images for each number of
    labels. ``"boosted_trees"`` is its GradientBoostingClassifier, as in the study: minutes for factors with many
    classes. ``"histogram_boosting"`` is the fast form of it. Classes that the labels do not show cannot be named.

    A perfect code scores 1 with enough labels. A linear classifier asks more of a code than trees do: a class must not
    lie between parts of another. A code that knows nothing scores about ``chance``, or less.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean. The study's 10,000 labels and 5,000 test
            points take 15,000 rows.
        factors: [N, K], the classes of the factors, whole numbers: each distinct one in a column is a class.
        predictor: "logistic", "boosted_trees" or "histogram_boosting".
        train_sizes: the numbers of labels, increasing. Those that exceed the training rows are left out.
        test_share: the share of the rows that is the test.
        shuffle: whether to bring the rows into a random order before they are split.
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of random halves of the test rows for the interval of the score, 100 say; 0 for none.
        seed: the seed of the order, of the trees, and of the halves.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, an unknown predictor, train_sizes that
            are not increasing or all exceed the training rows, or test rows with no class of the training rows.
        TypeError: for codes or factors that are not real numbers.
        ImportError: without scikit-learn.

    Locatello et al., "Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations",
    ICML 2019 (arXiv 1811.12359).
    """
    choose("downstream: predictor", predictor, PREDICTORS)
    sizes = [check_count("downstream", "train_sizes", size, 1) for size in train_sizes]
    if not sizes or sorted(set(sizes)) != sizes:
        raise MistakeError(f"downstream: train_sizes must be increasing numbers, got {list(train_sizes)}")
    if test_share == 0:
        raise MistakeError("downstream: test_share must be greater than 0 and less than 1, got 0")
    options: dict[str, Any] = {"test_share": test_share, "shuffle": shuffle, "seed": seed}
    problem = pose("downstream", codes, factors, factor_names, classify=True, **options)
    fitting = tuple(size for size in sizes if size <= problem.train_rows)
    if not fitting:
        raise MistakeError(
            f"downstream: train_sizes must hold a number of at most the {problem.train_rows} training rows, got {sizes}"
        )
    hits = np.stack([_hits(problem, size, predictor, int(seed)) for size in fitting])
    curve = np.where(problem.varies, hits.mean(1), np.nan)
    means = np.nanmean(curve, axis=1)
    last = hits[-1][:, problem.varies]
    result = DownstreamResult(
        score=float(means[-1]),
        accuracies=curve[-1],
        curve=curve,
        train_sizes=fitting,
        efficiency={size: float(mean / means[-1]) if means[-1] else 0.0 for size, mean in zip(fitting[:-1], means)},
        chance=_chance(problem),
        skipped=problem.skipped,
        factor_names=problem.factor_names,
        settings={"predictor": predictor, **options, "num_points": len(problem.codes)},
    )
    draw = lambda rng: float(last[half(len(last), rng)].mean())  # noqa: E731
    return with_interval("downstream", result, draw, bootstrap=bootstrap, seed=seed)


class Downstream(Metric[DownstreamResult], function=downstream):
    """:func:`downstream` of rows that arrive in batches."""


def _hits(problem: Problem, size: int, predictor: str, seed: int) -> np.ndarray:
    """Whether the classifiers from ``size`` labels name each factor of each test row: [rows, K]."""
    pipeline = require("sklearn.pipeline", extra="metrics", what="downstream")
    preprocessing = require("sklearn.preprocessing", extra="metrics", what="downstream")
    # Trees do not mind, and a penalty needs a scale. The largest magnitude first: squares may leave the range.
    scale = np.abs(problem.codes).max(0)
    codes = problem.codes / np.where(scale > 0, scale, 1)
    learnt, test = codes[:size], codes[problem.train_rows :]
    hits = np.zeros((len(test), len(problem.sizes)), dtype=bool)
    for k in np.flatnonzero(problem.varies):
        labels, truth = problem.classes[:size, k], problem.classes[problem.train_rows :, k]
        if labels.min() == labels.max():
            hits[:, k] = truth == labels[0]
            continue
        model = pipeline.make_pipeline(preprocessing.StandardScaler(), _classifier(predictor, seed))
        with warnings.catch_warnings():
            # Few labels leave classes with a single row, and an optimizer short of its tolerance.
            warnings.simplefilter("ignore")
            hits[:, k] = model.fit(learnt, labels).predict(test) == truth
    return hits


def _classifier(predictor: str, seed: int) -> Any:
    if predictor == "logistic":
        return require("sklearn.linear_model", extra="metrics", what="downstream").LogisticRegression(max_iter=1000)
    ensemble, state = require("sklearn.ensemble", extra="metrics", what="downstream"), seed % (1 << 32)
    if predictor == "boosted_trees":
        return ensemble.GradientBoostingClassifier(random_state=state)
    return ensemble.HistGradientBoostingClassifier(random_state=state, early_stopping=False)


def _chance(problem: Problem) -> np.ndarray:
    chance = np.full(len(problem.sizes), np.nan)
    for k in np.flatnonzero(problem.varies):
        learnt, truth = problem.classes[: problem.train_rows, k], problem.classes[problem.train_rows :, k]
        chance[k] = (truth == np.bincount(learnt).argmax()).mean()
    return chance
