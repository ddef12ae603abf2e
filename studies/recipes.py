"""Where the settings of the presets come from: the tables of docs/recipes.md, computed from the presets."""

from __future__ import annotations

from typing import Any, NamedTuple

from bench.rows import markdown
from disentangle_ext.runs.presets import PRESETS, SWEEPS

PAGE = "docs/recipes.md"


class Source(NamedTuple):
    """What was read, and which settings of a preset it states."""

    repository: str
    commit: str
    file: str
    settings: tuple[str, ...]

    def __str__(self) -> str:
        link = f"[{self.repository}](https://github.com/{self.repository})"
        return f"{', '.join(self.settings)}: {link} {self.commit}, {self.file}"


_LIB = ("google-research/disentanglement_lib", "86a644d")

SOURCES: dict[str, tuple[Source, ...]] = {
    "ada_gvae": (Source(*_LIB, "methods/weak/weak_vae.py", ("average",)),),
    "beta_tcvae": (
        Source(
            "rtqichen/beta-tcvae",
            "1a3577d",
            "README.md and vae_quant.py",
            ("network", "width", "beta", "kl", "batch_size", "lr", "max_steps"),
        ),
    ),
    "dcign": (
        Source(
            "willwhitney/dc-ign",
            "4db1d2a",
            "monovariant_main.lua, modules and rmsprop.lua",
            ("reference", "latent_dim", "batch_size", "betas", "lr"),
        ),
    ),
    "dip_vae_i": (
        Source(*_LIB, "config/unsupervised_study_v1/sweep.py", ("lambda_d",)),
        Source("paruby/DIP-VAE", "839e680", "dip_vae.py", ("network", "width", "lambda_od")),
    ),
    "dip_vae_ii": (
        Source(*_LIB, "config/unsupervised_study_v1/sweep.py", ("lambda_d",)),
        Source("paruby/DIP-VAE", "839e680", "dip_vae.py", ("network", "width")),
    ),
    "info_vae": (
        Source(
            "ShengjiaZhao/MMD-Variational-Autoencoder",
            "e33606e",
            "mmd_vae_eval.py",
            ("convention", "batch_size", "lr", "max_steps"),
        ),
    ),
    "wae_mmd": (
        Source(
            "tolstikhin/wae",
            "6351565",
            "configs.py and wae.py",
            ("lambda_mmd", "latent_dim", "batch_size", "betas", "lr", "max_steps"),
        ),
    ),
}
"""The programs that were read, by the model of a preset paper/MODEL. What is not here is from memory of the paper."""


def settings_of(preset: str) -> dict[str, Any]:
    """The settings that a preset states, without its model."""
    return {name: value for name, value in PRESETS[preset].items() if name != "model"}


def paper_table() -> str:
    lines = []
    for preset in sorted(name for name in PRESETS if name.startswith("paper/")):
        own = settings_of(preset)
        sources = SOURCES.get(preset.removeprefix("paper/"), ())
        read = {name for source in sources for name in source.settings}
        remembered = [name for name in own if name not in read]
        lines.append([f"`{preset}`", _listed(own), "; ".join(map(str, sources)) or "nothing", ", ".join(remembered)])
    return "\n".join(markdown(("preset", "states", "read in a program", "from memory of the paper"), lines)) + "\n"


def study_table() -> str:
    lines = []
    for model, (name, values) in SWEEPS.items():
        shared = settings_of("locatello/beta_vae").items()
        own = {key: value for key, value in settings_of(f"locatello/{model}").items() if (key, value) not in shared}
        others = {key: value for key, value in own.items() if key != name}
        lines.append([f"`locatello/{model}`", name, ", ".join(f"{value:g}" for value in values), _listed(others)])
    return "\n".join(markdown(("preset", "swept", "over; a preset has the third", "beside the shared"), lines)) + "\n"


def shared_settings() -> str:
    """The settings of the study that all of its models share."""
    shared = [settings_of(f"locatello/{model}").items() for model in SWEEPS if model != "factor_vae"]
    common = {name: value for name, value in shared[0] if all((name, value) in each for each in shared)}
    return f"Shared: {_listed(common)}.\n"


def tables() -> dict[str, str]:
    """The tables of the page, by the names in its markers."""
    return {"recipes-study": study_table(), "recipes-shared": shared_settings(), "recipes-papers": paper_table()}


def _listed(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in settings.items())


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))})"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
