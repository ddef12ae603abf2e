"""Bad estimators and components: the message names the op, the argument, what was expected and what came."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from disentangle_ext import ops
from tests.ops.refusals import X, refused, rows

ESTIMATED = {
    "aggregate_posterior": lambda **kwargs: ops.aggregate_posterior(X, X, X, **kwargs),
    "elbo_decomposition": lambda **kwargs: ops.elbo_decomposition(X, X, X, **{"dataset_size": None, **kwargs}),
    "total_correlation": lambda **kwargs: ops.total_correlation(X, X, X, **{"dataset_size": None, **kwargs}),
}

estimated = pytest.mark.parametrize("op", ESTIMATED)


@estimated
@pytest.mark.parametrize("estimator", ["mws", "mss", "mss_legacy"])
def test_dataset_size(op, estimator):
    f = ESTIMATED[op]
    refused(ValueError, f"{op}: dataset_size must be given for the estimator {estimator!r}", f, estimator=estimator)
    for size in (7, 0, -1):
        message = f"{op}: dataset_size must be at least the number of components (8), got {size}"
        refused(ValueError, message, f, estimator=estimator, dataset_size=size)
    f(estimator=estimator, dataset_size=8)


@pytest.mark.parametrize("argument", ["dataset_size", "offset"])
@pytest.mark.parametrize("value", [50.0, "50", torch.tensor(50)])
@pytest.mark.parametrize("op", ESTIMATED)
def test_counts_are_integers(op, value, argument):
    message = f"{op}: {argument} must be an int, got {type(value).__name__}"
    refused(TypeError, message, ESTIMATED[op], estimator="mss", **{"dataset_size": 100, argument: value})


def test_dataset_size_cannot_be_left_out():
    for f in (ops.elbo_decomposition, ops.total_correlation):
        with pytest.raises(TypeError, match="dataset_size"):
            f(X, X, X)


@estimated
def test_unknown_estimator(op):
    message = f"{op}: unknown estimator 'mmss': did you mean 'mss'? known: mss, mss_legacy, mws, uniform"
    refused(ValueError, message, ESTIMATED[op], estimator="mmss", dataset_size=100)


@pytest.mark.parametrize("estimator", ["mss", "mss_legacy"])
def test_stratified_batch_of_one(estimator):
    one = X[:1]
    for op, f in (("aggregate_posterior", ops.aggregate_posterior), ("elbo_decomposition", ops.elbo_decomposition)):
        message = f"{op}: the estimator {estimator!r} needs a batch of at least 2, got 1"
        refused(ValueError, message, f, one, one, one, estimator=estimator, dataset_size=100)


@pytest.mark.parametrize("estimator", ["mss", "mss_legacy"])
@pytest.mark.parametrize("offset", [-1, 3, 1000])
def test_offset_out_of_range(estimator, offset):
    components = (rows(10), rows(10))
    settings = {"estimator": estimator, "dataset_size": 100, "offset": offset}
    place = f"offset must place the 8 queries among the 10 components (0 to 2), got {offset}"
    refused(ValueError, f"aggregate_posterior: {place}", ops.aggregate_posterior, X, *components, **settings)
    message = f"elbo_decomposition: {place}"
    refused(ValueError, message, ops.elbo_decomposition, X, X, X, components=components, **settings)


def test_more_queries_than_components():
    message = "aggregate_posterior: offset must place the 8 queries among the 5 components"
    refused(ValueError, message, ops.aggregate_posterior, X, X[:5], X[:5], estimator="mss", dataset_size=100)


def test_log_weight():
    f = ESTIMATED["aggregate_posterior"]
    op, w = "aggregate_posterior", rows(8, 1)[:, 0]
    instead = f"{op}: log_weight takes the place of estimator and dataset_size: give one or the other"
    refused(ValueError, instead, f, log_weight=w, estimator="mws", dataset_size=100)
    refused(ValueError, instead, f, log_weight=w, estimator="mss")
    refused(ValueError, instead, f, log_weight=w, dataset_size=100)
    shape = f"{op}: log_weight must have the shape (8,) of mu without its last dimension, got "
    refused(ValueError, shape + "(7,)", f, log_weight=w[:7])
    refused(ValueError, shape + "(8, 8)", f, log_weight=w.expand(8, 8))
    refused(TypeError, f"{op}: log_weight must have the dtype of mu (torch.float32), got", f, log_weight=w.double())
    refused(TypeError, f"{op}: log_weight must be a Tensor, got list", f, log_weight=[0.0] * 8)
    refused(ValueError, f"{op}: log_weight must be on the device of mu (cpu), got meta", f, log_weight=w.to("meta"))


def test_components():
    def f(components: Any) -> Any:
        return ops.elbo_decomposition(X, X, X, dataset_size=100, components=components)

    op = "elbo_decomposition"
    pair = f"{op}: components must be a pair (mu, logvar), got "
    refused(TypeError, pair + "Tensor", f, X)
    refused(TypeError, pair + "tuple", f, (X,))
    refused(TypeError, pair + "list", f, [X, X, X])
    refused(TypeError, f"{op}: components[0] must be a Tensor, got NoneType", f, (None, X))
    refused(TypeError, f"{op}: components[1] must be a Tensor, got NoneType", f, (X, None))
    refused(ValueError, f"{op}: components[0] must have the shape (N, 3) to go with z (8, 3)", f, (rows(9, 4),) * 2)
    message = f"{op}: components[1] must have the shape of components[0] (9, 3), got (10, 3)"
    refused(ValueError, message, f, (rows(9), rows(10)))
    refused(TypeError, f"{op}: components[0] must have the dtype of z (torch.float32)", f, (X.double(), X.double()))


@pytest.mark.parametrize("f", [ops.elbo_decomposition, ops.total_correlation])
def test_unknown_reduction(f):
    message = f"{f.__name__}: unknown reduction 'meam': did you mean 'mean'? known: mean, none, sum"
    refused(ValueError, message, f, X, X, X, dataset_size=100, reduction="meam")


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1, -(1 << 70)], ids=hex)
def test_integers_beyond_int64(value):
    message = f"must be in [-2^63, 2^63), got {value}"
    refused(
        ValueError, f"elbo_decomposition: dataset_size {message}", ops.elbo_decomposition, X, X, X, dataset_size=value
    )
    refused(ValueError, f"aggregate_posterior: offset {message}", ops.aggregate_posterior, X, X, X, offset=value)
