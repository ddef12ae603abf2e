"""Codes and factors as classes, and the information they share: what the histogram metrics have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from disentangle_ext._errors import MistakeError

__all__ = [
    "check_codes",
    "check_factors",
    "check_table",
    "entropy",
    "histogram_bins",
    "mutual_information",
    "to_classes",
    "to_numpy",
]


def check_codes(codes: Any, where: str, name: str = "codes") -> np.ndarray:
    """``codes`` [N, D] as a finite float array on the CPU. ``where`` and ``name`` begin the errors."""
    array = to_numpy(codes)
    if array.ndim != 2 or 0 in array.shape:
        raise MistakeError(f"{where}: {name} must be [N, D] with at least one row and column, got {list(array.shape)}")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{where}: {name} must be real numbers, got {array.dtype}")
    # Half precision cannot tell the edges of 20 bins apart, and integers have no fractions for them.
    array = array if array.dtype == np.float32 else array.astype(np.float64, copy=False)
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise MistakeError(f"{where}: {name} must be finite, got {array[row, column]} at [{row}, {column}]")
    return array


def check_factors(factors: Any, rows: int, where: str, name: str = "factors") -> np.ndarray:
    """``factors`` [N, K] as an array of finite numbers with ``rows`` rows. ``where`` and ``name`` begin the errors."""
    array = to_numpy(factors)
    if array.ndim != 2 or array.shape[1] == 0:
        one = ": a single factor is a column, factors[:, None]" if array.ndim == 1 else ""
        raise MistakeError(f"{where}: {name} must be [N, K] with at least one column, got {list(array.shape)}{one}")
    if len(array) != rows:
        raise MistakeError(f"{where}: {name} must have a row for each of the {rows} rows of codes, got {len(array)}")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{where}: {name} must be numbers, got {array.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise MistakeError(f"{where}: {name} must be finite, got {array[row, column]} at [{row}, {column}]")
    return array


def check_table(
    codes: Any, factors: Any, where: str, *, values: bool = False, names: tuple[str, str] = ("codes", "factors")
) -> tuple[np.ndarray, np.ndarray]:
    """Codes as :func:`check_codes` and factors as :func:`check_factors` give them.

    Args:
        codes, factors: as the metrics take them.
        where: begins the errors.
        values: whether the factors are numbers to be compared or regressed on, and not classes.
        names: what the caller knows codes and factors by.

    Raises:
        MistakeError: besides, for classes that are no whole numbers: a continuous factor has a class for each row, and
            codes that are given in the place of factors look like one.
    """
    table = check_codes(codes, where, names[0])
    labels = check_factors(factors, len(table), where, names[1])
    if values or labels.dtype.kind != "f":
        return table, labels
    if to_numpy(codes).dtype.kind in "biu":
        raise MistakeError(
            f"{where}: {' and '.join(names)} must be in this order, got codes that are {to_numpy(codes).dtype} and "
            f"factors that are {labels.dtype}: exchange them, or give the factors as integers"
        )
    if (labels != np.floor(labels)).any():
        row, column = np.argwhere(labels != np.floor(labels))[0]
        raise MistakeError(
            f"{where}: {names[1]} must hold whole numbers, one for each class, got {labels[row, column]:.6g} at "
            f"[{row}, {column}]: number the values or the bins of a continuous factor (numpy.unique, numpy.digitize), "
            "or use sap with continuous=True, dci with predictor='lasso', or correlation"
        )
    return table, labels


def histogram_bins(codes: np.ndarray, num_bins: int) -> np.ndarray:
    """The bin, 0 to num_bins - 1, of each entry of ``codes`` [N, D]: equal widths over each column's range.

    The edges are those of ``numpy.histogram``, in the precision of the codes; a bin holds its lower edge, and
    the last one the maximum. A constant column falls into one bin.
    """
    bins = np.empty(codes.shape, np.int64)
    for d, column in enumerate(codes.T):
        if column.max() / 2 - column.min() / 2 > np.finfo(column.dtype).max / 2:
            column = column / 2  # halving is exact and keeps the width of the range representable
        low, high = column.min(), column.max()
        # The edges of a constant column would coincide: numpy.histogram widens its range as well.
        edges = np.linspace(low, high, num_bins + 1, dtype=codes.dtype) if low < high else np.array([low])
        bins[:, d] = np.searchsorted(edges[:num_bins], column, side="right") - 1
    return bins


def to_classes(labels: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Each column's distinct values, in order, as classes 0, 1, ...: the classes [N, K] and their number."""
    classes, sizes = np.empty(labels.shape, np.int64), []
    for k, column in enumerate(labels.T):
        distinct, classes[:, k] = np.unique(column, return_inverse=True)
        sizes.append(len(distinct))
    return classes, sizes


def mutual_information(a: np.ndarray, a_sizes: list[int], b: np.ndarray, b_sizes: list[int]) -> np.ndarray:
    """The mutual information [D, K], in nats, of the columns of the classes ``a`` [N, D] and ``b`` [N, K].

    I = sum_ij n_ij / N log(N n_ij / (n_i n_j)) over the cells of the contingency table that are not empty.
    """
    rows = len(a)
    result = np.empty((a.shape[1], b.shape[1]))
    for k, b_size in enumerate(b_sizes):
        for d, a_size in enumerate(a_sizes):
            table = np.bincount(a[:, d] * b_size + b[:, k], minlength=a_size * b_size).reshape(a_size, b_size)
            i, j = table.nonzero()
            joint = table[i, j].astype(np.float64)
            # N n_ij and n_i n_j are exact in float64 up to N = 9e7, so independent columns give exactly 0.
            ratio = (rows * joint) / (table.sum(1)[i].astype(np.float64) * table.sum(0)[j])
            result[d, k] = max(0.0, float(joint @ np.log(ratio)) / rows)
    return result


def entropy(classes: np.ndarray, sizes: list[int]) -> np.ndarray:
    """The entropy, in nats, of each column of ``classes`` [N, K]: [K]. Exactly 0 for a constant column."""
    result = np.empty(classes.shape[1])
    for k, size in enumerate(sizes):
        counts = np.bincount(classes[:, k], minlength=size)
        share = counts[counts > 0] / len(classes)
        result[k] = max(0.0, -float(share @ np.log(share)))
    return result


def to_numpy(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return (value.to(torch.float32) if value.dtype == torch.bfloat16 else value).numpy()
    return np.asarray(value)
