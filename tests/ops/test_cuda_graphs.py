"""Every op captured in a CUDA graph, forward and backward: replays give the eager results, and nothing syncs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from disentangle_ext import _extension, ops
from tests.ops.cases import OPS, Shape, as_tuple, dtypes, key, shapes
from tests.ops.tolerance import random_gradients


def missing() -> str:
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    return "" if _extension.available("cuda") else f"no CUDA kernels: {_extension.describe()['cuda_reason']}"


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

Results = tuple[Tensor, ...]
Step = Callable[[], Results]

# As in the table of cases, with a key that lives on the device: there it is copied from the host, which no graph can do.
WITH_KEY: dict[str, Callable[..., object]] = {
    "rsample_kl": lambda key, mu, logvar: ops.rsample_kl(mu, logvar, key=key),
    "rsample_kl_per_dimension": lambda key, mu, logvar: ops.rsample_kl(mu, logvar, key=key, per_dimension=True),
    "permute_dims": lambda key, z: ops.permute_dims(z, key=key),
}
RANDOM: dict[str, Callable[..., object]] = {
    "rsample_kl": lambda mu, logvar: ops.rsample_kl(mu, logvar)[0],
    "permute_dims": ops.permute_dims,
}
SHAPES = (Shape((), 257, 10), Shape((), 3, 33), Shape((2, 3), 31, 10))

names = pytest.mark.parametrize("name", OPS)
backward = pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward_and_backward"])


@contextmanager
def no_sync() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Problem:
    """An op on inputs that stay where they are while what they hold changes."""

    def __init__(self, name: str, shape: Shape, dtype: torch.dtype, backward: bool) -> None:
        self.name, self.shape = name, shape
        self.inputs = [t.to(dtype).requires_grad_(backward) for t in OPS[name].inputs(shape, "cuda")]
        self.key = key("cuda")
        self.gradients = random_gradients(as_tuple(self.call())) if backward else None

    def call(self) -> object:
        if self.name in WITH_KEY:
            return WITH_KEY[self.name](self.key, *self.inputs)
        return OPS[self.name].function(*self.inputs)

    def step(self) -> Results:
        values = as_tuple(self.call())
        if self.gradients is None:
            return values
        return (*values, *torch.autograd.grad(values, self.inputs, self.gradients))

    def change(self) -> None:
        with torch.no_grad():
            for old, new in zip(self.inputs, OPS[self.name].inputs(self.shape, "cuda")):
                old.copy_(new)
            self.key += 1


def capture(step: Step) -> tuple[torch.cuda.CUDAGraph, Results]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream), no_sync():
        results = step()
    return graph, results


def copies(results: Results) -> Results:
    return tuple(t.detach().clone() for t in results)


def assert_equal(first: Results, second: Results) -> None:
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@names
@backward
@shapes(SHAPES)
@dtypes(torch.float32, torch.bfloat16, torch.float64)
def test_a_replay_computes_what_the_op_computes(name, shape, dtype, backward):
    problem = Problem(name, shape, dtype, backward)
    graph, captured = capture(problem.step)
    before = None
    for _ in range(2):
        graph.replay()
        replayed = copies(captured)
        assert_equal(replayed, copies(problem.step()))
        assert before is None or not all(torch.equal(a, b) for a, b in zip(before, replayed))
        before = replayed
        problem.change()


@names
@backward
def test_no_op_waits_for_the_device(name, backward):
    problem = Problem(name, SHAPES[0], torch.float32, backward)
    with no_sync():
        problem.step()


@pytest.mark.parametrize("name", RANDOM)
@backward
def test_a_key_drawn_in_the_graph_is_drawn_anew_at_every_replay(name, backward):
    inputs = [t.float().requires_grad_(backward) for t in OPS[name].inputs(SHAPES[0], "cuda")]

    def step() -> Results:
        value = as_tuple(RANDOM[name](*inputs))[0]
        # A gradient that differs from place to place: one of ones would be the same under every permutation.
        gradient = torch.arange(value.numel(), device="cuda", dtype=value.dtype).view_as(value)
        return (value, *(torch.autograd.grad(value, inputs, gradient) if backward else ()))

    graph, captured = capture(step)
    seen = []
    for _ in range(3):
        graph.replay()
        seen.append(copies(captured))
    # Of rsample_kl the gradient of mu is that of z, whatever the noise: the last one is that of logvar.
    for which in {0, len(captured) - 1}:
        assert not torch.equal(seen[0][which], seen[1][which])
        assert not torch.equal(seen[1][which], seen[2][which])
    if name == "permute_dims":
        for values in seen:
            assert torch.equal(values[0].sort(0).values, inputs[0].sort(0).values)


def test_one_graph_holds_several_ops():
    """A loss as it is trained on: sample, decompose, shuffle, compare."""
    mu, logvar = (t.float().requires_grad_() for t in OPS["rsample_kl"].inputs(SHAPES[0], "cuda"))
    seed = key("cuda")

    def step() -> Results:
        z, kl = ops.rsample_kl(mu, logvar, key=seed)
        parts = ops.elbo_decomposition(z, mu, logvar, dataset_size=1000)
        shuffled = ops.permute_dims(z, key=seed)
        loss = kl.mean() + parts.total_correlation + ops.mmd(z, shuffled)
        return (loss, *torch.autograd.grad(loss, (mu, logvar)))

    graph, captured = capture(step)
    graph.replay()
    assert_equal(copies(captured), copies(step()))
