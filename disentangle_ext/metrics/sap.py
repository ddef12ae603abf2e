"""The separated attribute predictability of Kumar et al. 2018."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

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

# liblinear does not come to an end on values far beyond this, where its penalty has no weight any more.
LARGEST_CODE = 1e6


@dataclass(frozen=True, eq=False, kw_only=True)
class SAPResult(FactorResult):
    """What :func:`sap` measured.

    Attributes:
        score: the mean of ``gaps`` over the factors that vary, in [0, 1].
        gaps: [K], each factor's gap between its two best code dimensions; NaN for a skipped factor.
        predictability: [D, K], the test accuracy, or R^2, of factor k from code dimension d; NaN for a skipped factor.
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
            title=f"{self._headline()}: {'R²' if self.settings['continuous'] else 'accuracy'}",
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
    test_share: float = 0.2,
    shuffle: bool = False,
    factor_names: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> SAPResult:
    """SAP: how much better one code dimension predicts a factor than any other does.

    With the score S_dk of predicting factor k from code dimension d alone,

        gap_k = (largest S_dk - second largest S_dk),    score = mean of gap_k over k.

    For classes, S is the test accuracy of a linear support vector machine, C = .01, with balanced classes. For
    ``continuous`` factors it is the R^2 of linear regression on the training rows: the squared correlation.

    The classifier is kept as the field uses it, but mind what it does: a single dimension orders the classes on a
    line, of which one-against-rest lines can name the two ends and little between. A perfect code of dSprites scores
    .17 by it, .999 by R^2, and the value depends on the scale of the codes. Compare models by rank, on one data set.
    A dimension that goes beyond 1e6 is scaled down to it.

    Values are those of disentanglement_lib: exact for R^2, within what versions of scikit-learn differ by, 8e-4, for
    classes. A constant factor is skipped, where that code fails. With a single code dimension the second best is a dead
    one. A dimension whose variance is below 1e-12 has R^2 = 0.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean: tensor or array, any real type.
        factors: [N, K], whole numbers: each distinct one in a column is a class; or with ``continuous`` any numbers.
        continuous: whether factors are numbers to be regressed on.
        test_share: the share of the rows, the last of them, that is the test.
        shuffle: whether to bring the rows into a random order first. Needed if they are those of a grid in order;
            a sample of a data set is in random order already.
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of resamples of the rows for the interval of the score, training and test rows each among
            themselves; 0 for none.
        seed: of the order, the classifier and the resamples.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, test rows whose classes no training row
            has, no row for training or for test.
        TypeError: for codes or factors that are not real numbers.
        ImportError: without scikit-learn.

    Kumar, Sattigeri, Balakrishnan, "Variational Inference of Disentangled Latent Concepts from Unlabeled
    Observations", ICLR 2018 (arXiv 1711.00848).
    """
    problem = pose(
        "sap",
        codes,
        factors,
        factor_names,
        test_share=test_share,
        shuffle=shuffle,
        classify=not continuous,
        values=bool(continuous),
        seed=seed,
    )
    settings = {"continuous": bool(continuous), "test_share": test_share, "shuffle": shuffle}
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
    if settings["continuous"]:
        scores[:, columns] = _squared_correlations(codes, problem.factors[:, columns], problem.train_rows)
    else:
        svm = sklearn("svm", "sap")
        make = partial(svm.LinearSVC, C=0.01, class_weight="balanced", random_state=settings["seed"])
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
    x = code.astype(np.float64)[:, None]
    largest = np.abs(x).max()
    if largest > LARGEST_CODE:
        x = x / largest * LARGEST_CODE
    model = fit_classifier(make, x[:train_rows], labels[:train_rows])
    return accuracy(model, x[train_rows:], labels[train_rows:])


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
