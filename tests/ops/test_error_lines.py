"""Whatever an argument of an op is given by mistake, one line says so and names the op and the argument."""

from __future__ import annotations

import inspect
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from disentangle_ext import ops
from tests.ops.refusals import META, X

ROW, COUNT = torch.ones(8), torch.ones(2, dtype=torch.int64)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what PyTorch calls a prototype, or deprecated
    NESTED, JAGGED = (
        torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=layout)
        for layout in (torch.strided, torch.jagged)
    )
    QUANTIZED, QUANTIZED_ROW = (torch.quantize_per_tensor(x, 0.1, 0, torch.qint8) for x in (X, ROW))
    CSR = X.to_sparse_csr()

# By kind of argument. A value stands for all of its type: what a user might pass in place of what is meant.
NO_TENSOR = [None, 1.0, "a", [[1.0]], {}, np.ones((8, 3)), Tensor]
UNUSUAL = [X.to_sparse(), CSR, X.to_mkldnn(), NESTED, JAGGED, QUANTIZED]
NOT_REAL = [X.long(), X.bool(), X.to(torch.complex64), X.to(torch.float8_e4m3fn)]
NO_TEXT = [None, 1, ["mss"], {}, X, np.ones((8, 3)), "a"]
NO_INTEGER = [1.5, "x", [5], True, 1 << 63, torch.tensor(5), X, np.ones((8, 3))]
NO_BANDWIDTH = [
    *[None, "b", [], ["a"], [[1.0]], [None], [1.0, math.nan], [1.0, 0], [ROW], {}, 1j, True, b"ab", 0.0, -1, math.inf],
    *[np.ones(3), X, NESTED, torch.ones(2).to_sparse(), QUANTIZED_ROW, torch.ones(2, dtype=torch.complex64)],
    *[torch.ones(2) > 0, torch.zeros(5000), torch.full((2,), math.inf), torch.ones(2, device="meta")],
]
BAD: dict[str, list[Any]] = {
    "tensor": [*NO_TENSOR, *UNUSUAL, *NOT_REAL],
    "z": [*NO_TENSOR, *UNUSUAL],  # of permute_dims, which moves values of any dtype
    "log_weight": [*NO_TENSOR[1:], ROW.to_sparse(), NESTED, QUANTIZED_ROW, ROW.long(), ROW.to("meta"), ROW[:7]],
    "components": [1, X, (X,), (1, 2), "ab", {"a": 1, "b": 2}, *((x, x) for x in (*UNUSUAL, *NOT_REAL, META))],
    "key": [1, "a", [1, 2], COUNT.double(), COUNT.to_sparse(), COUNT.to("meta"), torch.ones(3).long(), NESTED],
    "generator": [1, "a", X, torch.Generator],
    "process_group": [1, "gloo", X],
    "flag": [None, 1, "a", X, torch.tensor(True)],
    "text": NO_TEXT,
    "convention": NO_TEXT[1:],
    "integer": [None, *NO_INTEGER],
    "dataset_size": NO_INTEGER,
    "exponent": ["a", [1.0], 1j, True, math.nan, math.inf, 0.0, -1.0, torch.tensor(1.0), X, np.ones(3)],
    "bandwidth": NO_BANDWIDTH,
}
KINDS = {
    **dict.fromkeys(("mu", "logvar", "z", "x", "y"), "tensor"),
    **dict.fromkeys(("estimator", "reduction", "kernel"), "text"),
    **dict.fromkeys(("offset", "permutations"), "integer"),
    "per_dimension": "flag",
}
# What else an op needs, so that the argument in question is looked at.
CALLS: dict[str, Mapping[str, Any]] = {
    "rsample_kl": {"mu": X, "logvar": X},
    "permute_dims": {"z": X},
    "aggregate_posterior": {"z": X, "mu": X, "logvar": X},
    "elbo_decomposition": {"z": X, "mu": X, "logvar": X, "dataset_size": 100},
    "total_correlation": {"z": X, "mu": X, "logvar": X, "dataset_size": 100},
    "mmd": {"x": X, "y": X, "kernel": "rq"},
    "mmd_test": {"x": X, "y": X, "kernel": "rq"},
}


def arguments() -> Iterator[tuple[str, str]]:
    for op in CALLS:
        for name in inspect.signature(getattr(ops, op)).parameters:
            yield op, name


def bad_values(op: str, name: str) -> list[Any]:
    if op == "permute_dims" and name == "z":
        return BAD["z"]
    values = BAD[KINDS.get(name, name)]
    if KINDS.get(name) == "tensor" and name != next(iter(CALLS[op])):
        return [*values, META]
    return values


def test_every_op_is_walked():
    assert set(CALLS) == {name for name in ops.__all__ if callable(getattr(ops, name)) and name.islower()}


@pytest.mark.parametrize(("op", "name"), list(arguments()))
def test_one_line_names_the_op_and_the_argument(op, name):
    for i, value in enumerate(bad_values(op, name)):
        calls = [{**CALLS[op], name: value}]
        if name == next(iter(CALLS[op])):  # the others have to be like it, so they come like it
            calls.append({key: value if isinstance(x, Tensor) else x for key, x in CALLS[op].items()})
        for call in calls:
            with pytest.raises((TypeError, ValueError)) as caught:
                getattr(ops, op)(**call)
            message = str(caught.value)
            told = f"{op}({name}) of bad value {i}, a {type(value).__name__}: {message!r}"
            assert message.startswith(f"{op}: "), told
            assert re.search(rf"\b{name}\b", message.removeprefix(f"{op}: ")), told
            assert "\n" not in message, told
            assert len(message) <= 250, told


def test_mmd_test_needs_values():
    with pytest.raises(
        ValueError, match="^mmd_test: x must have values for a p-value, got a tensor on the meta device$"
    ):
        ops.mmd_test(META, META)


def test_a_generator_of_another_device():
    if not torch.cuda.is_available():
        pytest.skip("needs a generator that is not of the CPU")
    with pytest.raises(ValueError, match=r"^rsample_kl: generator must be on the device of mu \(cpu\), got cuda"):
        ops.rsample_kl(X, X, generator=torch.Generator("cuda"))


@pytest.mark.parametrize("value", [np.float32(1.5), np.int64(2), 2], ids=repr)
def test_numbers_of_other_types_are_numbers(value):
    """What is no mistake stays allowed."""
    expected = ops.mmd(X, X + 1, kernel="rq", bandwidth=float(value), exponent=float(value))
    assert torch.equal(ops.mmd(X, X + 1, kernel="rq", bandwidth=value, exponent=value), expected)
    assert torch.equal(ops.mmd(X, X + 1, kernel="rq", bandwidth=[value], exponent=value), expected)
