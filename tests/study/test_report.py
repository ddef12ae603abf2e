"""The commands that make tables and pages of scores."""

from __future__ import annotations

import csv
import re
from contextlib import nullcontext
from pathlib import Path

import pyarrow.parquet
import pytest

from disentangle_ext.study.__main__ import main
from disentangle_ext.study.page.drawing import Drawn
from disentangle_ext.study.records import LONG_TABLE, query
from tests.study.faked import run, study


@pytest.fixture
def little_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page has tests of its own."""

    def write(folder: Path, runs: pyarrow.Table, records: pyarrow.Table, *, title: str) -> Path:
        (folder / "index.html").write_text(f"{title}: {runs.num_rows} runs, {records.num_rows} records")
        return folder / "index.html"

    monkeypatch.setattr("disentangle_ext.study.page.write_page", write)


def test_a_report_of_a_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(  # pictures take most of the time
        "disentangle_ext.study.page.write.drawing", lambda specs, folder: nullcontext(Drawn("window.vegaEmbed=0;"))
    )
    folder = study(tmp_path / "a").folder
    assert main(["report", str(folder)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "digits: mean, standard deviation and median of n runs" in printed.out
    rows = list(csv.DictReader((folder / "report" / "tables" / "summary.csv").read_text().splitlines()))
    table = query(folder, LONG_TABLE)
    metrics = set(table.column("metric").to_pylist())
    assert len(rows) == 4 * len(metrics)
    (mig,) = (row for row in rows if row["metric"] == "mig" and row["value"] == "4")
    values = [row["score"] for row in table.to_pylist() if row["metric"] == "mig" and row["value"] == "4"]
    assert float(mig["mean"]) == pytest.approx(sum(values) / 2)
    assert re.search(rf"beta_vae beta=4 +2  {sum(values) / 2:.3f}", printed.out)
    assert r"\toprule" in (folder / "report" / "tables" / "summary.tex").read_text()
    page = (folder / "report" / "index.html").read_text()
    assert "<title>study" in page
    assert set(pyarrow.parquet.read_table(folder / "runs.parquet").column("state").to_pylist()) == {"done"}
    for name in ("summary.csv", "summary.tex", "index.html"):
        assert name in printed.out


def test_a_report_of_a_study_that_is_not_finished_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], little_page: None
) -> None:
    planned = study(tmp_path / "a", finished=5)
    planned.run_folder(planned.runs[6].name).path.mkdir()
    planned.run_folder(planned.runs[6].name).start("model: vae\n")
    planned.run_folder(planned.runs[6].name).fail("loss is nan")
    assert main(["collect", str(planned.folder)]) == 1
    assert "3 of 8 runs are not finished: 2 waiting, 1 failed" in capsys.readouterr().out
    assert main(["report", str(planned.folder), "--output-dir", str(tmp_path / "b")]) == 1
    assert "3 of 8 runs are not finished: 2 waiting, 1 failed" in capsys.readouterr().out
    assert (tmp_path / "b" / "index.html").read_text().startswith("study: 8 runs, ")
    assert not (planned.folder / "report").exists()
    assert query(tmp_path / "b", "FROM runs").num_rows == 8


@pytest.mark.parametrize("command", ["collect", "report"])
def test_a_study_without_a_finished_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    planned = study(tmp_path / "a", finished=0)
    assert main([command, str(planned.folder)]) == 2
    printed = capsys.readouterr()
    assert printed.err == f"study: none of the 8 runs in {planned.folder} is finished: 8 waiting\n"
    assert printed.out == ""
    assert not (planned.folder / "scores.parquet").exists()


def test_a_report_of_any_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str], little_page: None) -> None:
    for beta in (1, 4):
        for seed in (0, 1):
            score = {"mig": {"score": 0.1 * beta + 0.01 * seed}, "sap": {"score": 0.1}}
            run(tmp_path / "runs" / f"{beta}-{seed}", score, beta=beta, seed=seed)
    assert main(["report", str(tmp_path / "runs")]) == 0
    assert re.search("beta_vae beta=4 +2  0.405  0.007   0.405 ", capsys.readouterr().out)
    assert (tmp_path / "runs" / "report" / "index.html").is_file()
    assert main(["report", str(tmp_path / "runs")]) == 0  # what the first call has left is no run
    each = [str(path) for path in sorted((tmp_path / "runs").glob("*-*"))]
    assert main(["report", *each[:3], "--output-dir", str(tmp_path / "three")]) == 0
    assert query(tmp_path / "three", "FROM runs").num_rows == 3


def test_a_damaged_run_is_told_and_the_others_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        run(tmp_path / "runs" / str(seed), {"mig": {"score": 0.5}}, seed=seed)
    (tmp_path / "runs" / "1" / "evaluation.json").write_text('{"metrics"')
    assert main(["collect", str(tmp_path / "runs")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(tmp_path / "runs" / "1" / "evaluation.json") in error
    assert query(tmp_path / "runs", LONG_TABLE).column("score").to_pylist() == [0.5]


def test_runs_on_two_folders_of_images_are_not_taken_for_one_without_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cats", "dogs"):
        run(tmp_path / name, {"mig": {"score": 0.5}}, data="image_folder", data_path=str(tmp_path / name / "images"))
    paths = [str(tmp_path / name) for name in ("cats", "dogs")]
    assert main(["collect", *paths, "--output-dir", str(tmp_path / "both")]) == 1
    said = f"study: {paths[1]} and {paths[0]} differ in nothing but the path of their data: one is left out\n"
    assert capsys.readouterr().err == said
    assert main(["collect", paths[0], paths[0], "--output-dir", str(tmp_path / "one")]) == 0


MISTAKES = {
    "no such folder": (["nowhere"], "study: RUN must be a run folder or a folder of some, got nowhere"),
    "nothing in it": (["empty"], "study: RUN empty is no run folder, and has none in it"),
    "one run and no place": (["a"], "study: --output-dir is not given"),
    "several and no place": (["a", "empty"], "study: --output-dir is not given"),
    "no folder": ([], "study: the following arguments are required"),
}


@pytest.mark.parametrize("case", MISTAKES)
@pytest.mark.parametrize("command", ["collect", "report"])
def test_a_wrong_call_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    arguments, said = MISTAKES[case]
    assert main([command, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(said)
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
