"""A study whose workers and calls are killed and stopped at random, and the eyes that count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from disentangle_ext.study.execute import tasks_of
from disentangle_ext.study.plan import Study
from studies.sabotage import Disturbance, _Saboteur, census, is_torn
from studies.simulated_study import NOTES, noted_work
from tests.study.faked import study

GRID = """
base: {data: digits, max_steps: 40}
grid: [{model: beta_vae, beta: [1, 16, 4]}, {model: vae}]
seeds: 15
metrics: [mig, sap, downstream]
"""


@pytest.mark.forks
def test_a_study_that_is_disturbed_loses_nothing_and_does_nothing_twice(tmp_path: Path, root: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GRID)
    arguments = [str(tmp_path / "study"), "--grid", str(tmp_path / "grid.yaml"), "--results", str(tmp_path)]
    command = [sys.executable, "-m", "studies.scale", "simulate", *arguments, "--workers", "0.5", "--calls", "0.03"]
    # In a process of its own, which takes in all that it has started.
    done = subprocess.run(command, cwd=root, env={**os.environ}, stdout=subprocess.PIPE, check=True, timeout=600)
    row = json.loads(done.stdout)
    assert (row["runs"], row["done"], row["torn"], row["trained_twice"]) == ("60", "60", "0", "0")
    assert int(row["kills"]) > 0
    assert int(row["attempts"]) >= 60
    assert census(Study(tmp_path / "study")).done == 60


@pytest.fixture
def finished(tmp_path: Path) -> Study:
    planned = study(tmp_path / "a", finished=0)
    for task in tasks_of(planned):
        assert noted_work(task) == 0
    return planned


def test_an_undisturbed_study_has_one_attempt_for_each_run(finished: Study) -> None:
    found = census(finished)
    assert found == (8, 8, 0, 0, 8, 0, 0)
    assert (found.lost, found.repeats) == (0, 0)


def _cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-20])


def _missing(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    "harm",
    [
        *map(_cut, ("config.yaml", "metrics.jsonl", "scores.json", "evaluation.json")),
        *map(_missing, ("config.yaml", "metrics.jsonl", "scores.json", "evaluation.json", "DONE")),
        lambda folder: (folder / ".evaluation.json.0.partial").touch(),
        lambda folder: (folder / "FAILED").touch(),
        lambda folder: (folder / "metrics.jsonl").write_bytes(2 * (folder / "metrics.jsonl").read_bytes()),
    ],
)
def test_a_torn_run_is_seen(finished: Study, harm: Callable[[Path], object]) -> None:
    run = finished.runs[0]
    folder = finished.run_folder(run.name)
    assert not is_torn(folder, run.settings)
    harm(folder.path)
    assert is_torn(folder, run.settings)
    assert census(finished).torn == 1


def test_what_is_lost_done_twice_or_left_behind_is_seen(finished: Study) -> None:
    lost, twice, left, again = finished.runs[:4]
    (finished.run_folder(lost.name).path / "DONE").unlink()
    (finished.run_folder(left.name).path / ".lock").touch()
    with (finished.folder / NOTES).open("a") as notes:
        notes.write(f'\n["{again.name}", "beg')  # a process was killed as it wrote
        for run, event in ((twice, "begun"), (twice, "trained"), (again, "begun again")):
            notes.write(f"\n{json.dumps([run.name, event, 1])}\n")
    found = census(finished)
    assert (found.lost, found.trained_twice, found.left_behind, found.begun_again, found.repeats) == (1, 1, 1, 1, 2)


def test_the_saboteur_sees_how_far_a_study_is_while_notes_are_added(finished: Study, tmp_path: Path) -> None:
    notes = tmp_path / NOTES
    notes.touch()
    progress = _Saboteur(Disturbance(1, 1), notes)._progress()
    seen = []
    for line in (finished.folder / NOTES).read_text().split("\n\n"):
        with notes.open("a") as file:
            file.write(f"\n{line.strip()}\n")
        seen.append(next(progress))
    assert seen == [(count + 1) / 4 for count in range(4 * 8)]


def test_work_on_a_run_that_is_half_done_is_noted_as_that(tmp_path: Path) -> None:
    planned = study(tmp_path / "a", finished=0)
    task = tasks_of(planned)[0]
    assert noted_work(task) == 0
    (Path(task.folder) / "evaluation.json").unlink()
    assert noted_work(task) == 0
    lines = (planned.folder / NOTES).read_text().split("\n")
    events = [json.loads(line)[1] for line in lines if line]
    assert events == ["begun", "halfway", "trained", "scored", "begun again", "scored"]
