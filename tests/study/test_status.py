"""How far a study is, and what its folder may hold beside a plan."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pyarrow.parquet
import pytest

from disentangle_ext._errors import MistakeError
from disentangle_ext.runs.folder import DONE, EVALUATION, LOCK
from disentangle_ext.study.__main__ import main
from disentangle_ext.study.execute import tasks_of
from disentangle_ext.study.grid import read_grid
from disentangle_ext.study.plan import PLAN, Study, write_plan
from disentangle_ext.study.status import State, state_of, status
from tests.study.faked import GRID, study


def test_the_rate_is_that_of_training_whatever_is_scored_since(tmp_path: Path) -> None:
    planned = study(tmp_path / "a", finished=6)
    now = time.time()
    for hours, run in enumerate(planned.runs[:6], 1):
        os.utime(planned.run_folder(run.name).path / DONE, (now - 3600 * hours,) * 2)
    found = status(planned)
    assert found.counts[State.DONE] == 6
    assert found.rate == pytest.approx(5 / 6, rel=1e-3)
    assert found.hours_left == pytest.approx(2 / (5 / 6), rel=1e-3)


@pytest.mark.parametrize(
    ("hours", "left"), [(0.001, "1 minute"), (0.049, "6 minutes"), (0.5, "1.0 hours"), (0.75, "1.5 hours")]
)
def test_less_than_an_hour_is_told_in_minutes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], hours: float, left: str
) -> None:
    planned = study(tmp_path / "a", finished=6)
    now = time.time()
    for run in planned.runs[:6]:  # 5 in that time, and 2 of the same kind left
        os.utime(planned.run_folder(run.name).path / DONE, (now - 3600 * 5 * hours,) * 2)
    main(["status", str(planned.folder)])
    assert f"runs an hour, {left} left\n" in capsys.readouterr().out


def test_a_run_whose_lock_may_not_be_opened_is_at_work(tmp_path: Path) -> None:
    planned = study(tmp_path / "a", finished=0)
    folder = planned.run_folder(planned.runs[0].name)
    (folder.path / LOCK).mkdir(parents=True)  # as of another user; root may open those
    assert state_of(folder) is State.RUNNING


def test_a_metric_that_the_plan_has_been_given_since_is_left_to_do(tmp_path: Path) -> None:
    planned = study(tmp_path / "a")
    assert tasks_of(planned) == []
    (tmp_path / "a" / "grid.yaml").write_text(GRID.replace("[mig,", "[irs, mig,"))
    write_plan(planned.folder, read_grid(str(tmp_path / "a" / "grid.yaml")))
    longer = Study(planned.folder)
    assert [task.metrics for task in tasks_of(longer)] == [("irs", "mig", "sap", "downstream")] * 8
    path = longer.run_folder(longer.runs[0].name).path / EVALUATION
    scores = json.loads(path.read_text())
    path.write_text(json.dumps({"metrics": {**scores["metrics"], "irs": {"score": None, "reason": "too few images"}}}))
    assert len(tasks_of(longer)) == 7


@pytest.mark.parametrize("command", ["status", "run", "collect"])
@pytest.mark.parametrize("absent", ["settings", "metrics"])
def test_a_plan_of_something_else_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, absent: str
) -> None:
    planned = study(tmp_path / "a", finished=1)
    plan = planned.plan.drop_columns(["settings"]) if absent == "settings" else planned.plan.replace_schema_metadata()
    pyarrow.parquet.write_table(plan, planned.folder / PLAN)
    assert main([command, str(planned.folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"study: {planned.folder / PLAN} lacks the ")
    assert absent in error
    assert error.count("\n") == 1


def test_a_plan_that_was_cut_off_while_it_was_written_is_written_again(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GRID)
    grid = read_grid(str(tmp_path / "grid.yaml"))
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / f".{PLAN}.0123.partial").touch()
    assert len(write_plan(tmp_path / "study", grid).runs) == 8
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(MistakeError, match="must be a new or empty folder"):
        write_plan(tmp_path / "other", grid)
