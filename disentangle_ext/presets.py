"""Recipes by name: settings that go together."""

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
_QUICK_NETWORK: dict[str, dict[str, Any]] = {"conv": {"base_channels": 16, "init": "torch"}, "mlp": {"width": 256}}
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
