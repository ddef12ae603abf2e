"""scikit-learn's predictors, on the rows of a problem."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from disentangle_ext._extras import require

__all__ = ["accuracy", "fit_classifier", "sklearn", "standardise"]


def sklearn(module: str, what: str) -> ModuleType:
    """``sklearn.MODULE``, or the error that says what to install."""
    return require(f"sklearn.{module}", extra="metrics", what=what)


class OneClass:
    """The classifier that training rows of one class leave no choice but to be."""

    def __init__(self, label: int, width: int) -> None:
        self.classes_ = np.array([label])
        self.feature_importances_ = np.zeros(width)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.full(len(x), self.classes_[0])

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return np.ones((len(x), 1))


def fit_classifier(make: Callable[[], Any], x: np.ndarray, y: np.ndarray) -> Any:
    """A classifier made by ``make`` and fitted to ``x`` [n, D] and the classes ``y`` [n]."""
    if (y == y[0]).all():
        return OneClass(int(y[0]), x.shape[1])
    with warnings.catch_warnings():
        # scikit-learn suspects a regression where more than half of the rows have a class of their own.
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
        return make().fit(x, y)


def accuracy(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    """The share of the rows whose class the model names."""
    return float(np.mean(model.predict(x) == y))


def standardise(train: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """Arrays [n, D] in float64 with the training rows' mean 0 and variance 1 per column; a dead column is 0."""
    low, high = train.min(0), train.max(0)
    dead = low == high
    # In units of the largest value, so that no square overflows; other rows may lie as far out as they like.
    unit = np.where(dead, 1.0, np.maximum(np.abs(train).max(0).astype(np.float64), np.finfo(np.float64).tiny))
    with np.errstate(over="ignore"):
        scaled = [np.clip(each / unit, -1e100, 1e100) for each in (train, *others)]
    mean, sd = scaled[0].mean(0), scaled[0].std(0)
    sd = np.where(dead | (sd == 0), 1.0, sd)
    return tuple(np.where(dead, 0.0, (each - mean) / sd) for each in scaled)
