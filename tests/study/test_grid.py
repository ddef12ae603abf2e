"""Grid files: which runs they mean, and one sentence for each that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from disentangle_ext._errors import MistakeError
from disentangle_ext.metrics.suite import SUITE
from disentangle_ext.study.grid import grid_files, read_grid
from disentangle_ext.study.run import Run


def write(folder: Path, text: str) -> str:
    path = folder / "grid.yaml"
    path.write_text(text)
    return str(path)


def test_a_grid_is_the_product_of_its_lists_and_of_the_seeds(tmp_path: Path) -> None:
    grid = read_grid(
        write(
            tmp_path,
            "base: {data: dsprites_like, latent_dim: 4}\n"
            "grid:\n"
            "  - {model: beta_vae, beta: [1, 4], lr: [1e-3, 1e-4]}\n"
            "  - {model: [vae, ae]}\n"
            "seeds: [3, 5]\n",
        )
    )
    beta_vae = [(4, beta, lr, seed) for beta in (1.0, 4.0) for lr in (1e-3, 1e-4) for seed in (3, 5)]
    flat = [run.config.flat() for run in grid.runs]
    assert [(each["latent_dim"], each["beta"], each["lr"], each["seed"]) for each in flat[:8]] == beta_vae
    assert [(each["model"], each["seed"]) for each in flat[8:]] == [("vae", 3), ("vae", 5), ("ae", 3), ("ae", 5)]


def test_each_block_of_a_list_goes_with_each_of_the_others(tmp_path: Path) -> None:
    grid = read_grid(
        write(
            tmp_path,
            "grid:\n"
            "  sets: [{data: [digits]}, {data: dsprites_like, data_effect: [none, color]}]\n"
            "  objectives: [{model: beta_vae, beta: [2, 3]}, {model: vae}]\n",
        )
    )
    found = [
        (each["data"], each.get("data_effect"), each["model"]) for each in (run.config.flat() for run in grid.runs)
    ]
    sets = [("digits", None), ("dsprites_like", "none"), ("dsprites_like", "color")]
    objectives = ["beta_vae", "beta_vae", "vae"]
    assert sorted(found, key=str) == sorted(((*each, model) for each in sets for model in objectives), key=str)


def test_a_list_is_varied_by_a_list_of_lists(tmp_path: Path) -> None:
    text = "grid: [{model: vae, data: digits, betas: [[0.9, 0.999], [0.5, 0.9]]}]\n"
    assert [run.config.betas for run in read_grid(write(tmp_path, text)).runs] == [(0.9, 0.999), (0.5, 0.9)]


def test_a_recipe_stands_below_what_the_grid_states(tmp_path: Path) -> None:
    text = "grid: [{preset: locatello/factor_vae, data: digits, gamma: 7}]\n"
    (run,) = read_grid(write(tmp_path, text)).runs
    assert run.config.model == "factor_vae"
    assert run.config.max_steps == 150_000
    assert run.config.objective_options["gamma"] == 7


def test_a_run_has_one_thread_unless_the_grid_says_otherwise(tmp_path: Path) -> None:
    text = "grid: [{model: vae, data: digits}, {model: ae, data: digits, threads: 4}]\n"
    assert [run.config.threads for run in read_grid(write(tmp_path, text)).runs] == [1, 4]


@pytest.mark.parametrize(("name", "runs"), [("quick", 36), ("locatello", 12_600), ("chen", 60)])
def test_the_grid_files_of_the_package(name: str, runs: int) -> None:
    grid = read_grid(name)
    assert len({run.name for run in grid.runs}) == len(grid.runs) == runs
    assert set(grid.metrics) <= set(SUITE)


def test_every_grid_file_of_the_package_is_tested() -> None:
    assert set(grid_files()) == {"quick", "locatello", "chen"}


def test_a_name_follows_from_the_configuration_alone(tmp_path: Path) -> None:
    def names(text: str) -> list[str]:
        return [run.name for run in read_grid(write(tmp_path, text)).runs]

    one = names("grid: [{model: beta_vae, data: digits, beta: 4}]\n")
    assert one == names("base: {data: digits}\ngrid: [{model: beta_vae, beta: [2, 4]}]\nseeds: 2\n")[2:3]
    assert one != names("grid: [{model: beta_vae, data: digits, beta: 4, lr: 1e-3}]\n")
    assert one[0].startswith("digits-beta-vae-beta-4-seed-0-")


def test_a_file_that_has_moved_makes_no_other_run(tmp_path: Path) -> None:
    def run(path: str) -> Run:
        text = f"grid: [{{model: vae, data: image_folder, data_path: {path}}}]\n"
        return read_grid(write(tmp_path, text)).runs[0]

    assert run("here/cats").name == run("there/cats").name


def test_two_sets_of_images_are_two_runs(tmp_path: Path) -> None:
    text = "grid: [{model: vae, data: image_folder, data_path: [cats, dogs]}]\n"
    assert len({run.name for run in read_grid(write(tmp_path, text)).runs}) == 2


WRONG = {
    "grid: [{model: vae, data: digits, latent_dims: 3}]": "line 1: unknown option 'latent_dims': did you mean",
    "grid:\n- {model: vae, data: digits}\n- {model: vae, data: digits,\n   lr: fast}": (
        "line 4: lr must be a float, got 'fast'"
    ),
    "grid: [{model: vae, data: digits}]\nseeds: [0, 0]": "line 1: run digits-vae-seed-0-",
    "grid: [{model: vae, data: digits}]\nseeds: [-1]": "line 2: seeds must be how many, or a list of integers from 0",
    "grid: [{model: vae, data: digits}]\nseeds: 0": "line 2: seeds must be how many",
    "grid: [{model: vae, data: digits, seed: [1, 2]}]": "line 1: seed must not be in a block",
    "grid:\n  - {model: vae, data: digits, lr: []}": "line 2: lr must have at least one value, got []",
    "grid: []": "line 1: grid must be a list of blocks (- {model: ...}), got []",
    "grid: {model: beta_vae, beta: [1, 4]}": (
        "line 1: grid must be a list of blocks (- {model: ...}), got a mapping with the keys model, beta"
    ),
    "grid:\n  model: [vae, ae]\n  beta: [1, 4]": "got a mapping with the keys model, beta",
    "grid:\n  a: [{model: vae}]\n  b: {data: digits}": (
        "line 3: b must be a list of blocks (- {model: ...}), got {'data': 'digits'}"
    ),
    "base: {data: digits}": "line 1: grid is not given",
    "grid: [{model: vae, data: digits}]\nseed: 3": "line 2: unknown key 'seed': did you mean 'seeds'?",
    "grid: [{model: vae, data: digits}]\nmetrics: [migg]": "line 2: unknown metric 'migg': did you mean 'mig'?",
    "grid: [vae]": "line 1: a block of grid must be a mapping, got 'vae'",
    "grid: [{model: vae, model: ae}]": "line 1: model is given twice",
    "grid: [{data: digits}]": "line 1: model is not given",
    "grid: [{model: vae, data: dgits}]": "line 1: unknown data set 'dgits': did you mean 'digits'?",
    "grid: [{model: vae, data: digits, preset: paper/beta_vae}]": "--preset paper/beta_vae is for model beta_vae",
    "base: {quick: perhaps}\ngrid: [{model: vae, data: digits}]": "line 1: quick must be a bool, got 'perhaps'",
    "grid:\n  a: [{model: vae, data: digits}]\n  b: [{model: ae}]": "line 3: model is in line 2 already",
    "grid: [{model: vae, data: digits}]\nseeds: 10000000": "line 1: grid has 10,000,000 runs, and must have at most",
    "grid: [{model: vae, data: digits}]\nseeds: 10000000000000000": "line 1: grid has 10,000,000,000,000,000 runs",
    "grid: [{model: vae, data: digits}]\nseeds: 9999999999999999999": "line 2: seeds must be how many",
    "grid: [{model: vae, data: digits}]\nseeds: [9999999999999999999]": "line 2: seeds must be how many",
    "grid: [{model: vae, data: digits}]\nseeds: [true]": "line 2: seeds must be how many",
    "base: {seed: 3}\ngrid: [{model: vae, data: digits}]": "line 1: seed must not be in base",
    "grid: {}": "line 1: grid must be a list of blocks (- {model: ...}), got {}",
    "grid:\n- {model: vae, data: digits, lr: 2020-13-45}": "line 2: 2020-13-45 cannot be read: month must be in 1..12",
    "grid:\n- {model: vae, data: digits, lr: !!int fast}": "line 2: fast cannot be read: invalid literal for int()",
    "grid:\n- {model: vae, data: digits, lr: !!bool fast}": "line 2: fast cannot be read: 'fast'",
    "grid: {": "is no YAML",
    "grid: " + "[" * 5000: "is no YAML: it is nested too deeply",
}


@pytest.mark.parametrize("text", WRONG, ids=[each[:40] for each in WRONG])
def test_a_wrong_grid_is_one_sentence_that_names_the_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(MistakeError) as caught:
        read_grid(write(tmp_path, text))
    said = str(caught.value)
    assert WRONG[text] in said
    assert said.startswith("study: ")
    assert "grid.yaml" in said
    assert "\n" not in said


def test_a_grid_that_is_not_there_names_those_of_the_package() -> None:
    with pytest.raises(MistakeError, match="study: cannot read GRID nowhere: No such file.*: chen, locatello, quick"):
        read_grid("nowhere")
