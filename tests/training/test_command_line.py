"""From arguments to a plan."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from disentangle_ext import train
from disentangle_ext.data import DATASETS, load_data
from disentangle_ext.engine.build import build_objective
from disentangle_ext.objectives import OBJECTIVES
from disentangle_ext.runs.config import TrainConfig, resolve, to_yaml
from disentangle_ext.runs.presets import PRESETS, SWEEPS
from disentangle_ext.training.command_line import parse

BASE = ["--model", "beta_tcvae", "--data", "dsprites_like", "--output-dir", "out"]


def configured(argv: Sequence[str]) -> TrainConfig:
    return parse(argv).jobs[0].config


def test_flags() -> None:
    plan = parse([*BASE, "--max-steps", "7", "--seed", "3", "--precision", "bf16", "--batch-size", "5", "--lr", "1e-3"])
    assert plan.folder == Path("out")
    config = plan.jobs[0].config
    assert (config.max_steps, config.seed, config.precision, config.batch_size, config.lr) == (7, 3, "bf16", 5, 1e-3)
    assert not plan.resume
    assert not plan.overwrite


def test_options_of_the_parts_are_flags() -> None:
    config = configured([*BASE, "--beta", "3", "--kl", "decomposed", "--alpha", ".5", "--network=mlp", "--width", "9"])
    assert config.objective_options == {
        "beta": 3.0,
        "alpha": 0.5,
        "gamma": 1.0,
        "kl": "decomposed",
        "estimator": "mws",
        "scale": 1.0,
    }
    assert config.network_options == {"width": 9}
    assert configured([*BASE, "--data-variant", "quick"]).data_options["variant"] == "quick"


def test_precedence(tmp_path: Path) -> None:
    """Defaults < --quick < --config < flags."""
    file = tmp_path / "a.yaml"
    file.write_text("batch_size: 33\nseed: 5\nbeta: 2\n")
    plain = configured(BASE)
    quick = configured([*BASE, "--quick"])
    both = configured([*BASE, "--quick", "--config", str(file), "--seed", "6"])
    assert quick.latent_dim != plain.latent_dim
    assert quick.data_options["variant"] == "quick"
    assert both.latent_dim == quick.latent_dim
    assert (both.batch_size, both.objective_options["beta"]) == (33, 2.0)
    assert both.seed == 6
    # A flag wins also where it states the default.
    assert configured([*BASE, "--quick", "--latent-dim", "10"]).latent_dim == 10


def test_a_file_can_hold_everything(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("model: beta_vae\ndata: dsprites_like\noutput-dir: there\nquick: true\nmax_steps: 3\n")
    plan = parse(["--config", str(file)])
    assert plan.folder == Path("there")
    assert (plan.jobs[0].config.model, plan.jobs[0].config.max_steps) == ("beta_vae", 3)
    assert plan.jobs[0].config.data_options["variant"] == "quick"
    assert parse(["--config", str(file), "--output-dir", "here"]).folder == Path("here")
    assert configured(["--config", str(file), "--model", "beta_tcvae"]).model == "beta_tcvae"


def test_a_resolved_file_gives_the_same_run(tmp_path: Path) -> None:
    config = configured([*BASE, "--quick", "--beta", "7"])
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config))
    assert configured(["--config", str(file), "--output-dir", "x"]) == config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("betta: 3\n", r"a.yaml: unknown option 'betta': did you mean 'beta'\?"),
        ("lr: fast\n", "a.yaml: lr must be a float, got 'fast'"),
        ("model: beta_tcvea\n", "unknown model 'beta_tcvea': did you mean 'beta_tcvae'"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(content)
    arguments = BASE if "model" not in content else BASE[2:]
    with pytest.raises(ValueError, match=message):
        parse([*arguments, "--config", str(file)])


def test_what_is_missing() -> None:
    with pytest.raises(ValueError, match=r"train: model is not given; there are: .*beta_vae"):
        parse(BASE[2:])
    with pytest.raises(ValueError, match=r"train: data is not given; there are: .*dsprites_like"):
        parse([*BASE[:2], *BASE[4:]])
    with pytest.raises(ValueError, match="train: --output-dir is not given"):
        parse(BASE[:4])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--betta", "3"], r"unknown option '--betta': did you mean '--beta'\? known: --alpha, .*"),
        (["--lr", "fast"], "--lr must be a float, got 'fast'"),
        (["--lr"], "argument --lr: expected one argument"),
        (["--model"], "argument --model: expected one argument"),
        (["--betas", "0.9"], "argument --betas: expected 2 arguments"),
        (["--batch-size", "5.5"], "--batch-size must be an int, got '5.5'"),
        (["--precision", "fp23"], "--precision must be one of fp32, bf16, fp16, got 'fp23'"),
        (["--stack", "many"], "--stack must be an int or null, got 'many'"),
        (["--quick", "yes"], "unexpected argument 'yes'"),
        (["--quick=yes"], "argument --quick/--no-quick: ignored explicit argument 'yes'"),
        (["--model", "beta_vae", "--alpha", "1"], r"unknown option '--alpha': .*"),
    ],
)
def test_mistakes_in_flags_are_one_line(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main([*BASE, *flags]) == 2
    assert re.fullmatch(f"train: {message}\n", capsys.readouterr().err)


def test_a_flag_that_takes_a_recipe_back(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("quick: true\n")
    assert configured([*BASE, "--config", str(tmp_path / "a.yaml"), "--no-quick"]) == configured(BASE)


@pytest.mark.parametrize("model", sorted(OBJECTIVES))
def test_every_model_has_a_quick_recipe_on_every_data_set(model: str) -> None:
    from disentangle_ext.runs.presets import quick

    for data in DATASETS:
        own = {"data_path": "a"} if data in ("arrays", "image_folder") else {}
        config = resolve({"model": model, "data": data, **quick(model, data, "conv"), **own})
        assert config.max_steps * config.batch_size <= 2500 * 64  # what takes a minute
        assert config.threads == 1


def test_quick_needs_a_data_set_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from disentangle_ext.runs.presets import quick

    with pytest.raises(ValueError, match="--quick"):
        quick("beta_vae", "no_such_set", "conv")
    for network in ("conv", "mlp"):
        resolve({"model": "beta_vae", "data": "dsprites_like", "network": network, **quick("beta_vae", None, network)})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(to_yaml(configured([*BASE, "--quick", "--beta", "7"])))
    return folder


def test_resume_takes_the_settings_of_the_run(run: Path) -> None:
    plan = parse(["--resume", "--output-dir", str(run)])
    assert plan.resume
    assert plan.jobs[0].config == configured([*BASE, "--quick", "--beta", "7"])
    same = [*BASE[:4], "--quick", "--beta", "7", "--output-dir", str(run), "--resume"]
    assert configured(same) == plan.jobs[0].config


@pytest.mark.parametrize("change", [["--beta", "8"], ["--lr", "1"], ["--model", "beta_vae"]])
def test_resume_refuses_other_settings(run: Path, change: list[str]) -> None:
    with pytest.raises(ValueError, match=f"--resume: {change[0]} is|unknown option"):
        parse(["--resume", "--output-dir", str(run), *change])


def test_a_job_that_is_queued_again_repeats_its_switches(tmp_path: Path) -> None:
    switches = ["--deterministic", "--second-batch"]
    base = ["--model", "factor_vae", "--data", "dsprites_like", "--output-dir", str(tmp_path)]
    (tmp_path / "config.yaml").write_text(to_yaml(configured([*base, *switches])))
    for flags in ([], switches, ["--second_batch"]):
        plan = parse([*base, *flags, "--resume"])
        assert plan.jobs[0].config.deterministic
        assert plan.jobs[0].config.objective_options["second_batch"] is True
    with pytest.raises(ValueError, match="--second-batch is True"):
        parse([*base, "--no-second-batch", "--resume"])
    assert configured([*base, "--no-deterministic"]).deterministic is False


def test_resume_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--resume needs --output-dir"):
        parse(["--resume"])
    with pytest.raises(ValueError, match=r"--resume: .*none is no run folder: it has no config.yaml"):
        parse(["--resume", "--output-dir", str(tmp_path / "none")])


def test_quick_in_a_file_is_a_bool(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text('quick: "false"\n')
    with pytest.raises(ValueError, match="train: quick must be a bool, got 'false'"):
        parse([*BASE, "--config", str(tmp_path / "a.yaml")])


def test_resume_and_overwrite_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(configured(BASE)))
    with pytest.raises(ValueError, match="--resume goes on with a run and --overwrite replaces it"):
        parse(["--resume", "--overwrite", "--output-dir", str(tmp_path)])


@pytest.mark.parametrize(("flag", "value"), [("seed", str(1 << 63)), ("lr", "inf")])
def test_values_beyond_what_a_run_can_hold(flag: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"train: {flag} must be"):
        parse([*BASE, f"--{flag}", value])


def test_quick_may_be_asked_for_twice(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("quick: true\n")
    config = [*BASE, "--config", str(tmp_path / "a.yaml")]
    assert parse([*config, "--quick"]) == parse(config) == parse([*BASE, "--quick"])


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_is_a_run(name: str) -> None:
    config = configured(["--preset", name, "--data", "dsprites_like", "--output-dir", "x"])
    assert config.model == name.split("/")[1]
    flat = config.flat()
    assert {key: flat[key] for key in PRESETS[name]} == PRESETS[name]
    assert build_objective(config, load_data("dsprites_like", variant="quick")).forward


def test_presets_cover_every_objective_and_the_study() -> None:
    assert {name.removeprefix("paper/") for name in PRESETS if name.startswith("paper/")} == set(OBJECTIVES)
    study = {name.removeprefix("locatello/") for name in PRESETS if name.startswith("locatello/")}
    assert study == set(SWEEPS) == {"annealed_vae", "beta_tcvae", "beta_vae", "dip_vae_i", "dip_vae_ii", "factor_vae"}


@pytest.mark.parametrize("model", sorted(SWEEPS))
def test_the_study(model: str) -> None:
    """Published as one recipe for all: conv, 10 latents, batches of 64, Adam at 1e-4, 300,000 steps."""
    config = configured(["--preset", f"locatello/{model}", "--data", "dsprites_like", "--output-dir", "x"])
    assert (config.network, config.network_options["kernels"]) == ("conv", "study")
    assert (config.latent_dim, config.likelihood, config.batch_size, config.lr) == (10, "bernoulli", 64, 1e-4)
    assert config.max_steps == (150_000 if model == "factor_vae" else 300_000)
    name, values = SWEEPS[model]
    assert len(values) == 6
    assert config.objective_options[name] in values


def test_flags_and_files_override_a_preset(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("preset: locatello/factor_vae\ngamma: 7\nlatent_dim: 4\n")
    arguments = ["--data", "dsprites_like", "--output-dir", "x", "--config", str(file)]
    config = configured([*arguments, "--latent-dim", "5", "--max-steps", "300000"])
    assert (config.model, config.objective_options["gamma"], config.latent_dim) == ("factor_vae", 7.0, 5)
    assert (config.max_steps, configured(arguments).max_steps) == (300_000, 150_000)
    assert configured([*arguments, "--network", "mlp", "--width", "7"]).network_options == {"width": 7}
    assert configured([*arguments, "--preset", "paper/factor_vae"]).objective_options["second_batch"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "paper/betavae"], "train: unknown preset 'paper/betavae': did you mean 'paper/beta_vae'"),
        (["--preset", "locatello/info_vae"], "train: unknown preset 'locatello/info_vae': did you mean"),
        (["--preset", "paper/vae", "--model", "ae"], "train: --preset paper/vae is for model vae, got model ae"),
        (["--preset", "paper/vae", "--quick"], "train: --quick and --preset are both recipes: give one of them"),
    ],
)
def test_mistakes_with_presets(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(["--data", "dsprites_like", "--output-dir", "x", *arguments])


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("annealed", "annealed_vae"),
        ("FactorVAE", "factor_vae"),
        ("factorvae", "factor_vae"),
        ("beta-TCVAE", "beta_tcvae"),
        ("InfoVAE", "info_vae"),
        ("dip_vae", "dip_vae_i"),
    ],
)
def test_the_nearest_model(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"unknown model '{name}': did you mean '{nearest}'"):
        parse(["--model", name, *BASE[2:]])
