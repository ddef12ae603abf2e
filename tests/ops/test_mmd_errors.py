"""Bad settings of mmd and mmd_test: the message names the op, the argument, what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from disentangle_ext import ops
from tests.ops.refusals import STACK, X, refused, rows

MMD: dict[str, Callable[..., Any]] = {"mmd": ops.mmd, "mmd_test": ops.mmd_test}
both = pytest.mark.parametrize("op", MMD)


@both
@pytest.mark.parametrize("value", [0.0, -1.0, 0, math.nan, math.inf], ids=repr)
def test_bandwidth_not_positive(op, value):
    f, told = MMD[op], f"must be positive and finite, got {value}"
    refused(ValueError, f"{op}: bandwidth {told}", f, X, X, bandwidth=value)
    for several in ([1.0, value], (1.0, value)):
        refused(ValueError, f"{op}: bandwidth[1] {told}", f, X, X, bandwidth=several)
    told = f"{op}: bandwidth must be positive and finite, got a tensor with {float(value)} in it"
    for tensor in (torch.tensor(value), torch.tensor([1.0, value])):
        refused(ValueError, told, f, X, X, bandwidth=tensor)
    refused(ValueError, f"{op}: bandwidth must have at least one number, got []", f, X, X, bandwidth=[])


@both
def test_bandwidth(op):
    f = MMD[op]
    shape = f"{op}: bandwidth must have the shape [K], or [.., K] with leading dimensions of x (8, 3), got "
    refused(ValueError, shape + "(0,)", f, X, X, bandwidth=torch.empty(0))
    refused(ValueError, shape + "(2, 1)", f, X, X, bandwidth=torch.ones(2, 1))
    message = f"{op}: bandwidth is not differentiated: pass bandwidth.detach()"
    refused(ValueError, message, f, X, X, bandwidth=torch.ones(1, requires_grad=True))
    message = f"{op}: bandwidth must be on the device of x (cpu), got meta"
    refused(ValueError, message, f, X, X, bandwidth=torch.ones(1, device="meta"))
    message = f"{op}: unknown bandwidth 'medain': did you mean 'median'? known: median"
    refused(ValueError, message, f, X, X, bandwidth="medain")


def test_bandwidth_of_a_stack():
    message = "mmd: bandwidth must have the shape [K], or [.., K] with leading dimensions of x (2, 8, 3), got (3, 1)"
    refused(ValueError, message, ops.mmd, STACK, STACK, bandwidth=torch.ones(3, 1))


@both
@pytest.mark.parametrize("value", [2.0, [1.0, 2.0], torch.ones(1)], ids=repr)
def test_energy_has_no_bandwidth(op, value):
    message = f"{op}: the energy kernel has no bandwidth, got "
    refused(ValueError, message, MMD[op], X, X, kernel="energy", bandwidth=value)


def test_energy_has_no_median_bandwidth_in_mmd():
    message = "mmd: the energy kernel has no bandwidth, got str 'median'"
    refused(ValueError, message, ops.mmd, X, X, kernel="energy", bandwidth="median")


@both
def test_unknown_names(op):
    message = f"{op}: unknown kernel 'laplace': did you mean 'laplacian'? known: energy, imq, laplacian, rbf, rq"
    refused(ValueError, message, MMD[op], X, X, kernel="laplace")
    message = f"{op}: unknown estimator 'unbaised': did you mean 'unbiased'? known: biased"
    refused(ValueError, message, MMD[op], X, X, estimator="unbaised")


def test_mmd_test_has_no_linear_estimator():
    message = "mmd_test: unknown estimator 'linear': known: biased, unbiased"
    refused(ValueError, message, ops.mmd_test, X, X, estimator="linear")


@pytest.mark.parametrize("op", MMD)
def test_no_bandwidth(op):
    message = f"{op}: bandwidth must be a number, a sequence, a Tensor or 'median', got NoneType"
    refused(TypeError, message, MMD[op], X, X, bandwidth=None)


@both
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_exponent_not_positive(op, value):
    refused(
        ValueError,
        f"{op}: exponent must be positive and finite, got {value}",
        MMD[op],
        X,
        X,
        kernel="rq",
        exponent=value,
    )


@both
@pytest.mark.parametrize("kernel", ["rbf", "imq", "laplacian", "energy"])
def test_exponent_of_a_kernel_without_one(op, kernel):
    message = f"{op}: the {kernel} kernel has no exponent, got float 0.5"
    refused(ValueError, message, MMD[op], X, X, kernel=kernel, exponent=0.5)


@both
def test_the_exponent_is_1_by_default(op):
    default, given = (MMD[op](X, X + 1, kernel="rq", bandwidth=1.0, **a) for a in ({}, {"exponent": 1.0}))
    if op == "mmd_test":
        default, given = default.statistic, given.statistic
    assert torch.equal(default, given)


@both
def test_too_few_rows(op):
    message = f"{op}: the unbiased estimator needs at least 2 rows in x and y, got "
    refused(ValueError, message + "1 and 8", MMD[op], X[:1], X)
    refused(ValueError, message + "8 and 1", MMD[op], X, X[:1])
    message = f"{op}: the biased estimator needs at least 1 rows in x and y, got 0 and 8"
    refused(ValueError, message, MMD[op], X[:0], X, estimator="biased")


@pytest.mark.parametrize(("m", "n"), [(7, 7), (8, 6), (0, 0)])
def test_rows_of_the_linear_estimator(m, n):
    message = f"mmd: the linear estimator needs x and y with the same even number of rows, got {m} and {n}"
    refused(ValueError, message, ops.mmd, rows(m), rows(n), estimator="linear")


def test_unknown_convention():
    message = "mmd: unknown convention 'infovea': did you mean 'infovae'? known: infovae, wae, wae_rbf"
    refused(ValueError, message, ops.mmd, X, X, convention="infovea")


@pytest.mark.parametrize(
    "argument",
    [{"kernel": "imq"}, {"bandwidth": 2.0}, {"bandwidth": "median"}, {"exponent": 1.0}, {"estimator": "biased"}],
    ids=str,
)
def test_convention_excludes_the_other_arguments(argument):
    message = "mmd: convention='wae' sets kernel, bandwidth, exponent and estimator itself"
    refused(ValueError, message, ops.mmd, X, X, convention="wae", **argument)


def test_permutation_test():
    for count in (0, -5):
        message = f"mmd_test: permutations must be at least 1, got {count}"
        refused(ValueError, message, ops.mmd_test, X, X, permutations=count)
    refused(ValueError, "mmd_test: x must have the shape [M, D], got (2, 8, 3)", ops.mmd_test, STACK, STACK)


def test_permutations_are_an_integer():
    refused(TypeError, "mmd_test: permutations must be an int, got float 10.5", ops.mmd_test, X, X, permutations=10.5)


def test_infinite_exponent():
    refused(
        ValueError,
        "mmd: exponent must be positive and finite, got inf",
        ops.mmd,
        X,
        X,
        kernel="rq",
        exponent=float("inf"),
    )
