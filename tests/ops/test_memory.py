"""No op forms a matrix of pairs: what a fresh process's peak memory grows by, forward and backward."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.usefixtures("compiled"),
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak from Linux's /proc"),
]

MEASURE = """
import gc
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


def posterior(rows, D=10):
    return [torch.randn(rows, D).requires_grad_() for _ in range(3)]


def backward(out):
    sum(t.sum() for t in out).backward()


"""


def growth(code: str) -> float:
    """MiB by which the peak of a fresh process grows; `code` sets `grown`."""
    program = MEASURE + textwrap.dedent(code) + "\nprint(grown)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_elbo_decomposition():
    """A matrix of pairs would be 268 MB, one of pairs and dimensions 2.7 GB."""
    grown = growth("""
        def call(*t):
            backward(dx.ops.elbo_decomposition(*t, dataset_size=50_000))

        grown = growth(call, posterior(64), posterior(8192))
    """)
    assert grown < 20


def test_aggregate_posterior():
    """A matrix of pairs would be 400 MB."""
    grown = growth("""
        def call(z, mu, logvar):
            backward(dx.ops.aggregate_posterior(z, mu, logvar))

        grown = growth(call, posterior(64), [posterior(2000)[0], *posterior(50_000)[:2]])
    """)
    # The gradients of the components are 4 MB, and a thread may keep its own of what it merges.
    assert grown < 30


def test_exact_elbo():
    """A matrix of pairs would be 1 GB, that of a chunk of queries 400 MB."""
    grown = growth("""
        def call(mu, logvar):
            dx.metrics.exact_elbo(mu, logvar, queries=2500)

        grown = growth(call, posterior(3000)[:2], posterior(100_000)[:2])
    """)
    assert grown < 20


def test_mmd():
    """Three matrices of pairs would be 768 MB."""
    grown = growth("""
        def call(x, y):
            dx.ops.mmd(x, y).backward()

        grown = growth(call, posterior(64)[:2], posterior(8000)[:2])
    """)
    assert grown < 20


def test_a_matrix_of_pairs_would_be_noticed():
    grown = growth("""
        def call(x, y):
            torch.cdist(x, y).sum().backward()

        grown = growth(call, posterior(64)[:2], posterior(4000)[:2])
    """)
    assert grown > 60
