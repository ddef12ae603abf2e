"""InfoM, InfoE and InfoC of Hsu et al. 2023: modularity, explicitness and compactness by information."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from disentangle_ext._extras import require
from disentangle_ext._names import choose
from disentangle_ext.metrics._discrete import entropy, mutual_information, to_classes
from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._plot import code_names, heat_map
from disentangle_ext.metrics._problem import Problem, check_count, evaluate, pose
from disentangle_ext.metrics._result import FactorResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["InfoMEC", "InfoMECResult", "infomec"]

ESTIMATORS = ("knn", "discrete")
PRUNINGS = ("iqr", "range", "none")

# Shares of the widest dimension below which the authors' programs prune: tripod's and latent_quantization's.
_IQR_SHARE, _RANGE_SHARE = 1 / 10, 1 / 20


@dataclass(frozen=True, eq=False, kw_only=True)
class InfoMECResult(FactorResult):
    """The result of :func:`infomec`.

    Attributes:
        score: ``modularity``.
        modularity: InfoM, in [0, 1].
        explicitness: InfoE, in [0, 1].
        compactness: InfoC, in [0, 1].
        by_factor_explicitness: [K], the share of each factor's entropy that a linear classifier removes; NaN for a
            skipped factor.
        normalized: [D, K], I(z_d; v_k) / H(v_k); NaN for a skipped factor.
        active: [D], whether each code dimension was kept.
    """

    modularity: float
    explicitness: float
    compactness: float
    by_factor_explicitness: np.ndarray
    normalized: np.ndarray
    active: np.ndarray

    title: ClassVar[str] = "InfoM"
    by_factor: ClassVar[tuple[str, ...]] = ("by_factor_explicitness",)

    def plot(self, ax: Axes | None = None) -> Axes:
        """The normalized mutual information; pruned code dimensions are in brackets."""
        names = [name if on else f"({name})" for name, on in zip(code_names(len(self.active)), self.active)]
        title = f"{self}: I(z; v) / H(v)"
        what = "InfoMECResult.plot"
        return heat_map(self.normalized, names, list(self.factor_names), title=title, what=what, ax=ax, high=1.0)

    def _details(self) -> str:
        skipped = [self.factor_names[k] for k in self.skipped]
        constant = f"; skipped, constant: {', '.join(skipped)}" if skipped else ""
        return f"InfoE {self.explicitness:.3f}, InfoC {self.compactness:.3f}{constant}"


def infomec(
    codes: Any,
    factors: Any,
    *,
    estimator: str = "knn",
    neighbors: int = 10,
    prune: str = "iqr",
    max_iter: int = 100,
    factor_names: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> InfoMECResult:
    """Modularity, explicitness and compactness from mutual information and a linear classifier.

    With J = I(z_d; v_k) / H(v_k), over the D' code dimensions that are kept and the K factors that vary,

        InfoM = (mean over d of max_k J / sum_k J - 1 / K) / (1 - 1 / K),
        InfoC = (mean over k of max_d J / sum_d J - 1 / D') / (1 - 1 / D'),
        InfoE = mean over k of 1 - (log-loss of v_k by a linear classifier of all codes) / log(classes of v_k).

    ``estimator="knn"`` is that of Ross 2014 for a continuous code and a class: it needs no bins. Codes with equal
    values are told apart by noise of 1e-10 deviations, drawn from ``seed``, as in scikit-learn; without them nothing is
    random. ``"discrete"`` takes each distinct value of a code as a class, and one-hot codes in the classifier: for
    quantized latents. The classifier is a logistic regression without penalty, with balanced classes and at most
    ``max_iter`` steps, and its loss is that of the rows it was fitted to, as in the paper.

    ``prune`` drops code dimensions that hardly vary from InfoM and InfoC: "iqr" keeps those whose interquartile
    range exceeds a tenth of the largest one (the authors' later program; .1 for discrete codes), "range" those whose
    range exceeds a twentieth of the largest (their earlier one; any, for discrete codes). "iqr" also drops a dimension
    that is 0 for three quarters of the images.

    The estimate can be exactly 0 for all factors or dimensions, where the authors' programs return NaN: the share is
    then 1 / K, or 1 / D', which adds 0. With one factor, or one dimension, it is 1 if there is any information and 0 if
    not. If no dimension is kept, all three are 0.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean.
        factors: [N, K], the classes of the factors, whole numbers: each distinct one in a column is a class.
        estimator: "knn" or "discrete".
        neighbors: the number of neighbours of the knn estimator, at least 1.
        prune: "iqr", "range" or "none".
        max_iter: the limit of steps of the logistic regression, at least 1.
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.
        bootstrap: number of random halves of the rows for the interval of the score, 100 say; 0 for none.
        seed: the seed of the noise on equal codes and of the halves.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies, or an unknown estimator or pruning.
        TypeError: for codes or factors that are not real numbers.
        ImportError: without scikit-learn.

    Hsu, Dorrell, Whittington, Wu, Finn, "Disentanglement via Latent Quantization", NeurIPS 2023 (arXiv 2305.18378).
    Ross, "Mutual Information between Discrete and Continuous Data Sets", PLoS ONE 2014.
    """
    choose("infomec: estimator", estimator, ESTIMATORS)
    choose("infomec: prune", prune, PRUNINGS)
    check_count("infomec", "neighbors", neighbors, 1)
    check_count("infomec", "max_iter", max_iter, 1)
    problem = pose("infomec", codes, factors, factor_names, seed=seed)
    settings = {"estimator": estimator, "neighbors": int(neighbors), "prune": prune, "max_iter": int(max_iter)}
    settings |= {"num_points": len(problem.codes), "seed": int(seed)}
    return evaluate(problem, lambda each: _measure(each, settings), bootstrap=bootstrap, seed=seed)


class InfoMEC(Metric[InfoMECResult], function=infomec):
    """:func:`infomec` of rows that arrive in batches."""


def _measure(problem: Problem, settings: dict[str, Any]) -> InfoMECResult:
    discrete = settings["estimator"] == "discrete"
    varies, names = problem.varies, problem.factor_names
    total = entropy(problem.classes, problem.sizes)
    if discrete:
        values, counts = to_classes(problem.codes)
        known = mutual_information(values, counts, problem.classes, problem.sizes)
    else:
        known = _knn(problem, settings["neighbors"], np.random.default_rng(settings["seed"]))
    normalized = np.divide(known, total, out=np.full(known.shape, np.nan), where=varies)
    active = _active(problem.codes, settings["prune"], discrete)
    kept = normalized[active][:, varies]
    removed = np.full(len(names), np.nan)
    removed[varies] = _explicitness(problem, discrete, settings["max_iter"]) if active.any() else 0.0
    modularity = _concentration(kept)
    return InfoMECResult(
        score=modularity,
        modularity=modularity,
        explicitness=float(removed[varies].mean()),
        compactness=_concentration(kept.T),
        by_factor_explicitness=removed,
        normalized=normalized,
        active=active,
        skipped=problem.skipped,
        factor_names=names,
        settings=dict(settings),
    )


def _active(codes: np.ndarray, prune: str, discrete: bool) -> np.ndarray:
    wide = codes / (np.abs(codes).max() or 1.0) if not discrete else codes.astype(np.float64)
    if prune == "none":
        return wide.max(0) > wide.min(0)
    if prune == "range":
        width = wide.max(0) - wide.min(0)
        return width > (0 if discrete else width.max() * _RANGE_SHARE)
    low, high = np.quantile(wide, [0.25, 0.75], axis=0)
    width = high - low
    return width > (0.1 if discrete else width.max() * _IQR_SHARE)


def _concentration(shares: np.ndarray) -> float:
    """The mean over rows of the largest share of the sum, from that of equal parts at 0 to one part at 1."""
    rows, parts = shares.shape
    if rows == 0 or parts == 0:
        return 0.0
    total, largest = shares.sum(1), shares.max(1)
    some = total > 0
    if parts == 1:
        return float(some.mean())
    share = np.divide(largest, total, out=np.full(rows, 1 / parts), where=some)
    return min(1.0, max(0.0, float((share.mean() - 1 / parts) / (1 - 1 / parts))))


def _explicitness(problem: Problem, discrete: bool, max_iter: int) -> np.ndarray:
    """The share of the entropy of balanced classes that a linear classifier removes, for each factor that varies."""
    linear = require("sklearn.linear_model", extra="metrics", what="infomec")
    preprocessing = require("sklearn.preprocessing", extra="metrics", what="infomec")
    scaled = problem.codes / (np.abs(problem.codes).max(0) + (problem.codes == 0).all(0))
    inputs = preprocessing.OneHotEncoder() if discrete else preprocessing.StandardScaler()
    codes = inputs.fit_transform(problem.codes if discrete else scaled)
    removed = []
    for k in np.flatnonzero(problem.varies):
        # An infinite C is no penalty, in every version.
        model = linear.LogisticRegression(C=np.inf, class_weight="balanced", max_iter=max_iter)
        with warnings.catch_warnings():
            # The limit of steps is part of the definition.
            warnings.simplefilter("ignore")
            model.fit(codes, problem.classes[:, k])
        chance = model.predict_proba(codes)[np.arange(len(problem.codes)), problem.classes[:, k]]
        loss = -float(np.log(np.maximum(chance, np.finfo(np.float64).eps)).mean())
        removed.append(max(0.0, 1 - loss / math.log(problem.sizes[k])))
    return np.array(removed)


def _knn(problem: Problem, neighbors: int, rng: np.random.Generator) -> np.ndarray:
    """The mutual information [D, K], in nats, of continuous codes and classes."""
    result = np.empty((problem.codes.shape[1], len(problem.sizes)))
    for d, column in enumerate(problem.codes.T.astype(np.float64)):
        values = _distinct(column, rng)
        for k in range(len(problem.sizes)):
            result[d, k] = _knn_pair(values, problem.classes[:, k], neighbors) if values is not None else 0.0
    return result


def _distinct(column: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """A code dimension in deviations, with noise if values repeat; None if it is constant."""
    scaled = column / (np.abs(column).max() or 1.0)
    std = scaled.std()
    if std == 0 or column.min() == column.max():
        return None
    scaled /= std
    if len(np.unique(scaled)) < len(scaled):
        scaled += 1e-10 * max(1.0, float(np.abs(scaled).mean())) * rng.standard_normal(len(scaled))
    return np.asarray(scaled)


def _knn_pair(values: np.ndarray, labels: np.ndarray, neighbors: int) -> float:
    """Ross 2014: psi(N) + <psi(k)> - <psi(N_class)> - <psi(m)>, where m counts the points of all classes closer than
    the k-th neighbour in the point's own class. A class of a single point has no neighbour, and is left out."""
    counts = np.bincount(labels)
    values, labels = values[counts[labels] > 1], labels[counts[labels] > 1]
    if len(values) == 0:
        return 0.0
    order = np.argsort(values, kind="stable")
    values, labels = values[order], labels[order]
    radius = np.empty(len(values))
    k_each = np.minimum(neighbors, counts - 1)
    for label in np.flatnonzero(counts > 1):
        own = labels == label
        radius[own] = _kth_distance(values[own], int(k_each[label]))
    # The k-th neighbour itself does not count.
    closer = np.nextafter(radius, 0)
    within = _reach(values, closer) + _reach(-values[::-1], closer[::-1])[::-1] + 1
    psi = torch.special.digamma
    terms = psi(torch.from_numpy(np.stack([k_each[labels], counts[labels], within]).astype(np.float64))).mean(1)
    overall = psi(torch.tensor(float(len(values)), dtype=torch.float64))
    return max(0.0, float(overall + terms[0] - terms[1] - terms[2]))


def _kth_distance(values: np.ndarray, k: int) -> np.ndarray:
    """The distance of each of the sorted ``values`` to the k-th nearest of the others."""
    padded = np.concatenate([np.full(k, -np.inf), values, np.full(k, np.inf)])
    middle = np.arange(len(values)) + k
    # The k nearest and the point are k + 1 in a row: the distance is that of the farther end.
    ends = [np.maximum(values - padded[middle - j], padded[middle + k - j] - values) for j in range(k + 1)]
    return np.asarray(np.minimum.reduce(ends))


def _reach(values: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """How many of the sorted ``values`` lie behind each one by ``radius`` or less."""
    start = np.arange(len(values))
    low, high = start, np.full(len(values), len(values) - 1)
    # values + radius would round: the difference is what the distance was.
    while (low < high).any():
        middle = (low + high + 1) // 2
        inside = values[middle] - values <= radius
        low, high = np.where(inside, middle, low), np.where(inside, high, middle - 1)
    return low - start
