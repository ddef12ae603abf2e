"""No op forms a matrix of pairs: what a fresh process's peak memory grows by, forward and backward."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = [
    pytest.mark.forks,
    pytest.mark.usefixtures("compiled"),
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak from Linux's /proc"),
]

MEASURE = """
import gc
import os

import torch
import disentangle_ext as dx


def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))  # MiB


def growth(call, small, large):
    call(*small)  # threads, libraries
    gc.collect()
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")  # the peak starts again from here
    before = status("VmRSS")
    call(*large)
    return status("VmHWM") - before


def report(name, call, small, large):  # in a child of its own, in which nothing before has left memory to take again
    if not (child := os.fork()):
        print(name, growth(call, small(), large()), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name


def posterior(rows, D=10):
    return [torch.randn(rows, D).requires_grad_() for _ in range(3)]


def backward(out):
    sum(t.sum() for t in out).backward()


"""


class Call(NamedTuple):
    """A call on small and large tensors, and the MiB by which the peak of the process may grow."""

    code: str
    small: str
    large: str
    allowed: float


CALLS = {
    # A matrix of pairs would be 268 MB, one of pairs and dimensions 2.7 GB.
    "elbo_decomposition": Call(
        "lambda *t: backward(dx.ops.elbo_decomposition(*t, dataset_size=50_000))",
        "posterior(64)",
        "posterior(8192)",
        20,
    ),
    # A matrix of pairs would be 400 MB. The gradients of the components are 4 MB, and a thread may keep its own of what it
    # merges.
    "aggregate_posterior": Call(
        "lambda z, mu, logvar: backward(dx.ops.aggregate_posterior(z, mu, logvar))",
        "posterior(64)",
        "[posterior(2000)[0], *posterior(50_000)[:2]]",
        30,
    ),
    # A matrix of pairs would be 1 GB, that of a chunk of queries 400 MB.
    "exact_elbo": Call(
        "lambda mu, logvar: dx.metrics.exact_elbo(mu, logvar, queries=2500)",
        "posterior(3000)[:2]",
        "posterior(100_000)[:2]",
        20,
    ),
    # Three matrices of pairs would be 768 MB.
    "mmd": Call("lambda x, y: dx.ops.mmd(x, y).backward()", "posterior(64)[:2]", "posterior(8000)[:2]", 20),
}
PAIRS = Call("lambda x, y: torch.cdist(x, y).sum().backward()", "posterior(64)[:2]", "posterior(4000)[:2]", 60)


def test_no_op_forms_a_matrix_of_pairs():
    calls = {**CALLS, "cdist": PAIRS}
    program = MEASURE + "".join(
        f"report({name!r}, {c.code}, lambda: {c.small}, lambda: {c.large})\n" for name, c in calls.items()
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    grown = {name: float(mebibytes) for name, mebibytes in map(str.split, done.stdout.splitlines())}
    assert grown.keys() == calls.keys()
    assert grown.pop("cdist") > PAIRS.allowed  # such a matrix would be noticed
    assert not {name: mebibytes for name, mebibytes in grown.items() if mebibytes >= CALLS[name].allowed}
