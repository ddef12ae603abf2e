"""Settings as a flat mapping."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from disentangle_ext.data import DATASETS
from disentangle_ext.models import NETWORKS
from disentangle_ext.objectives import OBJECTIVES
from disentangle_ext.runs.config import core_fields, part_options, read_yaml, resolve, to_yaml

MINIMAL = {"model": "beta_tcvae", "data": "dsprites_like"}


def test_defaults_are_the_studys() -> None:
    config = resolve(MINIMAL)
    assert (config.batch_size, config.lr, config.latent_dim, config.max_steps) == (64, 1e-4, 10, 300_000)
    assert config.objective_options["kl"] == "analytic"
    assert config.network_options["base_channels"] == 32


def test_each_part_gets_its_own() -> None:
    config = resolve({**MINIMAL, "beta": 3, "base_channels": 8, "data_variant": "quick", "lr": "1e-3"})
    assert config.objective_options["beta"] == 3.0
    assert config.network_options["base_channels"] == 8
    assert config.data_options["variant"] == "quick"
    assert config.lr == 1e-3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "beta_tcvea"}, "train: unknown model 'beta_tcvea': did you mean 'beta_tcvae'"),
        ({"data": "dsprite_like"}, "train: unknown data set 'dsprite_like': did you mean 'dsprites_like'"),
        ({"network": "con"}, "train: unknown network 'con': did you mean 'conv'"),
        ({"likelihood": "gausian"}, "train: unknown likelihood 'gausian': did you mean 'gaussian'"),
        ({"betta": 3}, "train: unknown option 'betta': did you mean 'beta'"),
        ({"model": "beta_vae", "alpha": 1.0}, "train: unknown option 'alpha'"),
        ({"network": "mlp", "base_channels": 8}, "train: unknown option 'base_channels'"),
        ({"lr": "fast"}, "train: lr must be a float, got 'fast'"),
        ({"lr": 0.0}, "train: lr must be greater than 0 and finite, got 0.0"),
        ({"lr": float("nan")}, "train: lr must be greater than 0 and finite, got nan"),
        ({"batch_size": 0}, "train: batch_size must be at least 1, got 0"),
        ({"seed": -1}, "train: seed must be at least 0, got -1"),
        ({"optimizer": "sgd"}, "train: optimizer must be one of adam, adagrad, rmsprop, got 'sgd'"),
        ({"betas": [0.9, 1.0]}, r"train: betas must be in \[0, 1\), got \(0.9, 1.0\)"),
        ({"betas": [0.9]}, r"train: betas must be a tuple, got \[0.9\]"),
        ({"optimizer": "adagrad", "betas": [0.5, 0.9]}, "leave them at .*with 'adagrad', got .0.5, 0.9"),
        ({"beta": float("nan")}, "train: beta must be finite, got nan"),
        ({"scale": "learnt", "likelihood": "gaussian"}, "train: scale must be a float or 'learned', got 'learnt'"),
        ({"precision": "fp8"}, "train: precision must be one of fp32, bf16, fp16, got 'fp8'"),
    ],
)
def test_mistakes(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve({**MINIMAL, **values})


@pytest.mark.parametrize("name", ["model", "data"])
def test_what_is_missing(name: str) -> None:
    values = {key: value for key, value in MINIMAL.items() if key != name}
    with pytest.raises(ValueError, match=f"a.yaml: {name} is not given; there are: .*{MINIMAL[name]}"):
        resolve(values, source="a.yaml")


@pytest.mark.parametrize("model", sorted(OBJECTIVES))
@pytest.mark.parametrize("network", sorted(NETWORKS))
@pytest.mark.parametrize("data", sorted(DATASETS))
def test_no_two_options_share_a_name(model: str, network: str, data: str) -> None:
    names = [*core_fields(), *(option.name for part in part_options(model, network, data) for option in part)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("model", sorted(OBJECTIVES))
@pytest.mark.parametrize("network", sorted(NETWORKS))
@pytest.mark.parametrize("data", sorted(DATASETS))
def test_every_option_has_help(model: str, network: str, data: str) -> None:
    for part in part_options(model, network, data):
        assert [option.name for option in part if not option.help] == []


def test_yaml_round_trip(tmp_path: Path) -> None:
    config = resolve({**MINIMAL, "lr": 3e-5, "kl": "decomposed", "alpha": 0.5, "data_variant": "quick"})
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    assert resolve(read_yaml(path)) == config
    assert set(read_yaml(path)) == set(config.flat())
    assert config != dataclasses.replace(config, seed=1)


def test_yaml_keys_may_have_dashes(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("max-steps: 5\nlr: 1e-4\n")
    assert read_yaml(path) == {"max_steps": 5, "lr": "1e-4"}


def test_empty_yaml_states_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# nothing\n")
    assert read_yaml(path) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [", "is no YAML"), ("- 1\n", "must hold a mapping, got a list"), ("\x00", "is no YAML")],
)
def test_broken_yaml(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"a.yaml {message}"):
        read_yaml(path)


def test_yaml_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("!!python/object/apply:os.mkdir ['made']\n")
    with pytest.raises(ValueError, match="is no YAML"):
        read_yaml(path)


def test_who_reads_begins_the_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^evaluate: cannot read configuration file .*none.yaml"):
        read_yaml(tmp_path / "none.yaml", source="evaluate")


def test_absent_yaml(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read configuration file .*none.yaml: No such file"):
        read_yaml(tmp_path / "none.yaml")
