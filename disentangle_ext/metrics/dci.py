"""Disentanglement, completeness and informativeness of Eastwood and Williams 2018."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext._names import choose
from disentangle_ext.metrics._learn import accuracy, fit_classifier, sklearn, standardise
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import code_names, hinton
from disentangle_ext.metrics._problem import Problem, evaluate, pose
from disentangle_ext.metrics._result import FactorResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DCI", "DCIResult", "dci"]

# What tells a factor's classes from the codes: the module of scikit-learn, the class, and its options.
CLASSIFIERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gbt": ("GradientBoostingClassifier", {}),
    "fast": ("GradientBoostingClassifier", {"n_estimators": 20, "subsample": 0.3}),
    "forest": ("RandomForestClassifier", {"criterion": "entropy", "max_depth": 10, "max_features": None}),
    "forest_sqrt": ("RandomForestClassifier", {"criterion": "entropy", "max_depth": 10}),
}
PREDICTORS = (*CLASSIFIERS, "lasso")


@dataclass(frozen=True, eq=False, kw_only=True)
class DCIResult(FactorResult):
    """The result of :func:`dci`.

    Attributes:
        score: the disentanglement, in [0, 1].
        completeness: in [0, 1].
        informativeness_train, informativeness_test: the mean accuracy, or R^2, of the predictors.
        importance: [D, K], of code dimension d for factor k; 0 for a skipped factor.
        disentanglement_by_code: [D]; 0 for a dimension of no importance.
        completeness_by_factor: [K]; NaN for a skipped factor.
        informativeness_by_factor: [K], on the test rows; NaN for a skipped factor.
        predictor: what the importances come from; the score depends on nothing so much.
    """

    completeness: float
    informativeness_train: float
    informativeness_test: float
    importance: np.ndarray
    disentanglement_by_code: np.ndarray
    completeness_by_factor: np.ndarray
    informativeness_by_factor: np.ndarray
    predictor: str

    title: ClassVar[str] = "DCI disentanglement"
    by_factor: ClassVar[tuple[str, ...]] = ("completeness_by_factor", "informativeness_by_factor")

    def plot(self, ax: Axes | None = None) -> Axes:
        """A Hinton diagram: the area of a square is the importance of a code dimension for a factor."""
        codes = code_names(len(self.importance))
        shares = [f"{name}: D {value:.2f}" for name, value in zip(codes, self.disentanglement_by_code)]
        heads = [
            f"{name}\nC {value:.2f}" if value == value else name
            for name, value in zip(self.factor_names, self.completeness_by_factor)
        ]
        title = f"{self._headline()}, C {self.completeness:.3f}, {self.predictor}"
        return hinton(self.importance, shares, heads, title=title, what="DCIResult.plot", ax=ax)

    def _details(self) -> str:
        constant = super()._details().partition("skipped, constant: ")[2]
        parts = (
            f"completeness {self.completeness:.3f}, informativeness {self.informativeness_test:.3f}, {self.predictor}"
        )
        return f"{parts}; skipped, constant: {constant}" if constant else parts


def dci(
    codes: Any,
    factors: Any,
    *,
    predictor: str = "gbt",
    test_share: float = 0.2,
    shuffle: bool = False,
    factor_names: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> DCIResult:
    """Disentanglement, completeness and informativeness, from what a predictor of each factor looks at.

    For the importance R_dk of code dimension d to the predictor of factor k, D dimensions and K factors,

        disentanglement_d = 1 - H_K(R_dk / sum_k R_dk),    disentanglement = sum_d w_d disentanglement_d,
        completeness_k = 1 - H_D(R_dk / sum_d R_dk),       completeness = mean over k,

    where H_B is the entropy with logarithms to base B, and w_d the share of dimension d in all importance.
    Informativeness is the predictors' mean accuracy. ``score`` is the disentanglement: 1 if each dimension serves one
    factor, whatever their number. With one factor disentanglement is 1, as completeness is with one dimension. With no
    importance anywhere both are 0.

    The predictor decides more than the codes do; the result names it.

    - ``"gbt"``: scikit-learn's ``GradientBoostingClassifier``, as the large study (Locatello et al. 2019): the
      reference. A perfect code scores 1. It grows 100 trees for every class of every factor: minutes for 10,000 points.
    - ``"fast"``: the same with 20 trees, each of 30 % of the rows, for a tenth of the time. Few trees miss what the
      last ones of "gbt" fit, which is mostly noise: accuracies are lower, disentanglement is close, though not in sets
      of a few hundred rows.
    - ``"forest"``: random forest of 100 trees of depth 10 that see all dimensions at each split: 1 for a perfect code.
    - ``"forest_sqrt"``: the same with a random choice of sqrt(D) dimensions at each split, scikit-learn's default and
      that of tripod. Where the right dimension is not among them another is used: .64 for a perfect code.
    - ``"lasso"``: linear regression on the factors' values, of mean 0 and variance 1 as the codes, with the penalty
      chosen by five-fold cross-validation; the importance is abs(weight), informativeness R^2, not below 0. As in the
      paper; for factors whose values are an order.

    A constant factor is skipped, where disentanglement_lib fails.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean: tensor or array, any real type.
        factors: [N, K], whole numbers: each distinct one in a column is a class; or for "lasso" any numbers.
        predictor: "gbt", "fast", "forest", "forest_sqrt" or "lasso".
        test_share: the share of the rows, the last of them, that is the test.
        shuffle: whether to bring the rows into a random order first. Needed if they are those of a grid in order;
            a sample of a data set is in random order already.
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of random halves of the rows for the interval of the score, with new predictors for each, 20
            say; 0 for none. It is for scores of as many rows: trees see more in more of them.
        seed: the seed of the order, the predictors and the halves.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, test rows whose classes no training row
            has, fewer than one row for the test or, for "lasso", five for training.
        TypeError: for codes or factors that are not real numbers.
        ImportError: without scikit-learn.

    Eastwood, Williams, "A Framework for the Quantitative Evaluation of Disentangled Representations", ICLR 2018.
    """
    choose("dci: predictor", predictor, PREDICTORS)
    lasso = predictor == "lasso"
    options: dict[str, Any] = {"test_share": test_share, "shuffle": shuffle, "seed": seed}
    problem = pose("dci", codes, factors, factor_names, classify=not lasso, values=lasso, **options)
    if lasso and problem.train_rows < 5:
        raise MistakeError(f"dci: codes must have 5 training rows or more for lasso, got {problem.train_rows}")
    settings = {"predictor": predictor, "test_share": test_share, "shuffle": shuffle}
    settings |= {"num_points": len(problem.codes), "seed": int(seed)}
    return evaluate(problem, lambda each: _dci(each, settings), bootstrap=bootstrap, seed=seed)


class DCI(Metric[DCIResult], function=dci):
    """:func:`dci` of rows that arrive in batches."""


def _dci(problem: Problem, settings: dict[str, Any]) -> DCIResult:
    predictor = settings["predictor"]
    learn = _lasso(problem) if predictor == "lasso" else _classifier(problem, predictor, settings["seed"])
    importance = np.zeros((problem.codes.shape[1], len(problem.sizes)))
    train, test = np.full(len(problem.sizes), np.nan), np.full(len(problem.sizes), np.nan)
    columns = np.flatnonzero(problem.varies)
    for k in columns:
        importance[:, k], train[k], test[k] = learn(int(k))
    by_code = _concentration(importance[:, columns])
    by_factor = np.full(len(problem.sizes), np.nan)
    by_factor[columns] = _concentration(importance[:, columns].T)
    total = importance.sum()
    return DCIResult(
        score=float(importance.sum(1) @ by_code / total) if total > 0 else 0.0,
        completeness=float(by_factor[columns].mean()),
        informativeness_train=float(train[columns].mean()),
        informativeness_test=float(test[columns].mean()),
        importance=importance,
        disentanglement_by_code=by_code,
        completeness_by_factor=by_factor,
        informativeness_by_factor=test,
        predictor=predictor,
        skipped=problem.skipped,
        factor_names=problem.factor_names,
        settings=dict(settings),
    )


def _concentration(importance: np.ndarray) -> np.ndarray:
    """1 - entropy of each row in units of that of a uniform one; 0 for a row of zeros."""
    total = importance.sum(1)
    share = importance / np.where(total > 0, total, 1)[:, None]
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(1)
    uniform = np.log(max(2, importance.shape[1]))
    return np.where(total > 0, np.clip(1 - entropy / uniform, 0, 1), 0.0)


def _classifier(problem: Problem, predictor: str, seed: int) -> Callable[[int], tuple[np.ndarray, float, float]]:
    name, options = CLASSIFIERS[predictor]
    make = getattr(sklearn("ensemble", "dci"), name)
    # One stream for all factors, as where numpy's global state is seeded and the predictors draw from it.
    random = np.random.RandomState(seed % (1 << 32))
    x, rows = _within_float32(problem.codes), problem.train_rows

    def learn(k: int) -> tuple[np.ndarray, float, float]:
        y = problem.classes[:, k]
        model = fit_classifier(lambda: make(random_state=random, **options), x[:rows], y[:rows])
        importance = np.abs(model.feature_importances_)
        return importance, accuracy(model, x[:rows], y[:rows]), accuracy(model, x[rows:], y[rows:])

    return learn


def _within_float32(codes: np.ndarray) -> np.ndarray:
    """Codes whose columns keep their order, with magnitudes that can be summed over the whole table in float32.

    Trees compare in float32, and scikit-learn sums all entries to look for infinities.
    """
    limit = float(np.finfo(np.float32).max) / 4 / codes.size
    largest = np.abs(codes).max(0).astype(np.float64)
    return codes / np.maximum(largest / limit, 1.0)


def _lasso(problem: Problem) -> Callable[[int], tuple[np.ndarray, float, float]]:
    linear_model = sklearn("linear_model", "dci")
    rows = problem.train_rows
    x_train, x_test = standardise(problem.codes[:rows], problem.codes[rows:])

    def learn(k: int) -> tuple[np.ndarray, float, float]:
        y_train, y_test = (
            each[:, 0] for each in standardise(problem.factors[:rows, k, None], problem.factors[rows:, k, None])
        )
        if not x_train.any() or not y_train.any():
            return np.zeros(x_train.shape[1]), 0.0, 0.0
        # The penalty that silences all weights is 1 at most between columns of variance 1.
        model = linear_model.LassoCV(alphas=np.logspace(-4, 0, 30), cv=5, max_iter=10_000).fit(x_train, y_train)
        return (
            np.abs(model.coef_),
            _explained(model.predict(x_train), y_train),
            _explained(model.predict(x_test), y_test),
        )

    return learn


def _explained(predicted: np.ndarray, y: np.ndarray) -> float:
    """R^2, not below 0, against the mean of the training rows, which is 0."""
    total = float(y @ y)
    return max(0.0, 1 - float(((predicted - y) ** 2).sum()) / total) if total > 0 else 0.0
