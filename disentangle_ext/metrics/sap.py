"""The separated attribute predictability of Kumar et al. 2018."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext._names import choose
from disentangle_ext.metrics._learn import accuracy, fit_classifier, sklearn
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import code_names, heat_map
from disentangle_ext.metrics._problem import Problem, evaluate, pose
from disentangle_ext.metrics._result import FactorResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SAP", "SAPResult", "sap"]

# At this standard deviation disentanglement_lib takes a code dimension for dead.
LEAST_DEVIATION = 1e-6

PREDICTORS = ("svm", "thresholds")
SCORES = {"svm": "accuracy", "thresholds": "balanced accuracy", "line": "R²"}

# liblinear does not come to an end on values far beyond the largest, where its penalty has no weight any more, nor
# where a gradient is so small that its square is 0: its conjugate gradients then take steps of length 0 for ever.
# Between the smallest and 1e-20 the scale of a dimension changes nothing: what a square adds to 1 is rounded off.
LARGEST_CODE, SMALLEST_CODE = 1e6, 1e-100

# Codes nearer to 0 than this are 0 to it. Sums of others, with their rounding, have squares that float64 can hold.
NO_CODE = 1e-120

# Test codes that are farther out lie on the side of every line that their sign says.
FARTHEST_CODE = 1e100


@dataclass(frozen=True, eq=False, kw_only=True)
class SAPResult(FactorResult):
    """The result of :func:`sap`.

    Attributes:
        score: the mean of ``gaps`` over the factors that vary, in [0, 1].
        gaps: [K], each factor's gap between its two best code dimensions; NaN for a skipped factor.
        predictability: [D, K], the accuracy, balanced accuracy or R^2 of factor k from code dimension d; NaN for a
            skipped factor.
    """

    gaps: np.ndarray
    predictability: np.ndarray

    title: ClassVar[str] = "SAP"
    by_factor: ClassVar[tuple[str, ...]] = ("gaps",)

    def plot(self, ax: Axes | None = None) -> Axes:
        """How well each code dimension predicts each factor; the two best of a factor, which make its gap, framed."""
        columns = [k for k in range(len(self.gaps)) if k not in self.skipped]
        ranked = np.argsort(-self.predictability[:, columns], axis=0, kind="stable")[:2]
        return heat_map(
            self.predictability,
            code_names(len(self.predictability)),
            [f"{name}\ngap {gap:.2f}" if gap == gap else name for name, gap in zip(self.factor_names, self.gaps)],
            title=f"{self._headline()}: {SCORES[self.settings['predictor']]}",
            what="SAPResult.plot",
            ax=ax,
            marked=[(int(d), k) for row in ranked for d, k in zip(row, columns)],
            high=1.0,
        )


def sap(
    codes: Any,
    factors: Any,
    *,
    continuous: bool = False,
    predictor: str = "svm",
    test_share: float = 0.2,
    shuffle: bool = False,
    factor_names: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> SAPResult:
    """SAP: how much better one code dimension predicts a factor than any other does.

    With the score S_dk of predicting factor k from code dimension d alone,

        gap_k = (largest S_dk - second largest S_dk),    score = mean of gap_k over k.

    - ``predictor="svm"``, for classes, is the form of the large study (Locatello et al. 2019) and disentanglement_lib:
      S is the test accuracy of a linear support vector machine, C = .01, with balanced classes.
    - ``predictor="thresholds"``, for classes, is the form of the paper (Kumar et al. 2018): S is the largest balanced
      accuracy that thresholds on the dimension reach, which is the mean over the classes of the share of a class's rows
      that are classified correctly. The paper speaks of "one or more" thresholds; here a factor of C classes has up to
      C - 1, and each interval between them is assigned the class that is best for the accuracy. As in the paper, all
      rows are both fitted and scored.
    - ``continuous=True``, for factors that are numbers, is the same in the paper and in the study: S is the R^2 of
      linear regression, the squared correlation. It is taken over the training rows, as in disentanglement_lib.

    The support vector machine sees one number a row, so each of its one-against-rest classifiers is one threshold: it
    finds the classes at the two ends of the line, and few of those between. A perfect code of dSprites scores .17 by
    it, and .999 by R^2. The score depends on the scale of the codes, too. Compare models on one data set, by rank.
    A dimension with training codes beyond 1e6 is scaled so that the largest of them is 1e6, and one with all of them
    within 1e-100 of 0 so that the largest is 1e-100: beyond these the solver does not end. Thresholds depend on the
    order of the codes alone; where rows are few, they tell many classes apart by chance.

    Values agree with disentanglement_lib: exactly for R^2, and within 8e-4 for the support vector machine, by which
    versions of scikit-learn differ. A constant factor is skipped; disentanglement_lib fails on one. Codes of a single
    dimension are scored as if a second, dead one stood beside it. A dimension whose variance is below 1e-12 has S = 0
    by R^2 and by thresholds.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean: tensor or array, any real type.
        factors: [N, K], whole numbers: each distinct one in a column is a class; or with ``continuous`` any numbers.
        continuous: whether factors are numbers to be regressed on.
        predictor: "svm" or "thresholds", what tells classes apart.
        test_share: the share of the rows, the last of them, that is the test. Thresholds take all rows.
        shuffle: whether to bring the rows into a random order first. Needed if they are those of a grid in order;
            a sample of a data set is in random order already.
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of random halves of the rows for the interval of the score, 100 say, of training and test rows
            each; 0 for none. It holds for scores of equally many rows: in more of them, the penalty of the support
            vector machine counts less.
        seed: the seed of the order, the classifier and the halves.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, test rows whose classes no training row
            has, no row for training or for test, an unknown predictor, or thresholds for continuous factors.
        TypeError: for codes or factors that are not real numbers.
        ImportError: for the support vector machine without scikit-learn.

    Kumar, Sattigeri, Balakrishnan, "Variational Inference of Disentangled Latent Concepts from Unlabeled
    Observations", ICLR 2018 (arXiv 1711.00848).
    """
    choose("sap: predictor", predictor, PREDICTORS)
    if continuous and predictor != "svm":
        raise MistakeError(f"sap: predictor must be left out for continuous factors, got {predictor!r}")
    share = 0.0 if predictor == "thresholds" else test_share
    problem = pose(
        "sap",
        codes,
        factors,
        factor_names,
        test_share=share,
        shuffle=shuffle,
        classify=not continuous,
        values=bool(continuous),
        seed=seed,
    )
    predictor = "line" if continuous else predictor
    settings = {"continuous": bool(continuous), "predictor": predictor, "test_share": share, "shuffle": shuffle}
    settings |= {"num_points": len(problem.codes), "seed": int(seed)}
    return evaluate(problem, lambda each: _sap(each, settings), bootstrap=bootstrap, seed=seed)


class SAP(Metric[SAPResult], function=sap):
    """:func:`sap` of rows that arrive in batches."""


def _sap(problem: Problem, settings: dict[str, Any]) -> SAPResult:
    codes = problem.codes
    if codes.shape[1] == 1:
        codes = np.hstack([codes, np.zeros_like(codes)])
    scores = np.full((codes.shape[1], len(problem.factor_names)), np.nan)
    columns = np.flatnonzero(problem.varies)
    if settings["predictor"] == "line":
        scores[:, columns] = _squared_correlations(codes, problem.factors[:, columns], problem.train_rows)
    elif settings["predictor"] == "thresholds":
        dead = _normalised(codes)[1] <= LEAST_DEVIATION
        for k in columns:
            scores[:, k] = np.where(dead, 0.0, _balanced_accuracies(codes, problem.classes[:, k]))
    else:
        svm = sklearn("svm", "sap")
        make = partial(svm.LinearSVC, C=0.01, class_weight="balanced", random_state=settings["seed"] % (1 << 32))
        for k in columns:
            scores[:, k] = [
                _test_accuracy(make, column, problem.classes[:, k], problem.train_rows) for column in codes.T
            ]
    ranked = np.sort(scores, axis=0)
    gaps = ranked[-1] - ranked[-2]
    return SAPResult(
        score=float(gaps[columns].mean()),
        gaps=gaps,
        predictability=scores[: problem.codes.shape[1]],
        skipped=problem.skipped,
        factor_names=problem.factor_names,
        settings=dict(settings),
    )


def _test_accuracy(make: Any, code: np.ndarray, labels: np.ndarray, train_rows: int) -> float:
    x = _within_reach(code.astype(np.float64), train_rows)[:, None]
    model = fit_classifier(make, x[:train_rows], labels[:train_rows])
    return accuracy(model, x[train_rows:], labels[train_rows:])


def _within_reach(code: np.ndarray, train_rows: int) -> np.ndarray:
    """A code dimension [N] in a unit, and without the values, that liblinear would not come to an end with."""
    largest = np.abs(code[:train_rows]).max()
    unit = np.clip(largest, SMALLEST_CODE, LARGEST_CODE)
    if largest > 0 and unit != largest:
        with np.errstate(over="ignore"):  # test rows, which are clipped below
            code = code / largest * unit
    return np.clip(np.where(np.abs(code) < NO_CODE, 0.0, code), -FARTHEST_CODE, FARTHEST_CODE)


def _balanced_accuracies(codes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[D], the largest balanced accuracy by which as many intervals of each code dimension as classes name these.

    Row by row in the order of the codes, it keeps what is reached with each number of intervals if the last of them
    names each class: a row goes on with the interval, or opens the next one where its code differs from the one before.
    """
    columns, counts = np.arange(codes.shape[1]), np.bincount(labels)
    order = np.argsort(codes, axis=0, kind="stable")
    ranked, named = np.take_along_axis(codes, order, 0), labels[order]
    opens = np.vstack([np.zeros(len(columns), bool), ranked[1:] > ranked[:-1]])
    reached = np.full((len(columns), len(counts), len(counts)), -np.inf)
    reached[:, 0] = 0.0
    for row in range(len(codes)):
        if opens[row].any():
            before = np.where(opens[row], reached[:, :-1].max(2).T, -np.inf).T
            np.maximum(reached[:, 1:], before[:, :, None], out=reached[:, 1:])
        reached[columns, :, named[row]] += 1 / counts[named[row], None]
    return np.minimum(reached.max((1, 2)) / len(counts), 1.0)


def _squared_correlations(codes: np.ndarray, factors: np.ndarray, rows: int) -> np.ndarray:
    """[D, K] over the first ``rows``; 0 for a column that does not vary among them."""
    z, deviation = _normalised(codes[:rows])
    v, _ = _normalised(factors[:rows])
    z[:, deviation <= LEAST_DEVIATION] = 0
    return np.clip(z.T @ v, -1, 1) ** 2


def _normalised(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centred columns of length 1, and their standard deviations; a constant column becomes 0."""
    columns = columns.astype(np.float64)
    unit = np.maximum(np.abs(columns).max(0), np.finfo(np.float64).tiny)
    constant = columns.min(0) == columns.max(0)
    centred = np.where(constant, 0.0, columns / unit - (columns / unit).mean(0))
    length = np.sqrt((centred**2).sum(0))
    with np.errstate(over="ignore"):  # infinite is as far from dead as any
        deviation = unit * (length / np.sqrt(max(1, len(columns) - 1)))
    return centred / np.where(length > 0, length, 1.0), deviation
