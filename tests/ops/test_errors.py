"""Bad arguments: the message names the op, the argument, what was expected and what came."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from disentangle_ext import ops
from tests.ops.cases import key, normal


def rows(batch: int = 8, D: int = 3, *leading: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return normal(*leading, batch, D).to(dtype)


X, STACK = rows(), rows(8, 3, 2)
META = torch.empty(8, 3, device="meta")


def with_dataset_size(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *tensors, **kwargs: f(*tensors, **{"dataset_size": 100, **kwargs})


# Every op with its tensors, each with the one whose shape it must have (None: only leading and latent dimensions must
# fit), and the least number of dimensions.
TENSORS: dict[str, tuple[Callable[..., Any], dict[str, str | None], int]] = {
    "rsample_kl": (ops.rsample_kl, {"mu": None, "logvar": "mu"}, 1),
    "aggregate_posterior": (ops.aggregate_posterior, {"z": None, "mu": None, "logvar": "mu"}, 2),
    "elbo_decomposition": (with_dataset_size(ops.elbo_decomposition), {"z": None, "mu": "z", "logvar": "mu"}, 2),
    "mmd": (ops.mmd, {"x": None, "y": None}, 2),
    "mmd_test": (ops.mmd_test, {"x": None, "y": None}, 2),
}
ARGUMENTS = [(op, i, name) for op, (_, names, _) in TENSORS.items() for i, name in enumerate(names)]


def each_tensor(*, first: bool = True) -> pytest.MarkDecorator:
    chosen = [a for a in ARGUMENTS if first or a[1]]
    return pytest.mark.parametrize(("op", "position", "name"), chosen, ids=[f"{op}-{name}" for op, _, name in chosen])


def call_with(op: str, position: int, value: Any) -> Any:
    f, names, _ = TENSORS[op]
    arguments: list[Any] = [X] * len(names)
    arguments[position] = value
    return f(*arguments)


def refused(error: type[Exception], message: str, f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """The call raises `error`, and its message is or begins with `message`."""
    with pytest.raises(error, match="^" + re.escape(message)):
        f(*args, **kwargs)


def test_the_house_rule():
    mu, logvar = rows(64, 10), rows(64, 9)
    with pytest.raises(ValueError, match="rsample_kl") as error:
        ops.rsample_kl(mu, logvar)
    assert str(error.value) == "rsample_kl: logvar must have the shape of mu (64, 10), got (64, 9)"


# Tensors ---------------------------------------------------------------------------------------------------------


@each_tensor()
@pytest.mark.parametrize("value", [None, 1.0, [[1.0]], "x"], ids=repr)
def test_not_a_tensor(op, position, name, value):
    refused(TypeError, f"{op}: {name} must be a Tensor, got {type(value).__name__}", call_with, op, position, value)


@each_tensor()
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64], ids=str)
def test_not_floating_point(op, position, name, dtype):
    _, names, _ = TENSORS[op]
    with pytest.raises(TypeError, match=f"^{op}: {name} must .*got {dtype}$"):
        call_with(op, position, X.to(dtype))
    refused(
        TypeError,
        f"{op}: {next(iter(names))} must be a floating-point tensor, got {dtype}",
        TENSORS[op][0],
        *[X.to(dtype)] * len(names),
    )


@each_tensor(first=False)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_mixed_dtypes(op, position, name, dtype):
    with pytest.raises(TypeError, match=rf"^{op}: {name} must have the dtype of \w+ \(torch.float32\), got {dtype}$"):
        call_with(op, position, X.to(dtype))


@each_tensor(first=False)
def test_mixed_devices(op, position, name):
    with pytest.raises(ValueError, match=rf"^{op}: {name} must be on the device of \w+ \(cpu\), got meta$"):
        call_with(op, position, META)


@each_tensor(first=False)
@pytest.mark.parametrize("value", [rows(8, 4), STACK, X[0]], ids=["dimensions", "stack", "vector"])
def test_shapes_that_do_not_fit(op, position, name, value):
    got = re.escape(str(tuple(value.shape)))
    with pytest.raises(ValueError, match=f"^{op}: {name} must have the shape .*got {got}$"):
        call_with(op, position, value)


@each_tensor(first=False)
def test_rows_that_do_not_fit(op, position, name):
    like = TENSORS[op][1][name]
    if like is None:
        pytest.skip("may have any number of rows")
    message = f"{op}: {name} must have the shape of {like} (8, 3), got (9, 3)"
    refused(ValueError, message, call_with, op, position, rows(9))


@pytest.mark.parametrize("op", TENSORS)
def test_too_few_dimensions(op):
    f, names, dims = TENSORS[op]
    wanted = "[.., D]" if dims == 1 else "[.., B, D]"
    low = X[0, 0] if dims == 1 else X[0]
    message = f"{op}: {next(iter(names))} must have the shape {wanted}, got {tuple(low.shape)}"
    refused(ValueError, message, f, *[low] * len(names))


def test_permute_dims_tensors():
    refused(TypeError, "permute_dims: z must be a Tensor, got list", ops.permute_dims, [[1.0]])
    refused(ValueError, "permute_dims: z must have the shape [.., B, D], got (3,)", ops.permute_dims, X[0])


# Keys and generators ---------------------------------------------------------------------------------------------

RANDOM: dict[str, Callable[..., Any]] = {
    "rsample_kl": lambda t, **kwargs: ops.rsample_kl(t, t, **kwargs),
    "permute_dims": ops.permute_dims,
}
FIRST = {"rsample_kl": "mu", "permute_dims": "z"}
random_ops = pytest.mark.parametrize("op", RANDOM)


@random_ops
def test_key_and_generator(op):
    message = f"{op}: give a key or a generator, not both"
    refused(ValueError, message, RANDOM[op], X, key=key(), generator=torch.Generator())


@random_ops
@pytest.mark.parametrize("value", [key().int(), key().double(), [1, 2], 7], ids=repr)
def test_key_of_another_type(op, value):
    got = value.dtype if isinstance(value, Tensor) else type(value).__name__
    refused(TypeError, f"{op}: key must be an int64 tensor, got {got}", RANDOM[op], X, key=value)


@random_ops
@pytest.mark.parametrize("shape", [(), (1,), (3,), (3, 2), (2, 8, 3, 2)], ids=str)
def test_key_of_another_shape(op, shape):
    message = (
        f"{op}: key must have the shape (2,) or the leading dimensions of {FIRST[op]} (2, 8, 3) and 2, got {shape}"
    )
    refused(ValueError, message, RANDOM[op], STACK, key=torch.zeros(shape, dtype=torch.int64))


def test_permute_dims_has_no_key_per_row():
    refused(ValueError, "permute_dims: key must have", ops.permute_dims, X, key=torch.zeros(8, 2, dtype=torch.int64))


@random_ops
def test_key_on_another_device(op):
    message = f"{op}: key must be on the device of {FIRST[op]} (cpu), got meta"
    refused(ValueError, message, RANDOM[op], X, key=key().to("meta"))


@random_ops
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_a_generator_in_a_compiled_graph(op, backend):
    """Dynamo wraps the error in one of its own, which quotes it."""
    torch._dynamo.reset()
    generator = torch.Generator()
    compiled = torch.compile(lambda t: RANDOM[op](t, generator=generator), fullgraph=True, backend=backend)
    with pytest.raises(RuntimeError, match=f"{op}: a torch.Generator cannot enter a compiled graph: pass key= instead"):
        compiled(X)


# Estimators and components ----------------------------------------------------------------------------------------

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


# MMD -------------------------------------------------------------------------------------------------------------

MMD: dict[str, Callable[..., Any]] = {"mmd": ops.mmd, "mmd_test": ops.mmd_test}
both = pytest.mark.parametrize("op", MMD)


@both
@pytest.mark.parametrize(
    "value",
    [0.0, -1.0, 0, math.nan, math.inf, [1.0, 0.0], (1.0, -2.0), [], torch.tensor(0.0), torch.tensor([1.0, -1.0])],
    ids=repr,
)
def test_bandwidth_not_positive(op, value):
    refused(ValueError, f"{op}: bandwidth must be positive, got ", MMD[op], X, X, bandwidth=value)


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
    message = "mmd: the energy kernel has no bandwidth, got 'median'"
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
    refused(ValueError, f"{op}: exponent must be positive, got {value}", MMD[op], X, X, kernel="rq", exponent=value)


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
    [{"kernel": "imq"}, {"bandwidth": 2.0}, {"bandwidth": "median"}, {"exponent": 2.0}, {"estimator": "biased"}],
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


# Raw ops ---------------------------------------------------------------------------------------------------------

SETUP = """
import torch

o = torch.ops.disentangle_ext
f, d = torch.float32, torch.float64
k = torch.tensor([1, 2])
n = torch.randn
x, y, b = n(500, 3), n(600, 3), torch.ones(1, dtype=d)
rows, few, empty = torch.zeros(500), torch.zeros(1), torch.zeros(0)
fields = [torch.ones(())] * 7
posterior = (x, x, x)
"""

# Direct calls that would read or write where they must not, or return nonsense.
BAD_CALLS = [
    # rsample_kl: shapes, dtypes, keys
    "o.rsample_kl(x, y, k, False)",
    "o.rsample_kl(x, x.double(), k, False)",
    "o.rsample_kl(x.long(), x.long(), k, False)",
    "o.rsample_kl(x, x, k.int(), False)",
    "o.rsample_kl(x, x, k[:1], False)",
    "o.rsample_kl(x, x, k[0], False)",
    "o.rsample_kl(x, x, k.expand(3, 2), False)",
    "o.rsample_kl(n(()), n(()), k, False)",
    "o.rsample_kl_backward(x, rows, x, y, k, False)",
    "o.rsample_kl_backward(few, None, x, x, k, False)",
    "o.rsample_kl_backward(empty, None, x, x, k, False)",
    "o.rsample_kl_backward(None, few, x, x, k, False)",
    "o.rsample_kl_backward(None, rows, x, x, k, True)",
    "o.rsample_kl_backward(None, x, x, x, k, False)",
    # aggregate_posterior
    "o.aggregate_posterior(x, y, x, None, 0, 0, 0)",
    "o.aggregate_posterior(x, n(5, 4), n(5, 4), None, 0, 0, 0)",
    "o.aggregate_posterior(x, y[None], y[None], None, 0, 0, 0)",
    "o.aggregate_posterior(x, y.double(), y.double(), None, 0, 0, 0)",
    "o.aggregate_posterior(x.long(), y.long(), y.long(), None, 0, 0, 0)",
    "o.aggregate_posterior(x[0], y[0], y[0], None, 0, 0, 0)",
    "o.aggregate_posterior(x, y, y, few, 0, 0, 0)",
    "o.aggregate_posterior(x, y, y, torch.zeros(599), 0, 0, 0)",
    "o.aggregate_posterior_backward(few, None, x, y, y, None, rows, x, 0, 0, 0)",
    "o.aggregate_posterior_backward(None, few, x, y, y, None, rows, x, 0, 0, 0)",
    "o.aggregate_posterior_backward(rows, x, x, y, y, None, few, x, 0, 0, 0)",
    "o.aggregate_posterior_backward(rows, x, x, y, y, None, rows, few, 0, 0, 0)",
    "o.aggregate_posterior_backward(rows, x, x, y, y, few, rows, x, 0, 0, 0)",
    # elbo_decomposition
    "o.elbo_decomposition(x, y, y, None, None, 0, 100, 0, 1)",
    "o.elbo_decomposition(x, x, y, None, None, 0, 100, 0, 1)",
    "o.elbo_decomposition(x, x, x, y, x, 0, 100, 0, 1)",
    "o.elbo_decomposition(x, x, x, n(5, 4), n(5, 4), 0, 100, 0, 1)",
    "o.elbo_decomposition(x[0], x[0], x[0], None, None, 0, 100, 0, 1)",
    "o.elbo_decomposition(x, x, x, x, None, 0, 100, 0, 1)",
    "o.elbo_decomposition(x, x, x, None, x, 0, 100, 0, 1)",
    "o.elbo_decomposition_backward([few] * 7, *posterior, None, None, rows, x, 0, 1000, 0, 0)",
    "o.elbo_decomposition_backward(fields[:3], *posterior, None, None, rows, x, 0, 1000, 0, 1)",
    "o.elbo_decomposition_backward(fields, *posterior, None, None, few, x, 0, 1000, 0, 1)",
    "o.elbo_decomposition_backward(fields, *posterior, None, None, rows, few, 0, 1000, 0, 1)",
    "o.elbo_decomposition_backward(fields, *posterior, y, x, rows, x, 0, 1000, 0, 1)",
    # mmd
    "o.mmd(x, n(5, 4), b, 0, 1.0, False, True)",
    "o.mmd(x, y.double(), b, 0, 1.0, False, True)",
    "o.mmd(x, y[None], b, 0, 1.0, False, True)",
    "o.mmd(x[0], y[0], b, 0, 1.0, False, True)",
    "o.mmd(x.long(), y.long(), b, 0, 1.0, False, True)",
    "o.mmd(x, y, b[0], 0, 1.0, False, True)",
    "o.mmd(x, y, b[:0], 0, 1.0, False, True)",
    "o.mmd(x, y, b.expand(3, 1), 0, 1.0, False, True)",
    "o.mmd(x, y, b, 99, 1.0, False, True)",
    "o.mmd(x, y, b, -1, 1.0, False, True)",
    "o.mmd_backward(few[0], x, y, torch.zeros(7, 5), y)",
    "o.mmd(x.clone().requires_grad_(), y, b, 0, 1.0, False, False)[0].backward()",
    # permute_dims
    "o.permute_dims(x[0], k)",
    "o.permute_dims(x, k.int())",
    "o.permute_dims(x, k[:1])",
    "o.permute_dims(x, k.expand(500, 2))",
    "o.permute_dims(x[None], k.expand(2, 2))",
    "o.permute_dims_backward(x[0], k)",
    "o.permute_dims_backward(x, k.expand(3, 2))",
]


def outcomes_in_subprocess(calls: list[str]) -> dict[str, str]:
    """What each call raised, or "nothing"; a call that ends the process has "crashed", and a new one goes on."""
    program = SETUP + textwrap.dedent("""
        import sys

        for call in sys.argv[1:]:
            print(call, end="@", flush=True)
            try:
                eval(call)
                outcome = "nothing"
            except Exception as error:
                outcome = f"{type(error).__name__}: {error}".replace(chr(10), " ")
            print(outcome, flush=True)
    """)
    program = "import disentangle_ext\n" + program
    outcomes: dict[str, str] = {}
    while len(outcomes) < len(calls):
        rest = calls[len(outcomes) :]
        done = subprocess.run([sys.executable, "-c", program, *rest], capture_output=True, text=True, timeout=120)
        before = len(outcomes)
        for line in done.stdout.splitlines():
            call, _, outcome = line.partition("@")
            outcomes[call] = outcome or f"crashed ({done.returncode})"
        assert len(outcomes) > before, done.stderr
    return outcomes


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    return outcomes_in_subprocess(BAD_CALLS)


def test_the_subprocess_notices_crashes_and_silence():
    calls = ["o.permute_dims(x, k)", "__import__('os')._exit(3)", "o.permute_dims(x[0], k)"]
    first, second, third = outcomes_in_subprocess(calls).values()
    assert (first, second) == ("nothing", "crashed (3)")
    assert third.startswith("RuntimeError: permute_dims")


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("call", BAD_CALLS)
def test_bad_direct_call_raises(call, outcomes):
    assert re.match(r"(RuntimeError|IndexError|NotImplementedError|ValueError): ", outcomes[call]), outcomes[call]


def test_permutations_are_an_integer():
    refused(TypeError, "mmd_test: permutations must be an int, got float 10.5", ops.mmd_test, X, X, permutations=10.5)


def test_infinite_exponent():
    refused(ValueError, "mmd: exponent must be positive, got inf", ops.mmd, X, X, kernel="rq", exponent=float("inf"))


def test_dataset_size_beyond_int64():
    message = "elbo_decomposition: dataset_size must be below 2^63"
    refused(ValueError, message, ops.elbo_decomposition, X, X, X, dataset_size=1 << 63)
