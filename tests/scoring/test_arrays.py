"""Codes of any model, without a run, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from disentangle_ext import evaluate
from disentangle_ext._errors import MistakeError
from disentangle_ext.metrics import IRSResult, mig
from disentangle_ext.metrics.suite import SUITE, Entry


@pytest.fixture
def arrays(tmp_path: Path) -> tuple[Path, Path]:
    """Codes that name three factors, beside two of noise."""
    rng = np.random.default_rng(0)
    factors = rng.integers(0, 4, (600, 3))
    np.save(tmp_path / "codes.npy", np.c_[factors + 0.05 * rng.normal(size=factors.shape), rng.normal(size=(600, 2))])
    np.save(tmp_path / "factors.npy", factors)
    return tmp_path / "codes.npy", tmp_path / "factors.npy"


def test_scores_the_codes_of_any_model(
    arrays: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--codes", str(arrays[0]), "--factors", str(arrays[1]), "--factor-names", "x", "y", "hue"]
    output = tmp_path / "scores.json"
    assert evaluate.main([*given, "--output", str(output), "--metrics", "mig"]) == 0
    found = json.loads(output.read_text())["metrics"]["mig"]
    expected = mig(np.load(arrays[0]), np.load(arrays[1]), factor_names=["x", "y", "hue"])
    assert found["score"] == expected.score > 0.9
    assert found["gaps"] == expected.as_dict()["gaps"]
    assert "codes.npy: 600 x 5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "evaluate: nothing is asked for: give a RUN, or --codes and --factors"),
        (["--codes", "CODES", "--exact-elbo"], "evaluate: --exact-elbo needs a RUN"),
        (["--codes", "CODES", "--metrics", "mig"], "evaluate: --metrics: mig needs factors, which is not given"),
        (
            ["--codes", "CODES", "--metrics", "udr"],
            "evaluate: --metrics: udr compares several models: call ",
        ),
        (["--codes", "CODES", "--metrics", "mgi"], "evaluate: unknown --metrics 'mgi': did you mean 'mig'?"),
        (["--codes", "CODES", "--factors", "FACTORS", "--factor-names", "x"], "evaluate: --factor-names must be 3"),
        (["--codes", "FACTORS", "--factors", "CODES"], "evaluate: --codes and --factors must be in this order"),
        (["--codes", "CODES", "--factors", "CODES"], "evaluate: --factors must hold whole numbers"),
        (["--codes", "ONE", "--factors", "FACTORS"], "evaluate: --codes must be [N, D]"),
        (["--codes", "CODES", "--factors", "ONE"], "got [3]: a single factor is a column, factors[:, None]"),
        (["--codes", "CODES", "--cyclic", "x"], "evaluate: --cyclic needs --factors"),
        (["--codes", "CODES", "--factors", "FACTORS", "--cyclic", "x"], "evaluate: unknown --cyclic 'x': known:"),
        (["--codes", "CODES", "--output", "LIST"], "evaluate: --output must be a new file, or one that evaluate has"),
        (["--codes", "OBJECTS"], "evaluate: --codes must be an array saved by numpy.save, without objects, got "),
        (["--codes", "ARCHIVE"], "evaluate: --codes must be an array saved by numpy.save, got an archive: "),
        (["--codes", "ABSENT"], "absent.npy does not exist"),
        (["--codes", "COMPLEX"], "evaluate: --codes must be real numbers, got complex128"),
        (["--codes", "NAN"], "evaluate: --codes must be finite, got nan at [0, 0]"),
        (
            ["--codes", "CODES", "--factors", "NAN", "--cyclic", "factor_0"],
            "evaluate: --factors must be finite, got nan",
        ),
        (
            ["--codes", "CODES", "--factors", "BELOW", "--cyclic", "factor_0"],
            "--cyclic factor_0 must have classes from 0",
        ),
        (["--codes", "CSV"], "evaluate: --codes must be an array saved by numpy.save, without objects, got "),
        (["--codes", "CODES", "--output", "FOLDER"], "scores.json, got the folder "),
    ],
)
def test_codes_that_cannot_be_scored(
    arrays: tuple[Path, Path],
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "archive.npz", a=np.zeros(3))
    names = {"CODES": arrays[0], "FACTORS": arrays[1], "ABSENT": tmp_path / "absent.npy"}
    (tmp_path / "list.json").write_text("[1]")
    np.save(tmp_path / "one.npy", np.zeros(3))
    names |= {"ONE": tmp_path / "one.npy", "LIST": tmp_path / "list.json"}
    for name, value in {"complex": 1j, "nan": np.nan, "below": -1}.items():
        np.save(tmp_path / f"{name}.npy", np.full((600, 2), value))
        names[name.upper()] = tmp_path / f"{name}.npy"
    (tmp_path / "codes.csv").write_text("0.5,1.5\n")
    names |= {"CSV": tmp_path / "codes.csv", "NOWHERE": tmp_path / "none" / "scores.json"}
    names |= {"OBJECTS": tmp_path / "objects.npy", "ARCHIVE": tmp_path / "archive.npz", "FOLDER": tmp_path}
    assert evaluate.main([str(names.get(each, each)) for each in arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "pickle" not in err
    assert err.count("\n") == 1


def test_scores_of_other_names_stay(arrays: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "scores.json"
    given = ["--codes", str(arrays[0]), "--factors", str(arrays[1]), "--output", str(output)]
    assert evaluate.main([*given, "--metrics", "mig", "active_units"]) == 0
    first = json.loads(output.read_text())["metrics"]
    assert evaluate.main([*given, "--metrics", "mig", "irs", "--bootstrap", "2"]) == 0
    second = json.loads(output.read_text())["metrics"]
    assert list(second) == ["mig", "active_units", "irs"]
    assert second["active_units"] == first["active_units"]
    assert second["active_units"]["of"] == "codes.npy: 600 x 5"
    assert first["mig"]["interval"] is None
    assert second["mig"]["interval"]["resamples"] == 2


def test_a_score_without_an_interval_says_why_where_one_is_asked_for(
    arrays: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    given = ["--codes", str(arrays[0]), "--factors", str(arrays[1]), "--output", str(tmp_path / "scores.json")]
    for chosen in (["mig", "irs"], ["irs"]):
        assert evaluate.main([*given, "--metrics", *chosen, "--bootstrap", "2"]) == 0
        *others, line = (each for each in capsys.readouterr().out.splitlines() if "no interval" in each)
        assert line.split()[0] == "irs"
        assert line.rstrip().endswith(f"no interval: {IRSResult.no_interval}")
        assert others == []
    assert json.loads((tmp_path / "scores.json").read_text())["metrics"]["irs"]["no_interval"] == IRSResult.no_interval
    assert evaluate.main([*given, "--metrics", "irs"]) == 0
    assert "interval" not in capsys.readouterr().out


def test_a_metric_that_fails_does_not_lose_the_others(
    arrays: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_score(codes: object, factors: object) -> None:
        raise MistakeError("no_score: factors must be [cyclic]")

    for module in ("scoring.command_line", "metrics.suite"):
        monkeypatch.setattr(f"disentangle_ext.{module}.SUITE", {"no_score": Entry(no_score), **SUITE})
    given = ["--codes", str(arrays[0]), "--factors", str(arrays[1]), "--output", str(tmp_path / "scores.json")]
    assert evaluate.main([*given, "--metrics", "no_score", "mig"]) == 1
    assert "no_score: factors must be [cyclic]" in capsys.readouterr().out
    found = json.loads((tmp_path / "scores.json").read_text())["metrics"]
    assert found["no_score"]["score"] is None
    assert found["no_score"]["reason"] == "no_score: factors must be [cyclic]"
    assert found["mig"]["score"] > 0.9


def test_a_bug_in_a_metric_keeps_its_traceback(arrays: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(codes: object, factors: object) -> None:
        raise ValueError("score_all: codes cannot be broadcast")  # as NumPy says it

    for module in ("scoring.command_line", "metrics.suite"):
        monkeypatch.setattr(f"disentangle_ext.{module}.SUITE", {"broken": Entry(broken), **SUITE})
    given = ["--codes", str(arrays[0]), "--factors", str(arrays[1])]
    with pytest.raises(ValueError, match="^score_all: codes cannot be broadcast$"):
        evaluate.main([*given, "--metrics", "broken", "mig"])
