"""DIP-VAE against losses written out here and against what public programs return."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from disentangle_ext import ops
from disentangle_ext.models import VAEOutput
from disentangle_ext.objectives import DIPVAEI, DIPVAEII, dip_penalty, dip_vae

ORACLES = Path(__file__).parent / "oracles"
INPUTS = Path(__file__).parents[1] / "ops" / "oracles" / "peers.npz"
ROWS = json.loads((ORACLES / "dip.json").read_text())["rows"]
MODULES = {"i": DIPVAEI, "ii": DIPVAEII}


def leaf(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).requires_grad_()


def written_out(mu: Tensor, logvar: Tensor, kind: str, lambda_od: float, lambda_d: float) -> tuple[Tensor, Tensor]:
    """The paper's sums, entry by entry."""
    count, dims = mu.shape
    off_diagonal = diagonal = torch.zeros((), dtype=mu.dtype)
    for i in range(dims):
        for j in range(dims):
            entry = (mu[:, i] * mu[:, j]).sum() / count - mu[:, i].sum() * mu[:, j].sum() / count**2
            if i != j:
                off_diagonal = off_diagonal + lambda_od * entry**2
                continue
            if kind == "ii":
                entry = entry + logvar[:, i].exp().sum() / count
            diagonal = diagonal + lambda_d * (entry - 1) ** 2
    return off_diagonal, diagonal


def assert_same(ours: Tensor, theirs: Tensor, leaves: tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    for mine, other in zip(
        torch.autograd.grad(ours, leaves, retain_graph=True, allow_unused=True),
        torch.autograd.grad(theirs, leaves, retain_graph=True, allow_unused=True),
        strict=True,
    ):
        assert (mine is None) == (other is None)
        if mine is not None:
            torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["i", "ii"])
@pytest.mark.parametrize("batch", [1, 2, 9])
def test_terms_and_their_gradients(kind: str, batch: int) -> None:
    torch.manual_seed(0)
    leaves = leaf(batch, 3), leaf(batch, 3)
    ours = dip_penalty(*leaves, kind=kind, lambda_od=3.0, lambda_d=7.0)
    for mine, other in zip(ours, written_out(*leaves, kind, 3.0, 7.0), strict=True):
        assert_same(mine, other, leaves)


@pytest.mark.parametrize(("kind", "lambda_d", "expected"), [("i", None, 20.0), ("ii", None, 2.0), ("i", 5.0, 5.0)])
def test_loss(kind: str, lambda_d: float | None, expected: float) -> None:
    torch.manual_seed(1)
    mu, logvar, logits, images = leaf(6, 3), leaf(6, 3), leaf(6, 1, 2, 2), torch.rand(6, 1, 2, 2).double()
    z, kl = ops.rsample_kl(mu, logvar, key=torch.tensor([1, 2]))
    output = VAEOutput(logits, z, mu, logvar, kl)
    p = torch.sigmoid(logits)
    recon = -(images * p.log() + (1 - images) * (1 - p).log()).sum() / 6
    divergence = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum() / 6
    penalties = written_out(mu, logvar, kind, 2.0, expected)
    loss = dip_vae(output, images, kind=kind, lambda_od=2.0, lambda_d=lambda_d)
    assert_same(loss.total, recon + divergence + sum(penalties), (mu, logvar, logits))
    assert list(loss.terms) == ["reconstruction", "kl", "dip_off_diagonal", "dip_diagonal"]
    for mine, other in zip(loss.terms.values(), (recon, divergence, *penalties), strict=True):
        assert_same(mine, other, (mu, logvar, logits))
    module = MODULES[kind](lambda_od=2.0, lambda_d=lambda_d)
    assert module(output, images).total == loss.total


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r['case']}-{r['peer']}-{r['kind']}-{r['dtype']}")
def test_public_programs(row: dict) -> None:
    inputs = np.load(INPUTS)
    mu, logvar = (torch.tensor(inputs[f"{row['case']}__{name}"]).requires_grad_() for name in ("mu", "logvar"))
    options = {name: row[name] for name in ("kind", "lambda_od", "lambda_d")}
    value = sum(dip_penalty(mu, logvar, **options))
    tolerance = 1e-9 if row["dtype"] == "float64" else 1e-5
    assert value.item() == pytest.approx(row["value"], rel=tolerance, abs=tolerance)
    arrays = np.load(ORACLES / "dip.npz")
    gradients = dict(zip(("mu", "logvar"), torch.autograd.grad(value, (mu, logvar), allow_unused=True)))
    for name, key in row["gradients"].items():
        torch.testing.assert_close(gradients[name][:8], torch.tensor(arrays[key]), rtol=1e-9, atol=1e-9)


def test_errors() -> None:
    with pytest.raises(ValueError, match="dip_penalty: unknown kind 'iii': did you mean 'ii'"):
        dip_penalty(leaf(2, 2), leaf(2, 2), kind="iii", lambda_od=1.0, lambda_d=1.0)
    with pytest.raises(ValueError, match=r"mu and logvar must both be \[B, D\]"):
        dip_penalty(leaf(2, 2), leaf(2, 3), kind="i", lambda_od=1.0, lambda_d=1.0)
