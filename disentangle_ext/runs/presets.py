"""Recipes by name: settings that go together. docs/recipes.md says where each comes from.

``--quick`` is a demonstration on small data. ``--preset locatello/MODEL`` is the recipe of Locatello et al. 2019
("Challenging common assumptions in the unsupervised learning of disentangled representations") for their six
objectives, and ``--preset paper/MODEL`` that of the paper that introduced the objective; what it leaves out is the
recipe of the study.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from disentangle_ext._errors import MistakeError
from disentangle_ext._names import choose
from disentangle_ext.models import NETWORKS
from disentangle_ext.runs.options import options_of

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
_QUICK_MODEL: dict[str, dict[str, Any]] = {
    "annealed_vae": {"c_max": 8.0, "gamma": 100.0, "threshold": 2000},
    "beta_tcvae": {"beta": 15.0},
    "beta_vae": {"beta": 8.0},
    # Where one factor varies in a batch, 16 images say about as much as 64: there are four times the steps instead.
    "dcign": {"latent_dim": 20, "batch_size": 16, "likelihood": "gaussian", "scale": 0.2, "max_steps": 10_000},
    "dip_vae_i": {"lambda_od": 100.0, "lambda_d": 1.0},
    "dip_vae_ii": {"lambda_od": 30.0, "lambda_d": 1.0},
    "factor_vae": {
        "gamma": 60.0,
        "discriminator_layers": 3,
        "discriminator_width": 256,
        "discriminator_lr": 1e-3,
    },
    "info_vae": {"alpha": 0.0, "lambda_mmd": 1000.0},
    "wae_mmd": {"lambda_mmd": 100.0},
}
_QUICK_DATA: dict[str, dict[str, Any]] = {
    "dsprites_like": {"data_variant": "quick"},
    "shapes3d_like": {"data_variant": "quick"},
    "faces_like": {"data_variant": "quick"},
    "torus_like": {"data_factors": 2, "data_classes": 16, "data_size": 32},
    "digits": {},
    "image_folder": {"data_size": 32},
    # Four times the pixels, or who knows how many: these have no small form, so there are fewer steps.
    **{name: {"max_steps": 1200} for name in ("dsprites", "shapes3d", "cars3d", "smallnorb", "mpi3d", "arrays")},
}

SWEEPS: dict[str, tuple[str, tuple[float, ...]]] = {
    "annealed_vae": ("c_max", (5.0, 10.0, 25.0, 50.0, 75.0, 100.0)),
    "beta_tcvae": ("beta", (1.0, 2.0, 4.0, 6.0, 8.0, 10.0)),
    "beta_vae": ("beta", (1.0, 2.0, 4.0, 6.0, 8.0, 16.0)),
    "dip_vae_i": ("lambda_od", (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)),
    "dip_vae_ii": ("lambda_od", (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)),
    "factor_vae": ("gamma", (10.0, 20.0, 30.0, 40.0, 50.0, 100.0)),
}
"""The objectives of the study: their hyper-parameter and the values that it took."""

_STUDY: dict[str, Any] = {
    "network": "conv",
    "kernels": "study",
    "latent_dim": 10,
    "likelihood": "bernoulli",
    "batch_size": 64,
    "lr": 1e-4,
    "max_steps": 300_000,
}
_STUDY_MODEL: dict[str, dict[str, Any]] = {
    "annealed_vae": {"gamma": 1000.0, "threshold": 100_000},
    "beta_tcvae": {"kl": "analytic", "estimator": "mws"},
    "factor_vae": {"second_batch": False, "max_steps": 150_000},
}

_MLP: dict[str, Any] = {"network": "mlp", "width": 1200}  # Higgins et al. on dSprites, and those who compare with them
_PAPER: dict[str, dict[str, Any]] = {
    "ada_gvae": {"beta": 1.0, "changes": "one", "average": "arithmetic", "batch_size": 128},  # 64 pairs
    "ae": {"network": "mlp", "width": 1000, "latent_dim": 30},
    "annealed_vae": {"network": "burgess", "c_max": 25.0, "gamma": 1000.0, "threshold": 100_000, "lr": 5e-4},
    # 50 epochs of the 737,280 images.
    "beta_tcvae": {**_MLP, "beta": 6.0, "kl": "decomposed", "batch_size": 2048, "lr": 1e-3, "max_steps": 18_000},
    "beta_vae": {**_MLP, "beta": 4.0, "optimizer": "adagrad", "lr": 1e-2},
    "dcign": {
        "strength": 0.01,
        "reference": "mean",
        "latent_dim": 200,
        "batch_size": 20,
        "betas": (0.9, 0.99),
        "lr": 5e-4,
    },
    "dip_vae_i": {**_MLP, "lambda_od": 10.0, "batch_size": 400},
    "dip_vae_ii": {**_MLP, "lambda_od": 10.0, "batch_size": 400},
    "factor_vae": {"kernels": "4x4", "gamma": 35.0, "second_batch": True},
    "info_vae": {
        "alpha": 0.0,
        "lambda_mmd": 1000.0,
        "convention": "infovae",
        "batch_size": 400,
        "lr": 1e-4,
        "max_steps": 100_000,
    },
    # The formula of the paper; the authors' program has "geometric": twice the variance.
    "ml_vae": {"beta": 1.0, "changes": "one", "average": "product", "batch_size": 128},
    "vae": {"network": "mlp", "width": 500, "batch_size": 100, "optimizer": "adagrad", "lr": 1e-2},
    # The squared distance is a Gaussian of variance 1/2; 100 epochs of the 60,000 images of MNIST.
    "wae_mmd": {
        "lambda_mmd": 10.0,
        "encoding": "deterministic",
        "likelihood": "gaussian",
        "scale": 0.5**0.5,
        "latent_dim": 8,
        "batch_size": 100,
        "betas": (0.5, 0.999),
        "lr": 1e-3,
        "max_steps": 60_000,
    },
}

PRESETS: dict[str, dict[str, Any]] = {
    **{
        f"locatello/{model}": {"model": model, **_STUDY, name: values[2], **_STUDY_MODEL.get(model, {})}
        for model, (name, values) in SWEEPS.items()
    },
    **{f"paper/{model}": {"model": model, **settings} for model, settings in _PAPER.items()},
}
"""The recipes by name; what they leave out keeps its default."""


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


def recipe(
    is_quick: bool, preset: str | None, above: Mapping[str, Any], below: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """The settings of ``--quick`` or ``--preset``; none if neither is asked for.

    Args:
        is_quick: whether it is ``--quick``.
        preset: the name of a preset.
        above: the settings that are stated and override the recipe.
        below: settings that the recipe overrides.

    Raises:
        MistakeError: for both at once, an unknown preset, and one of another model.
    """
    if is_quick and preset is not None:
        raise MistakeError("train: --quick and --preset are both recipes: give one of them")
    if is_quick:
        names = {"network": "conv", **below, **above}
        return quick(names.get("model"), names.get("data"), names["network"])
    if preset is None:
        return {}
    settings = PRESETS[choose("train: preset", preset, PRESETS)]
    if above.get("model", settings["model"]) != settings["model"]:
        raise MistakeError(f"train: --preset {preset} is for model {settings['model']}, got model {above['model']}")
    network = settings.get("network", "conv")
    another = above.get("network", network) != network
    foreign = {option.name for option in options_of(NETWORKS[network])} if another else set()
    return {key: value for key, value in settings.items() if key not in foreign}
