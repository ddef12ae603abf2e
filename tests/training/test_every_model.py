"""A short run of every model, and of the options that change what is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

import disentangle_ext
from disentangle_ext import train as train_module
from disentangle_ext.data import load_data
from disentangle_ext.objectives import OBJECTIVES
from disentangle_ext.runs.folder import RunFolder

QUICK = ["--data", "dsprites_like", "--quick", "--base-channels", "4", "--batch-size", "16"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model", "beta_vae"],
        ["--model", "beta_vae", "--network", "mlp", "--width", "16"],
        ["--model", "beta_tcvae", "--kl", "decomposed", "--alpha", ".5", "--estimator", "mss"],
        ["--model", "beta_tcvae", "--precision", "bf16"],
        ["--model", "beta_vae", "--likelihood", "gaussian", "--scale", ".3"],
        ["--model", "beta_vae", "--likelihood", "laplace", "--kernels", "4x4"],
        ["--model", "beta_vae", "--likelihood", "gaussian", "--scale", "learned", "--precision", "bf16"],
        ["--model", "vae", "--optimizer", "adagrad", "--lr", ".01"],
        ["--model", "vae", "--optimizer", "rmsprop"],
        ["--model", "ae"],
        ["--model", "vae"],
        ["--model", "annealed_vae"],
        ["--model", "factor_vae", "--second-batch", "--discriminator-width", "32"],
        ["--model", "factor_vae", "--discriminator-betas", ".5", ".99", "--precision", "bf16"],
        ["--model", "info_vae", "--alpha", "0", "--convention", "wae"],
        ["--model", "wae_mmd", "--encoding", "gaussian"],
        ["--model", "ada_gvae", "--changes", "random"],
        ["--model", "ml_vae"],
        ["--model", "dcign", "--extrinsic", "position_x", "position_y"],
        ["--model", "dip_vae_i"],
        ["--model", "dip_vae_ii"],
    ],
)
def test_every_kind_of_run_finishes(tmp_path: Path, arguments: list[str]) -> None:
    quick = [each for each in QUICK if each not in ("--base-channels", "4")] if "mlp" in arguments else QUICK
    folder = tmp_path / "run"
    call = [*quick, *arguments, "--max-steps", "25", "--log-every", "5", "--output-dir", str(folder)]
    assert train_module.main(call) == 0
    first, *_, last = RunFolder(folder).read_metrics()
    assert last["reconstruction"] < first["reconstruction"]
    images = load_data("dsprites_like", variant="quick").batch([0, 1])
    pixels = disentangle_ext.load(folder).traverse(images, 0)
    assert 0 <= pixels.min() <= pixels.max() <= 1


def test_every_model_is_among_these_runs() -> None:
    (mark,) = test_every_kind_of_run_finishes.pytestmark
    assert {arguments[1] for arguments in mark.args[1]} == set(OBJECTIVES)
