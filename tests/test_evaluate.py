"""``python -m disentangle_ext.evaluate`` on a run of a few steps."""

from __future__ import annotations

import errno
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import disentangle_ext
from disentangle_ext import evaluate, train
from disentangle_ext.metrics import exact_elbo, mig
from disentangle_ext.runs import codes
from disentangle_ext.runs.checkpoint import read_tensors, save_tensors
from disentangle_ext.runs.codes import scored_rows
from disentangle_ext.runs.folder import CODES, EVALUATION
from disentangle_ext.scoring.tables import TERMS

OPTIONS = ["--base-channels", "4", "--batch-size", "16", "--max-steps", "20", "--log-every", "20"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, small_run_once: object) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "a"
    quick = ["--model", "beta_tcvae", "--data", "dsprites_like", "--quick", *OPTIONS]
    assert train.main([*quick, "--output-dir", str(folder)]) == 0
    return folder


def written(run: Path) -> dict:
    return json.loads((run / "exact_elbo.json").read_text())


@pytest.mark.parametrize("batch_size", [None, 100])
def test_prints_and_writes_the_figures_of_the_saved_model(
    run: Path, batch_size: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "exact_elbo.json").unlink(missing_ok=True)
    chosen = [] if batch_size is None else ["--batch-size", str(batch_size)]
    assert evaluate.main([str(run), "--exact-elbo", "--queries", "500", "--seed", "3", *chosen]) == 0
    data = disentangle_ext.data.DSpritesLike(variant="quick")
    mu, logvar = disentangle_ext.load(run).encode(data.images(torch.arange(len(data))))
    expected = exact_elbo(mu, logvar, queries=500, batch_size=batch_size or 16, seed=3)
    found = written(run)
    assert found["settings"] == expected.settings
    assert found["settings"]["num_points"] == 1536
    for how, terms in (("exact", expected.exact), *expected.estimates.items()):
        for name, term in terms.items():
            assert found[how][name] == pytest.approx(term._asdict(), abs=1e-4), (how, name)
    out = capsys.readouterr().out
    lines = {line.split("  ")[1].strip(): line.split()[-6:] for line in out.splitlines() if line.startswith("  ")}
    for name, label in TERMS.items():
        numbers = [found["exact"][name]["mean"], found["exact"][name]["standard_error"]]
        numbers += [found[how][name][each] for how in ("mss", "mws") for each in ("mean", "sd")]
        assert lines[label] == [f"{number:.3f}" for number in numbers]
    assert "beta_tcvae on dsprites_like: 1,536 images, 6 latents" in out
    assert "exact: 500 queries against all images" in out
    assert f"100 minibatches of {batch_size or 16}," in out
    assert out.endswith(f"Written: {run / 'exact_elbo.json'}\n")


def command(run: Path) -> list[str]:
    return [sys.executable, "-m", "disentangle_ext.evaluate", str(run), "--exact-elbo"]


@pytest.mark.forks
def test_as_a_command_in_any_encoding(run: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command(run), capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "1,536 queries" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.forks
def test_bars_on_a_terminal(run: Path) -> None:
    (run / CODES).unlink(missing_ok=True)  # so that there is something to encode
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(command(run), stdout=subprocess.DEVNULL, stderr=child, env=environment)
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
    images, queries = seen.decode().splitlines()[-3:-1]
    for line, task in ((images, "images"), (queries, "queries")):
        assert task in line
        assert "1536/1536" in line


def test_training_anew_removes_the_figures_of_the_old_model(tmp_path: Path) -> None:
    call = ["--model", "beta_vae", "--data", "dsprites_like", "--quick", *OPTIONS, "--output-dir", str(tmp_path / "a")]
    assert train.main(call) == 0
    assert evaluate.main([str(tmp_path / "a"), "--exact-elbo"]) == 0
    assert written(tmp_path / "a")["settings"]["batch_size"] == 16
    assert train.main([*call, "--overwrite"]) == 0
    assert not (tmp_path / "a" / "exact_elbo.json").exists()


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        ([], ["--exact-elbo"], "does not exist"),
        (["note"], ["--exact-elbo"], "is no run folder"),
        (["config.yaml"], ["--exact-elbo"], "the run is not finished"),
        (["config.yaml"], [], "the run is not finished"),
    ],
)
def test_folders_that_cannot_be_evaluated(
    tmp_path: Path, make: list[str], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    for name in make:
        folder.mkdir()
        (folder / name).touch()
    assert evaluate.main([str(folder), *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith(f"evaluate: RUN {folder} ")
    assert err.count("\n") == 1
    assert sorted(folder.glob("*")) == [folder / name for name in make]


def test_a_model_without_its_configuration(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    for given in (tmp_path, tmp_path / "model.safetensors"):
        assert evaluate.main([str(given), "--exact-elbo"]) == 2
        assert capsys.readouterr().err == (
            f"evaluate: RUN must be a folder with a config.yaml, which names the data set, got {given}\n"
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--queries", "1"], "evaluate: --queries must be at least 2, got 1"),
        (
            ["--batch-size", "1537"],
            "evaluate: --batch-size must be from 2 to the 1536 images of the data set, got 1537",
        ),
        (["--batch-size", "0"], "evaluate: --batch-size must be from 2 to the 1536 images of the data set, got 0"),
    ],
)
def test_numbers_out_of_range(
    run: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([str(run), "--exact-elbo", *arguments]) == 2
    assert capsys.readouterr().err == f"{message}\n"


def test_an_interrupt_and_a_file_that_cannot_be_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("exact_elbo.json"))
    (tmp_path / "run" / "exact_elbo.json").mkdir()
    assert evaluate.main([str(tmp_path / "run"), "--exact-elbo"]) == 2
    captured = capsys.readouterr()
    path = tmp_path / "run" / "exact_elbo.json"
    said = f"evaluate: cannot write {path}: Is a directory; --output FILE.json writes into another folder\n"
    assert captured.err == said
    assert "total correlation" in captured.out

    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "exact_elbo", interrupted)
    assert evaluate.main([str(run), "--exact-elbo"]) == 130
    assert capsys.readouterr().err == "evaluate: interrupted\n"


def test_scores_a_run_as_the_metrics_do(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / CODES).unlink(missing_ok=True)
    assert evaluate.main([str(run), "--metrics", "mig", "--points", "700", "--seed", "5", "--bootstrap", "4"]) == 0
    out = capsys.readouterr().out
    found = json.loads((run / EVALUATION).read_text())["metrics"]["mig"]
    data = disentangle_ext.data.DSpritesLike(variant="quick")
    rows = scored_rows(len(data), 5, 700)
    mu, _ = disentangle_ext.load(run).encode(data.batch(rows))
    expected = mig(mu, data.factors(rows), factor_names=data.factor_names, bootstrap=4, seed=5)
    assert found["score"] == pytest.approx(expected.score, abs=2e-3)  # a mean at an edge may fall into the next bin
    assert found["settings"]["num_points"] == 700
    assert found["interval"]["resamples"] == 4
    assert "beta_tcvae on dsprites_like: 700 images, 6 latents" in out
    assert f"{found['score']:.3f}" in out


def test_codes_are_encoded_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / CODES).unlink(missing_ok=True)
    assert evaluate.main([str(run), "--exact-elbo", "--metrics", "mig", "--queries", "100"]) == 0
    first = json.loads((run / EVALUATION).read_text())["metrics"]["mig"]["score"]

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(codes, "encode_rows", refuse)
    assert evaluate.main([str(run), "--metrics", "mig"]) == 0
    assert json.loads((run / EVALUATION).read_text())["metrics"]["mig"]["score"] == first
    assert evaluate.main([str(run), "--metrics", "mig", "--points", "100", "--seed", "1"]) == 0  # some of them


@pytest.mark.parametrize("damage", ["cut", "other model"])
def test_codes_of_another_model_or_damaged_ones_are_encoded_anew(run: Path, tmp_path: Path, damage: str) -> None:
    assert evaluate.main([str(run), "--metrics", "mig"]) == 0
    shutil.copytree(run, tmp_path / "run")
    kept = tmp_path / "run" / CODES
    whole = kept.read_bytes()
    if damage == "cut":
        kept.write_bytes(whole[:100])
    else:
        tensors, header = read_tensors(kept)
        save_tensors(kept, {**tensors, "mu": torch.zeros_like(tensors["mu"])}, {**header, "model": "0" * 64})
    assert evaluate.main([str(tmp_path / "run"), "--metrics", "mig"]) == 0
    assert torch.equal(read_tensors(kept)[0]["mu"], read_tensors(run / CODES)[0]["mu"])


@pytest.fixture
def read_only(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in a folder that nothing can be written to, not even by root, whom permissions do not stop."""
    folder, opened = Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns(CODES))), os.open

    def refuse(path: str | Path, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR) and folder in Path(path).parents:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    return folder


def test_a_run_that_cannot_be_written_is_scored_into_another_folder(
    run: Path, read_only: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(read_only.iterdir())
    output = tmp_path / "scores.json"
    options = ["--metrics", "mig", "--exact-elbo", "--queries", "100"]
    assert evaluate.main([str(read_only), "--output", str(output), *options]) == 0
    said = f"evaluate: the codes are not kept: cannot write {read_only / CODES}: Read-only file system\n"
    assert capsys.readouterr().err == said
    assert sorted(read_only.iterdir()) == before
    assert evaluate.main([str(run), *options]) == 0
    here, there = (json.loads(each.read_text())["metrics"]["mig"] for each in (output, run / EVALUATION))
    assert here["score"] == there["score"]
    beside = json.loads((tmp_path / "scores_exact_elbo.json").read_text())
    assert beside == {**written(run), "run": str(read_only)}


def test_two_runs_that_are_evaluated_into_one_folder_keep_their_files_apart(run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "b"))
    into = tmp_path / "all"
    into.mkdir()
    for each in (run, other):
        call = ["--exact-elbo", "--queries", "100", "--metrics", "active_units"]
        assert evaluate.main([str(each), *call, "--output", str(into / f"{each.name}.json")]) == 0
    names = ["a.json", "a_exact_elbo.json", "b.json", "b_exact_elbo.json"]
    assert sorted(path.name for path in into.iterdir()) == names
    a, exact_a, b, exact_b = (json.loads((into / name).read_text()) for name in names)
    assert exact_a["run"] == a["metrics"]["active_units"]["run"] == str(run)
    assert exact_b["run"] == b["metrics"]["active_units"]["run"] == str(other)
    title = "beta_tcvae on dsprites_like: 1,536 images, 6 latents"
    assert exact_a["of"] == a["metrics"]["active_units"]["of"] == title


def test_a_run_that_cannot_be_written_is_not_scored_into_itself(
    read_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for output in ([], ["--output", str(read_only / "mine.json")]):
        assert evaluate.main([str(read_only), "--metrics", "mig", *output]) == 74
        said = f"evaluate: cannot write {read_only / CODES}: Read-only file system"
        assert capsys.readouterr().err == f"{said}; --output FILE.json writes into another folder\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--metrics", "mgi"], "evaluate: unknown --metrics 'mgi': did you mean 'mig'?"),
        (["RUN", "--cyclic", "x"], "evaluate: --cyclic is for codes without a RUN"),
        (["RUN", "--bootstrap", "1"], "evaluate: --bootstrap must be 0, or 2 at least, got 1"),
        (["RUN", "--seed", "-1"], "evaluate: --seed must be at least 0, got -1"),
        (["RUN", "--seed", str(1 << 63)], "evaluate: --seed must be below 2^63, got 9223372036854775808"),
        (["RUN", "--output", "CODES"], "evaluate: --output must be a new file, or one that evaluate has written, got "),
        (["RUN", "--metrics", "mig,dci"], "evaluate: --metrics takes names with spaces between them, got 'mig,dci'"),
        (["RUN", "--output", "NOWHERE"], "evaluate: --output must be in a folder that exists, got "),
        (["RUN", "--exact-elbo", "--output", "FOLDER"], "evaluate: --output must be a file, as "),
        (["RUN", "--codes", "CODES"], "evaluate: --codes is for codes without a RUN"),
        (["RUN", "--points", "1"], "evaluate: --points must be at least 2, got 1"),
    ],
)
def test_calls_that_cannot_be_scored(
    run: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "codes.npy", np.zeros((3, 2)))
    names = {"RUN": run, "CODES": tmp_path / "codes.npy", "NOWHERE": tmp_path / "none" / "scores.json"}
    names["FOLDER"] = tmp_path
    assert evaluate.main([str(names.get(each, each)) for each in arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_symmetries_are_scored_where_all_factors_are_said_to_be_cyclic(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = disentangle_ext.data.TorusLike(factors=2, classes=6)
    rows = torch.arange(len(data))
    np.save(tmp_path / "codes.npy", data.exact_code(rows).numpy())
    np.save(tmp_path / "factors.npy", data.factors(rows).numpy())
    given = ["--codes", str(tmp_path / "codes.npy"), "--factors", str(tmp_path / "factors.npy"), "--metrics", "lsbd"]
    assert evaluate.main([*given, "--cyclic", "factor_0"]) == 1
    assert "without a period: factor_1" in " ".join(capsys.readouterr().out.split())
    output = tmp_path / "scores.json"
    assert evaluate.main([*given, "--cyclic", "factor_0", "factor_1", "--output", str(output)]) == 0
    assert json.loads(output.read_text())["metrics"]["lsbd"]["score"] == pytest.approx(1, abs=1e-9)
    assert evaluate.main([str(run), "--metrics", "lsbd", "--points", "100", "--output", str(output)]) == 1
    reason = json.loads(output.read_text())["metrics"]["lsbd"]["reason"]
    assert reason == "lsbd: factors must be on a circle, got some without a period: scale, position_x, position_y"


def test_flags_that_do_not_parse(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["a", "--exact-elbow"]) == 2
    said = "evaluate: unknown option '--exact-elbow': did you mean '--exact-elbo'? known: --batch-size, --bootstrap, "
    assert capsys.readouterr().err.startswith(said)
    assert evaluate.main(["a", "b"]) == 2
    assert capsys.readouterr().err == "evaluate: unexpected argument 'b'\n"
    assert evaluate.main(["a", "--seed", "one"]) == 2
    assert capsys.readouterr().err == "evaluate: argument --seed: invalid int value: 'one'\n"
