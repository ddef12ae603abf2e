"""``--stack`` and ``--vary`` as a person uses them: several runs in one call, each with an ordinary run folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from disentangle_ext import evaluate
from disentangle_ext import train as train_module
from disentangle_ext.engine.stack import Stack
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.runs.checkpoint import checkpoints_by_step, last_checkpoint, read_tensors
from disentangle_ext.runs.config import TrainConfig, resolve
from disentangle_ext.runs.folder import RunFolder
from disentangle_ext.training import Job, Plan, train_plan
from disentangle_ext.training.command_line import parse

QUICK = ["--data", "dsprites_like", "--quick", "--network", "mlp", "--width", "8", "--batch-size", "16"]
SHORT = ["--max-steps", "12", "--log-every", "4", "--checkpoint-every", "4"]


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("disentangle_ext.training.finish.draw", lambda subject, folder: {})


def main(output: Path, *arguments: str, model: str = "beta_vae") -> int:
    return train_module.main(["--model", model, *QUICK, *SHORT, "--output-dir", str(output), *arguments])


def runs_of(*arguments: str) -> dict[str, TrainConfig]:
    plan = parse(["--model", "beta_vae", *QUICK, "--output-dir", "unused", *arguments])
    assert plan.several is not None
    return {job.folder.path.name: job.config for job in plan.jobs}


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: row[name] for name in row if name not in ("seconds", "images_per_second")} for row in lines]


def assert_same_run(one: Path, other: Path) -> None:
    assert rows(one) == rows(other)
    mine, theirs = (read_tensors(folder / "model.safetensors")[0] for folder in (one, other))
    assert [name for name in theirs if not mine[name].equal(theirs[name])] == []


def stop_after(monkeypatch: pytest.MonkeyPatch, kind: type, step: int) -> None:
    """Ctrl-C in the update that makes it the step."""
    update = kind.update

    def interrupting(self: Any) -> Any:
        result = update(self)
        if self.step == step:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    monkeypatch.setattr(kind, "update", interrupting)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stack") / "all"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("disentangle_ext.training.finish.draw", lambda subject, folder: {})
        assert main(folder, "--stack", "2", "--vary", "beta=1,8") == 0
    return folder


def test_names_and_settings_of_the_runs() -> None:
    assert {name: run.seed for name, run in runs_of("--stack", "3", "--seed", "5").items()} == {
        "seed-5": 5,
        "seed-6": 6,
        "seed-7": 7,
    }
    varied = runs_of("--vary", "beta=1,4.5", "lr=1e-4,1e-3", "--seed", "3")
    assert {name: (run.objective_options["beta"], run.lr, run.seed) for name, run in varied.items()} == {
        "beta-1-lr-1e-4": (1.0, 1e-4, 3),
        "beta-1-lr-1e-3": (1.0, 1e-3, 3),
        "beta-4.5-lr-1e-4": (4.5, 1e-4, 3),
        "beta-4.5-lr-1e-3": (4.5, 1e-3, 3),
    }
    assert list(runs_of("--vary", "lr-warmup=0,10", "--stack", "2")) == [
        "lr-warmup-0-seed-0",
        "lr-warmup-0-seed-1",
        "lr-warmup-10-seed-0",
        "lr-warmup-10-seed-1",
    ]
    assert list(runs_of("--vary", "seed=3,9", "--stack", "1")) == ["seed-3", "seed-9"]


ONE = ["--stack", "1", "--vary"]
MISTAKES = {
    "no such option": (["--vary", "bta=1,2"], "bta.*beta"),
    "no values": (["--vary", "beta"], "--vary must be OPTION=VALUE,VALUE"),
    "the same value twice": (["--vary", "beta=1,1"], "with different values"),
    "a value that is a path": (["--vary", "beta=../x,1"], "--vary must be OPTION=VALUE"),
    "a value of another type": (["--vary", "beta=1,many"], "beta must be a float, got 'many'"),
    "an option twice": (["--vary", "beta=1,2", "beta=3,4"], "each option once"),
    "a flag twice": (["--vary", "beta=1,2", "--vary", "lr=1e-3,1e-4"], "--vary must be given once"),
    "a value with a comma": (["--vary", "beta=[1,2]"], r"--vary: beta must be values between commas, got '\[1'"),
    "a name that is too long": (["--vary", f"beta={'1' * 300}"], "File name too long"),
    "out of range": (["--vary", "lr=1e-3,-1"], "lr must be greater than 0"),
    "no runs": (["--stack", "0"], "--stack must be at least 1"),
    "seeds from two sides": (["--stack", "2", "--vary", "seed=0,4"], "both choose the seeds"),
    "another network": ([*ONE, "latent_dim=4,6"], "latent_dim must be the same in every run, got 4, 6"),
    "another length": ([*ONE, "max_steps=4,6"], "max_steps must be the same in every run, got 4, 6"),
    "a scale that is learned": ([*ONE, "scale=1,learned"], "scale must be the same in every run, got 1.0, learned"),
    "compiled": (["--stack", "2", "--compilation", "inductor"], "compilation must be 'eager', got 'inductor'"),
    "an objective that refuses": (["--vary", "scale=1,-1"], "scale must be"),
}


def test_what_is_left_of_the_checkpoints_of_a_finished_run_goes(stack: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(stack, tmp_path / "a"))
    left = folder / "beta-1-seed-0" / "checkpoints" / "step-0000000012.safetensors"
    left.parent.mkdir()
    left.touch()
    assert train_module.main(["--resume", "--output-dir", str(folder)]) == 0
    assert not left.parent.exists()


def test_several_runs_end_with_their_scores_by_what_varies(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    folder = Path(shutil.copytree(stack, tmp_path / "a"))
    assert train_module.main(["--resume", "--output-dir", str(folder)]) == 0
    heading, metrics, columns, *lines = capsys.readouterr().out.partition("dsprites_like: ")[2].splitlines()
    assert heading == "mean, standard deviation and median of n runs that differ in their seed"
    assert metrics.split() == ["mig", "elbo", "reconstruction"]
    assert columns.split() == ["n", "mean", "sd", "median"] * 3
    for line, beta in zip(lines, (1, 8)):
        migs = [json.loads((folder / f"beta-{beta}-seed-{k}" / "scores.json").read_text())["mig"] for k in (0, 1)]
        mean, difference = (migs[0]["score"] + migs[1]["score"]) / 2, abs(migs[0]["score"] - migs[1]["score"])
        want = [f"beta={beta}", "2", f"{mean:.3f}", f"{difference / 2**0.5:.3f}", f"{mean:.3f}"]
        assert line.split()[1:6] == want

    (folder / "beta-8-seed-1" / "metrics.jsonl").write_text("{")
    assert train_module.main(["--resume", "--output-dir", str(folder)]) == 0
    printed = capsys.readouterr()
    assert "metrics.jsonl is damaged" in printed.err
    assert "beta_vae beta=8   1  " in printed.out


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_one_line_and_leave_nothing_behind(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = MISTAKES[what]
    model = ("--likelihood", "gaussian") if "scale" in message else ()
    assert main(tmp_path / "a", *model, *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert re.search(message, error)
    assert not any(tmp_path.glob("a/*/*"))
    assert main(tmp_path / "a", "--stack", "1") == 0


def test_each_run_is_that_of_a_call_of_its_own(stack: Path, tmp_path: Path) -> None:
    assert sorted(path.name for path in stack.iterdir()) == [
        *("beta-1-seed-0", "beta-1-seed-1", "beta-8-seed-0", "beta-8-seed-1", "stack.yaml")
    ]
    assert main(tmp_path / "alone", "--beta", "8", "--seed", "1") == 0
    one, other = stack / "beta-8-seed-1", tmp_path / "alone"
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())
    assert (one / "config.yaml").read_text() == (other / "config.yaml").read_text()
    for mine, theirs in zip(rows(one), rows(other), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-4)
    assert rows(one) != rows(stack / "beta-1-seed-1")
    assert evaluate.main([str(one), "--metrics", "mig"]) == 0


def test_a_stack_in_the_way(stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied = tmp_path / "all"
    shutil.copytree(stack, copied)
    before = sorted(copied.rglob("*"))
    assert main(copied, "--stack", "3") == 2
    assert "holds a stack: give --resume" in capsys.readouterr().err
    assert main(copied / "beta-1-seed-0", "--stack", "3") == 2
    assert "holds a run" in capsys.readouterr().err
    assert sorted(copied.rglob("*")) == before
    (copied / "stack.yaml").unlink()
    assert main(copied, "--stack", "2", "--vary", "beta=1,3") == 2
    assert "holds a finished run" in capsys.readouterr().err
    assert not (copied / "beta-3-seed-0").exists()
    assert main(copied, "--stack", "2", "--vary", "beta=1,3", "--overwrite") == 0
    assert (copied / "beta-3-seed-1" / "DONE").is_file()


def test_overwriting_removes_the_other_runs_of_the_call_before_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "all"
    assert main(folder, "--vary", "seed=0,1,2") == 0
    assert main(folder / "seed-5") == 0  # a person's own
    (folder / "seed-2" / "notes.txt").touch()
    with RunFolder(folder / "seed-0").lock():
        assert main(folder, "--vary", "seed=1,3", "--overwrite") == 2
    assert f"{folder / 'seed-0'}: another process is training there" in capsys.readouterr().err
    assert all(RunFolder(folder / f"seed-{k}").is_done for k in (0, 1, 2, 5))
    assert main(folder, "--vary", "seed=1,3", "--overwrite") == 0
    assert sorted(path.name for path in folder.iterdir()) == ["seed-1", "seed-2", "seed-3", "seed-5", "stack.yaml"]
    assert [path.name for path in (folder / "seed-2").iterdir()] == ["notes.txt"]
    assert RunFolder(folder / "seed-5").is_done
    (folder / "stack.yaml").write_text("runs: [")  # who can tell whose runs these are
    assert main(folder, "--vary", "seed=3", "--overwrite") == 0
    assert RunFolder(folder / "seed-1").is_done


def test_an_interrupted_stack_goes_on_bit_for_bit(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "all"
    stop_after(monkeypatch, Stack, 6)
    assert main(folder, "--stack", "2", "--vary", "beta=1,8") == 130
    assert "Stopped after step 6 of 12" in capsys.readouterr().out
    names = sorted(path.name for path in stack.iterdir() if path.is_dir())
    for name in names:
        found = last_checkpoint(folder / name / "checkpoints")
        assert found is not None
        assert found.step == 6
    resume = ["--resume", "--output-dir", str(folder)]
    assert train_module.main([*resume, "--stack", "3"]) == 2
    assert "leave --stack and --vary out" in capsys.readouterr().err
    assert train_module.main([*resume, "--lr", "1"]) == 2
    assert "--lr is" in capsys.readouterr().err
    assert train_module.main(resume) == 0
    for name in names:
        assert_same_run(folder / name, stack / name)
    assert train_module.main(resume) == 0
    assert capsys.readouterr().out.count("is finished: there is nothing to go on with") == 4


def test_a_run_of_a_stack_goes_on_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, Stack, 6)
        assert main(tmp_path / "all", "--stack", "2") == 130
    assert train_module.main(["--resume", "--output-dir", str(tmp_path / "all" / "seed-1")]) == 0
    assert [row["step"] for row in rows(tmp_path / "all" / "seed-1")] == [4, 8, 12]
    assert train_module.main(["--resume", "--output-dir", str(tmp_path / "all")]) == 0  # with what is left
    assert (tmp_path / "all" / "seed-0" / "DONE").is_file()


def test_killed_while_it_saves_a_stack_goes_on_from_the_last_common_step(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "all"
    names = sorted(path.name for path in stack.iterdir() if path.is_dir())
    with monkeypatch.context() as patch:
        stop_after(patch, Stack, 8)
        assert main(folder, "--stack", "2", "--vary", "beta=1,8") == 130
    newest = [checkpoints_by_step(folder / name / "checkpoints")[8] for name in names]
    newest[1].unlink()  # not written yet
    newest[2].write_bytes(b"cut short")
    with monkeypatch.context() as patch:
        stop_after(patch, Stack, 6)
        assert train_module.main(["--resume", "--output-dir", str(folder)]) == 130
    assert f"{names[0]}: back from step 8 to 4\n" in capsys.readouterr().out
    assert {tuple(checkpoints_by_step(folder / name / "checkpoints")) for name in names} == {(4, 6)}
    assert train_module.main(["--resume", "--output-dir", str(folder)]) == 0
    for name in names:
        assert_same_run(folder / name, stack / name)


@pytest.mark.parametrize("there", [0, 1])
def test_killed_before_all_have_saved_once_a_stack_begins_again(
    there: int, stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "all"
    names = sorted(path.name for path in stack.iterdir() if path.is_dir())
    with monkeypatch.context() as patch:
        stop_after(patch, Stack, 3)
        assert main(folder, "--stack", "2", "--vary", "beta=1,8") == 130
    for name in names[there:]:
        shutil.rmtree(folder / name / "checkpoints")
    shutil.rmtree(folder / names[-1])
    assert train_module.main(["--resume", "--output-dir", str(folder)]) == 0
    for name in names:
        assert_same_run(folder / name, stack / name)


def test_runs_without_a_common_step_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "all"
    with monkeypatch.context() as patch:
        stop_after(patch, Stack, 9)
        assert main(folder, "--stack", "2") == 130
    for path in (folder / "seed-1" / "checkpoints").iterdir():
        path.write_bytes(b"damaged")
    assert train_module.main(["--resume", "--output-dir", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "no readable checkpoint of the same step (seed-0 [8, 9]; seed-1 [8, 9])" in error
    assert len(checkpoints_by_step(folder / "seed-0" / "checkpoints")) == 2


@pytest.mark.parametrize("stacked", [True, False])
def test_a_run_that_diverges_leaves_the_others(
    stacked: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, way = tmp_path / "all", ["--stack", "1"] if stacked else []
    with monkeypatch.context() as patch:
        stop_after(patch, Stack if stacked else Trainer, 10)
        assert main(folder, "--vary", "beta=1e300,1,2", *way, model="beta_tcvae") == 130
    assert "beta-1e300: train: loss is inf at step 0" in capsys.readouterr().err
    assert train_module.main(["--resume", "--output-dir", str(folder)]) == 5
    assert "beta-1e300: train: loss is inf at step 0" in capsys.readouterr().err
    assert "loss is inf" in (folder / "beta-1e300" / "FAILED").read_text()
    assert not (folder / "beta-1e300" / "DONE").exists()
    for beta in ("1", "2"):
        assert main(tmp_path / beta, "--beta", beta, model="beta_tcvae") == 0
        for mine, theirs in zip(rows(folder / f"beta-{beta}"), rows(tmp_path / beta), strict=True):
            assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("model", ["factor_vae", "dcign"])
def test_objectives_with_more_than_a_model(model: str, tmp_path: Path) -> None:
    assert main(tmp_path / "a", "--stack", "2", model=model) == 0
    assert main(tmp_path / "b", "--seed", "1", model=model) == 0
    for mine, theirs in zip(rows(tmp_path / "a" / "seed-1"), rows(tmp_path / "b"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-3)


def test_from_python(tmp_path: Path) -> None:
    settings = {"model": "vae", "data": "dsprites_like", "data_variant": "quick", "network": "mlp", "width": 8}
    configs = [resolve({**settings, "max_steps": 3, "seed": seed, "lr": 1e-3 / (1 + seed)}) for seed in range(2)]

    def plan(*names: str) -> Plan:
        return Plan(tuple(Job(each, RunFolder(tmp_path / name)) for each, name in zip(configs, names)), stacked=True)

    outcome = train_plan(plan("x", "y/z"))
    assert [run.step for run in outcome.runs] == [3, 3]
    assert outcome.stopped_by is None
    assert outcome.failed == {}
    assert rows(tmp_path / "y" / "z")[-1]["lr"] == 5e-4
    with pytest.raises(ValueError, match="runs must have different folders"):
        train_plan(plan("x", "x"))
    with pytest.raises(FileExistsError, match="holds a finished run"):
        train_plan(plan("new", "x"))
    assert not (tmp_path / "new").exists()
