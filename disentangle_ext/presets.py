"""Recipes by name: settings that go together.

``--quick`` is a demonstration, not a recipe of a paper. It was chosen on the quick form of ``dsprites_like`` so that
beta-TCVAE finds the three factors with most seeds in half a minute on one core:

- ellipse at 32 x 32, 6 latents, 2,500 steps of 64 images, half the study's channels, Adam at 1e-3 falling by a cosine;
- PyTorch's initial weights. From the study's Glorot weights two seeds of five settle on rotated axes (MIG .27);
- beta 15. At 6 to 10 the median is .40 to .58, but single seeds stay near .25; at 20 scale begins to be lost.

MIG by the histogram protocol on all 1,536 images, seeds 0 to 4: beta-TCVAE .59 .49 .58 .48 .56. At the same beta
beta-VAE encodes next to nothing: .02 .13 .01 .35 .02. No other beta helps it much: its medians over three seeds are
.13, .15, .16 and .03 at 1, 2, 4 and 10. ``bench/results/demo_seeds.csv`` holds every value.
"""

from __future__ import annotations

from typing import Any

from disentangle_ext._names import choose

_QUICK: dict[str, Any] = {
    "latent_dim": 6,
    "batch_size": 64,
    "max_steps": 2500,
    "lr": 1e-3,
    "lr_schedule": "cosine",
    "lr_warmup": 50,
    "threads": 1,
    "log_every": 50,
    "checkpoint_every": 500,
}
_QUICK_NETWORK: dict[str, dict[str, Any]] = {"conv": {"base_channels": 16}, "mlp": {"width": 256}}
_QUICK_MODEL: dict[str, dict[str, Any]] = {"beta_tcvae": {"beta": 15.0}, "beta_vae": {"beta": 15.0}}
_QUICK_DATA: dict[str, dict[str, Any]] = {"dsprites_like": {"data_variant": "quick"}}


def quick(model: str | None, data: str | None, network: str) -> dict[str, Any]:
    """The settings of ``--quick``: a model in about a minute on one core.

    Args:
        model: the objective, if it is known yet.
        data: the data set, if it is known yet.
        network: the network.

    Raises:
        ValueError: for a data set that has no quick form.
    """
    if data is not None:
        choose("train: --quick data set", data, _QUICK_DATA)
    parts = (
        _QUICK,
        _QUICK_NETWORK.get(network, {}),
        _QUICK_MODEL.get(model or "", {}),
        _QUICK_DATA.get(data or "", {}),
    )
    return {name: value for part in parts for name, value in part.items()}
