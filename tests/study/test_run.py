"""A study from its plan to its scores, by the command line and with workers that are killed on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from disentangle_ext._exit_codes import ExitCode
from disentangle_ext.runs.folder import MODEL
from disentangle_ext.study.__main__ import main
from disentangle_ext.study.engines import Work
from disentangle_ext.study.engines.local import Local
from disentangle_ext.study.execute import execute, tasks_of
from disentangle_ext.study.plan import Study
from tests.study import works
from tests.study.engines.studies import results

pytestmark = pytest.mark.forks

GRID = """
base: {data: digits, quick: true, max_steps: 60, log_every: 20, checkpoint_every: 20, network: mlp, width: 16}
grid: [{model: beta_vae, beta: [1, 4]}]
metrics: [mig, sap]
"""


def plan(folder: Path) -> Study:
    folder.mkdir()
    (folder / "grid.yaml").write_text(GRID)
    assert main(["plan", str(folder / "grid.yaml"), "--output-dir", str(folder / "study")]) == ExitCode.FINISHED
    return Study(folder / "study")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = plan(tmp_path_factory.mktemp("study") / "a")
    assert main(["run", str(study.folder), "--workers", "2"]) == ExitCode.FINISHED
    return study


def test_a_study_is_finished_and_a_second_call_has_nothing_to_do(
    finished: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    before = results(finished)
    assert [sorted(metrics) for metrics, _ in before.values()] == [["mig", "sap"]] * 2
    assert list((finished.folder / "logs").iterdir()) == []
    assert tasks_of(finished) == []
    assert main(["run", str(finished.folder)]) == ExitCode.FINISHED
    assert main(["status", str(finished.folder)]) == ExitCode.FINISHED
    assert "done             2" in capsys.readouterr().out
    assert results(finished) == before


@pytest.mark.parametrize("do", [works.trains_and_is_killed, works.trains_and_is_terminated])
def test_a_study_whose_workers_are_killed_has_the_same_scores(finished: Study, tmp_path: Path, do: Work) -> None:
    study = plan(tmp_path / "b")
    result = execute(study, Local(2), tasks_of(study), do=do)
    assert (result.finished, result.problems) == (2, {})
    assert len(list((study.folder / "runs").glob("*.disturbed"))) == 2
    assert results(study) == results(finished)


def test_score_adds_a_metric_and_trains_nothing(finished: Study, tmp_path: Path) -> None:
    before = results(finished)
    times = {run.name: (finished.run_folder(run.name).path / MODEL).stat().st_mtime_ns for run in finished.runs}
    assert main(["score", str(finished.folder), "--metrics", "modularity", "--workers", "2"]) == ExitCode.FINISHED
    after = results(finished)
    for name, (metrics, weights) in after.items():
        assert metrics.pop("modularity")["score"] is not None
        assert (metrics, weights) == before[name]
        assert (finished.run_folder(name).path / MODEL).stat().st_mtime_ns == times[name]
