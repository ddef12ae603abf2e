"""Direct calls of raw ops with arguments that would read or write where they must not: each raises."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

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


# Each call in a child of its own, so that one that ends it is told from one that raises.
RUN = """
import os, sys

for call in sys.argv[1:]:
    print(call, end="@", flush=True)
    if not (child := os.fork()):
        try:
            eval(call)
            print("nothing", flush=True)
        except Exception as error:
            print(f"{type(error).__name__}: {error}".replace(chr(10), " "), flush=True)
        os._exit(0)
    if code := os.waitpid(child, 0)[1]:
        print(f"crashed ({code})", flush=True)
"""
SOUND = "o.permute_dims(x, k)"
CRASHES = "__import__('os').abort()"


def outcomes(calls: list[str]) -> dict[str, str]:
    """What each call raised, or "nothing", or that it "crashed"."""
    program = "import disentangle_ext" + SETUP + RUN
    done = subprocess.run([sys.executable, "-c", program, *calls], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(line.split("@", 1) for line in done.stdout.splitlines())


@pytest.mark.forks
@pytest.mark.usefixtures("compiled")
def test_every_bad_direct_call_raises():
    found = outcomes([SOUND, CRASHES, *BAD_CALLS])
    assert (found.pop(SOUND), found.pop(CRASHES)) == ("nothing", "crashed (6)")  # it would notice silence and crashes
    assert list(found) == BAD_CALLS
    raised = re.compile(r"(RuntimeError|IndexError|NotImplementedError|ValueError): ")
    assert not {call: outcome for call, outcome in found.items() if not raised.match(outcome)}
