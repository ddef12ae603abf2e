"""``python -m disentangle_ext.report``: pictures of a finished run, without training."""

from __future__ import annotations

import subprocess
import sys

import pytest

from disentangle_ext import train
from disentangle_ext.report import PICTURES
from disentangle_ext.report.__main__ import main
from disentangle_ext.report.run import read_run
from disentangle_ext.runs.config import read_yaml

QUICK = ["--quick", "--base-channels", "4", "--batch-size", "16", "--max-steps", "6", "--log-every", "2"]


def make(folder, model, data):
    assert train.main(["--model", model, "--data", data, *QUICK, "--output-dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make(tmp_path_factory.mktemp("runs") / "a", "annealed_vae", "dsprites_like")


FILES = [picture.file for name, picture in PICTURES.items() if name != "sweeps"]  # no latent belongs to a factor


def content(run):
    return {file: (run / file).read_bytes() for file in FILES}


def test_pictures_drawn_again_are_those_of_the_end_of_the_run(run, capsys):
    before = content(run)
    for name in before:
        (run / name).unlink()
    capsys.readouterr()
    assert main([str(run)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [str(run / file) for file in FILES]
    assert captured.err == ""
    assert content(run) == before


def test_some_alone_and_another_range(run, capsys):
    before = content(run)
    assert main([str(run), "--only", "traversals", "losses", "--range", "3"]) == 0
    after = content(run)
    assert [name for name in before if before[name] != after[name]] == ["traversals.png"]
    assert main([str(run), "--only", "traversals"]) == 0
    assert content(run) == before


def test_what_the_subject_is(run):
    subject = read_run(run, limit=3)
    assert subject.name == "annealed_vae on dsprites_like (quick), step 6, seed 0"
    assert subject.limit == 3
    assert subject.points == 1536
    assert [row["step"] for row in subject.metrics] == [2, 4, 6]
    config = read_yaml(run / "config.yaml")
    assert subject.capacity(config["threshold"] // 2) == pytest.approx(config["c_max"] / 2)


def test_an_encoder_without_noise(tmp_path, one_picture):
    subject = read_run(make(tmp_path / "run", "ae", "dsprites_like"))
    assert subject.deterministic
    assert subject.labels[0].split("  ")[1].startswith("variance ")
    assert read_run(make(tmp_path / "pairs", "ada_gvae", "shapes3d_like")).deterministic is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "traversal"], "report: unknown picture 'traversal': did you mean 'traversals'? known: animation, "),
        (["--range", "0"], "report: range must be greater than 0 and finite, got 0.0\n"),
        (["--range", "nan"], "report: range must be greater than 0 and finite, got nan\n"),
    ],
)
def test_mistakes_in_the_call(run, capsys, arguments, message):
    before = content(run)
    assert main([str(run), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert content(run) == before


def test_folders_that_hold_no_finished_run(tmp_path, run, capsys):
    cases = [
        (tmp_path / "none", "does not exist"),
        (tmp_path / "empty", "is no run folder: it has neither config.yaml nor model.safetensors"),
        (tmp_path, "holds runs, give the folder of one: unfinished"),
    ]
    (tmp_path / "empty").mkdir()
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    cases.append((unfinished, "has no model.safetensors: the run is not finished"))
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    cases.append((weights, "report: RUN must be a folder with a config.yaml, which names the data set, got"))
    for folder, message in cases:
        assert main([str(folder)]) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.err.startswith("report: RUN ")
        assert captured.err.count("\n") == 1


def test_without_pillow_the_extra_is_named_in_one_line(run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert main([str(run)]) == 2
    assert capsys.readouterr().err == 'report needs PIL.Image: pip install "disentangle_ext[report]"\n'


def test_a_picture_that_cannot_be_drawn_is_named(run, capsys):
    metrics = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").unlink()
    try:
        assert main([str(run), "--only", "losses", "samples"]) == 1
    finally:
        (run / "metrics.jsonl").write_bytes(metrics)
    captured = capsys.readouterr()
    assert captured.out == f"{run / 'samples.png'}\n"
    assert captured.err == "Not drawn: losses: save_losses: rows must hold at least one line of metrics, got none\n"


@pytest.mark.forks
def test_as_a_command(run):
    call = [sys.executable, "-m", "disentangle_ext.report", str(run), "--only", "samples"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{run / 'samples.png'}\n", "")
