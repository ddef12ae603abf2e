"""The demo: what it trains, what it installs, and two trainings at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import demo
from disentangle_ext._extras import EXTRAS
from disentangle_ext.training.command_line import parse

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MEETS = """
import pathlib, sys, time
own, other = map(pathlib.Path, sys.argv[1:])
own.touch()
end = time.monotonic() + 30
while not other.exists():
    if time.monotonic() > end:
        sys.exit("the other was not started")
    time.sleep(0.01)
print(own.name, "is done", flush=True)
"""
TRAINS = """
import sys
for name in ("h5py", "pooch", "scipy", "sklearn"):
    sys.modules[name] = None  # importing it fails
from disentangle_ext import train
sys.exit(train.main(sys.argv[1:]))
"""


def python(program: str, *arguments: object) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", program, *map(str, arguments)]


def test_the_models_are_those_of_quick_on_the_first_seed() -> None:
    for model in demo.MODELS:
        (job,) = parse(demo.command(model)[3:]).jobs
        flags = ["--model", model, "--data", "dsprites_like", "--quick", "--output-dir", str(demo.RUNS / model)]
        assert (job.config, job.folder.path) == (parse(flags).jobs[0].config, demo.RUNS / model)
        assert job.config.seed == 0
        assert job.config.threads == 1, "two at once would wait for each other"


def test_its_extra_is_what_training_and_pictures_need(root: Path) -> None:
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {each.partition(">")[0] for each in extras["demo"]}
    assert names == {"disentangle_ext[report]", *EXTRAS["train"].values()}
    assert set(extras["demo"]) <= {"disentangle_ext[report]", *extras["train"]}


def test_only_the_installation_of_this_call_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step, seconds, written in zip(demo.STEPS, ("90", "40", "7"), (1000, 2000, 3000), strict=True):
        (tmp_path / step).write_text(f"{seconds}\n")
        os.utime(tmp_path / step, (written, written))
    demo.report_times({**demo.installation_times(tmp_path, 2000), "train both models": 30.0})
    assert capsys.readouterr().out.split()[-1] == "77"


@pytest.mark.forks
def test_training_needs_no_other_extra(root: Path, tmp_path: Path) -> None:
    options = demo.command("beta_tcvae")[3:]
    options[options.index("--output-dir") + 1] = str(tmp_path)
    call = [sys.executable, "-c", TRAINS, *options, "--max-steps", "1", "--base-channels", "2", "--batch-size", "2"]
    done = subprocess.run(call, cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"scores.json", "traversals.png", "reconstructions.png"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.forks
def test_trainings_run_at_once_and_what_they_print_is_not_mixed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert demo.train({"one": python(MEETS, one, two), "two": python(MEETS, two, one)}) > 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[-4:] == ["one is done", "", "two:", "two is done"]


@pytest.mark.forks
@pytest.mark.parametrize("failing", ["one", "two"])
def test_a_training_that_fails_ends_the_demo(failing: str, capfd: pytest.CaptureFixture[str]) -> None:
    fails = python("import sys; sys.exit('no disk')")
    lasts = python("import time; time.sleep(60)" if failing == "one" else "pass")
    start = time.monotonic()
    with pytest.raises(SystemExit, match=f"^demo: the training of {failing} ended with exit code 1$"):
        demo.train({name: fails if name == failing else lasts for name in ("one", "two")})
    assert time.monotonic() - start < 50
    printed = capfd.readouterr()
    assert "no disk" in printed.out + printed.err
