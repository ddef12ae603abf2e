"""``python -m disentangle_ext.train`` as a person runs it, on the quick set with few steps."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import disentangle_ext
from disentangle_ext import train as train_module
from disentangle_ext._exit_codes import ExitCode
from disentangle_ext.data import DATASETS, load_data
from disentangle_ext.models import NETWORKS
from disentangle_ext.objectives import OBJECTIVES
from disentangle_ext.report import PICTURES as PICTURE_KINDS
from disentangle_ext.runs.checkpoint import read_tensors
from disentangle_ext.runs.presets import PRESETS
from disentangle_ext.training import fit

QUICK = ["--data", "dsprites_like", "--quick", "--base-channels", "4", "--batch-size", "16"]
PICTURES = ("traversals.png", "reconstructions.png", "samples.png", "factors.png", "losses.png")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "disentangle_ext.train", *arguments]


def main(output: Path, *arguments: str, model: str = "beta_tcvae") -> int:
    """Run the program in this process."""
    return train_module.main(["--model", model, *QUICK, "--output-dir", str(output), *arguments])


def content(path: Path) -> Any:
    return json.loads(path.read_text())


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what depends on the clock."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


def assert_same_model(a: Path, b: Path) -> None:
    first, second = (read_tensors(folder / "model.safetensors")[0] for folder in (a, b))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 20 steps."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    assert main(folder, "--max-steps", "20", "--log-every", "8") == 0
    return folder


def test_end_to_end(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ["--model", "beta_tcvae", *QUICK, "--max-steps", "30", "--log-every", "10", "--seed", "4"]
    finished = subprocess.run(
        command(*arguments, "--output-dir", str(folder)), capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert finished.returncode == 0, finished.stderr
    steps = [line.split()[1] for line in finished.stdout.splitlines() if line.startswith("step ")]
    assert steps == ["10/30", "20/30", "30/30"]
    assert "reconstruction" in finished.stdout
    assert "images/s" in finished.stdout
    assert "MIG 0." in finished.stdout
    assert "1,536 points" in finished.stdout
    assert "\x1b" not in finished.stdout, "control characters in what is no terminal"
    names = {"config.yaml", "env.json", "metrics.jsonl", "model.safetensors", "scores.json", "DONE"}
    assert {path.name for path in folder.iterdir()} == {*names, *PICTURES, "animation.gif"}


def test_what_the_run_folder_says(run: Path) -> None:
    rows = metrics(run)
    assert [row["step"] for row in rows] == [8, 16, 20]
    terms = {"loss", "reconstruction", "kl", "tc_mws", "mutual_information", "total_correlation", "dimwise_kl", "lr"}
    assert set(rows[0]) == {"step", *terms}
    for row in rows:
        assert row["loss"] == pytest.approx(row["reconstruction"] + row["kl"] + 14 * row["tc_mws"], rel=1e-5)
    scores = content(run / "scores.json")
    assert scores["points"] == scores["mig"]["settings"]["num_points"] == 1536
    assert scores["mig"]["settings"]["protocol"] == "histogram"
    assert set(scores["mig"]["gaps"]) == {"scale", "position_x", "position_y"}
    assert 0 <= scores["mig"]["score"] <= 1
    assert len(scores["kl_per_latent"]) == 6
    environment = content(run / "env.json")
    assert environment["build_info"] == disentangle_ext.build_info() | {"threads": 1}
    for name in PICTURES:
        assert (run / name).read_bytes().startswith(b"\x89PNG")
    assert (run / "animation.gif").read_bytes().startswith(b"GIF89a")


def test_mig_in_the_folder_is_that_of_the_saved_model(run: Path) -> None:
    data = load_data("dsprites_like", variant="quick")
    everything = torch.arange(len(data))
    mu, logvar = disentangle_ext.load(run).encode(data.images(everything))
    score = disentangle_ext.metrics.mig(mu, data.factors(everything)).score
    scores = content(run / "scores.json")
    assert scores["mig"]["score"] == pytest.approx(score, abs=1e-3)
    kl = (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).mean(0)
    assert scores["kl_per_latent"] == pytest.approx(kl.tolist(), rel=1e-3, abs=1e-5)


def test_a_picture_that_fails_does_not_keep_a_run_from_ending(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(subject: Any, path: Path) -> None:
        raise RuntimeError("no\nluck")

    monkeypatch.setitem(PICTURE_KINDS, "samples", PICTURE_KINDS["samples"]._replace(draw=fail))
    assert main(tmp_path / "a run", "--max-steps", "3") == 0
    captured = capsys.readouterr()
    assert captured.err == (
        "Not drawn: samples: RuntimeError: no luck\n"
        f"To draw again:\n  python -m disentangle_ext.report '{tmp_path}/a run'\n"
    )
    assert (tmp_path / "a run" / "DONE").exists()
    assert (tmp_path / "a run" / "scores.json").exists()
    assert (tmp_path / "a run" / "losses.png").exists()
    assert not (tmp_path / "a run" / "samples.png").exists()


def test_a_run_without_the_libraries_that_draw_ends_and_names_their_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(tmp_path / "run", "--max-steps", "3") == 0
    reason = 'report needs matplotlib: pip install "disentangle_ext[report]"'
    names = ", ".join(name for name in PICTURE_KINDS if name != "sweeps")
    assert capsys.readouterr().err.splitlines()[0] == f"Not drawn: {names}: {reason}"
    assert (tmp_path / "run" / "DONE").exists()


def test_latents_that_belong_to_a_factor_are_scored_and_swept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(folder, "--extrinsic", "position_y", "scale", "--max-steps", "4", model="dcign") == 0
    scores = content(folder / "scores.json")["correlation"]
    data = load_data("dsprites_like", variant="quick")
    everything = torch.arange(len(data))
    mu, _ = disentangle_ext.load(folder).encode(data.images(everything))
    classes = data.factors(everything)
    matrix = torch.corrcoef(torch.cat([mu, classes], 1).T.double())[: mu.shape[1], mu.shape[1] :].abs()
    torch.testing.assert_close(torch.tensor(scores["matrix"], dtype=torch.float64), matrix, atol=1e-3, rtol=0)
    assert scores["latents"] == {"scale": 1, "position_x": -1, "position_y": 0}
    assert scores["correlations"]["position_y"] == scores["matrix"][0][2]
    assert (scores["data"], scores["held_out"]) == ("dsprites_like (quick)", False)
    assert "Correlation on dsprites_like (quick): scale 0." in capsys.readouterr().out
    assert (folder / "sweeps.png").is_file()


def test_the_same_call_gives_the_same_model(tmp_path: Path, run: Path) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    assert main(again, "--max-steps", "20", "--log-every", "8") == 0
    assert main(other, "--max-steps", "20", "--log-every", "8", "--seed", "1") == 0
    assert_same_model(run, again)
    assert metrics(run) == metrics(again)
    with pytest.raises(AssertionError):
        assert_same_model(run, other)


def test_settings_in_a_file_and_flags_above_it(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("model: beta_vae\nmax_steps: 500\nbeta: 3\nlog-every: 2\n")
    folder = tmp_path / "run"
    call = [*QUICK, "--config", str(file), "--max-steps", "4", "--output-dir", str(folder)]
    assert train_module.main(call) == 0
    rows = metrics(folder)
    assert [row["step"] for row in rows] == [2, 4]
    for row in rows:
        assert row["loss"] == pytest.approx(row["reconstruction"] + 3 * row["kl"], rel=1e-5)
    again = tmp_path / "again"
    assert train_module.main(["--config", str(folder / "config.yaml"), "--output-dir", str(again)]) == 0
    assert_same_model(folder, again)


def interrupt(folder: Path, arguments: list[str], after: str) -> subprocess.CompletedProcess[str]:
    """Start a run and press Ctrl-C once it has printed ``after``."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command(*arguments, "--output-dir", str(folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(after):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, "".join(lines) + out, err)


def test_ctrl_c_saves_and_the_printed_command_goes_on_exactly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "a folder"
    steps = ["--max-steps", "150", "--log-every", "10", "--checkpoint-every", "1000"]
    assert main(whole, *steps) == 0
    ended = interrupt(stopped, ["--model", "beta_tcvae", *QUICK, *steps], after="step 20/")
    assert ended.returncode == 130, ended.stderr
    assert not (stopped / "DONE").exists()
    assert not (stopped / "model.safetensors").exists()
    step = int(ended.stdout.split("Stopped after step ")[1].split()[0])
    assert 20 <= step < 150
    assert [path.name for path in (stopped / "checkpoints").iterdir()] == [f"step-{step:010d}.safetensors"]
    printed = ended.stdout.splitlines()[-1].strip()
    assert printed == f"python -m disentangle_ext.train --resume --output-dir {shlex.quote(str(stopped))}"

    assert main(stopped, *steps) == 2
    assert "holds an unfinished run: give --resume" in capsys.readouterr().err

    resumed = subprocess.run(command(*shlex.split(printed)[3:]), capture_output=True, text=True, timeout=120)
    assert resumed.returncode == 0, resumed.stderr
    assert_same_model(whole, stopped)
    assert metrics(whole) == metrics(stopped)
    assert content(whole / "scores.json") == content(stopped / "scores.json")
    assert not (stopped / "checkpoints").exists()

    capsys.readouterr()
    assert train_module.main(shlex.split(printed)[3:]) == 0
    assert capsys.readouterr().out == f"{stopped} is finished: there is nothing to go on with.\n"


def test_resume_before_the_first_checkpoint_starts_anew(tmp_path: Path, run: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text((run / "config.yaml").read_text())
    assert train_module.main(["--resume", "--output-dir", str(folder)]) == 0
    assert_same_model(run, folder)


def test_a_finished_run_is_not_overwritten(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert main(run, "--max-steps", "3") == 2
    assert f"--output-dir {run} holds a finished run" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_overwrite(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert main(folder, "--max-steps", "3", "--log-every", "1") == 0
    assert main(folder, "--max-steps", "2", "--log-every", "1", "--overwrite", model="beta_vae") == 0
    assert [row["step"] for row in metrics(folder)] == [1, 2]
    assert "model: beta_vae" in (folder / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "beta_tcvea", "--data", "dsprites_like"], "unknown model 'beta_tcvea': did you mean 'beta_tcvae'"),
        (["--model", "beta_vae", "--data", "dsprite"], "unknown data set 'dsprite': did you mean 'dsprites'"),
        (["--model", "beta_vae", *QUICK, "--batch-size", "1537"], "batch_size must be from 1 to the 1536 images"),
        (["--model", "beta_tcvae", *QUICK, "--alpha", "2"], "alpha and gamma must be 1 with kl='analytic'"),
        (["--model", "beta_vae", *QUICK, "--data-variant", "quik"], "did you mean 'quick'"),
    ],
)
def test_mistakes_exit_2_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert train_module.main([*arguments, "--output-dir", str(tmp_path / "run")]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(tmp_path / "file" / "run") == 2
    assert capsys.readouterr().err == f"train: {tmp_path / 'file' / 'run'}: Not a directory\n"


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "finish", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(folder, "--max-steps", "20", "--log-every", "8", "--checkpoint-every", "12") == 130
    newest = folder / "checkpoints" / "step-0000000020.safetensors"
    newest.write_bytes(newest.read_bytes()[:-9])
    capsys.readouterr()
    assert train_module.main(["--resume", "--output-dir", str(folder)]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"train: {newest} is damaged or no safetensors file: ")
    assert line.endswith("; going on from step-0000000012.safetensors, the one before")
    assert_same_model(run, folder)
    assert metrics(run) == metrics(folder)


def test_help_lists_models_data_sets_and_presets() -> None:
    narrow = {**os.environ, "COLUMNS": "40"}
    shown = subprocess.run(command("--help"), capture_output=True, text=True, timeout=60, env=narrow)
    assert shown.returncode == 0, shown.stderr
    words = set(shown.stdout.replace(",", " ").split())
    assert {*OBJECTIVES, *DATASETS, *PRESETS, *NETWORKS} <= words
    assert {"--model", "--data", "--preset", "--max-steps", "--resume", "--quick", "--optimizer", "--scale"} <= words
    assert {"--kl", "--beta"} <= words
    flat = " ".join(shown.stdout.split())
    for code in ExitCode:
        if code is not ExitCode.INCOMPLETE:
            assert f"{int(code)} {code.meaning}" in flat
    of_mlp = subprocess.run(command("--network", "mlp", "--help"), capture_output=True, text=True, timeout=60)
    assert "--width" in of_mlp.stdout
    assert "--base-channels" not in of_mlp.stdout


def test_a_bar_on_a_terminal(tmp_path: Path) -> None:
    parent, child = pty.openpty()
    call = command(
        "--model", "beta_vae", *QUICK, "--max-steps", "20", "--log-every", "5", "--output-dir", str(tmp_path / "a")
    )
    process = subprocess.Popen(call, stdout=child, stderr=child, env={**os.environ, "TERM": "xterm", "COLUMNS": "160"})
    os.close(child)
    seen = b""
    while True:
        try:
            part = os.read(parent, 4096)
        except OSError:  # Linux says EIO where the other end is closed
            break
        if not part:
            break
        seen += part
    os.close(parent)
    assert process.wait(timeout=60) == 0
    text = seen.decode()
    assert "step 20/20" in text
    assert "images/s" in text
    assert "reconstruction" in text
    assert "\x1b[" in text
