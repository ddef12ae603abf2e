"""What becomes of a study's tasks, whatever happens to the processes that work on them."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from disentangle_ext._exit_codes import ExitCode
from disentangle_ext.runs.folder import FAILED
from disentangle_ext.study.engines import Ended, Work, log
from disentangle_ext.study.engines.local import Local
from disentangle_ext.study.execute import Result, execute, tasks_of
from disentangle_ext.study.grid import read_grid
from disentangle_ext.study.plan import Study, write_plan
from disentangle_ext.study.work import Task
from tests.study import works
from tests.study.engines.light import calls as calls_of

pytestmark = pytest.mark.forks

GRID = "grid: [{model: vae, data: digits}]\nseeds: 3\nmetrics: [mig]\n"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    (tmp_path / "grid.yaml").write_text(GRID)
    return write_plan(tmp_path / "study", read_grid(str(tmp_path / "grid.yaml")))


def call(study: Study, do: Work) -> tuple[Result, list[int]]:
    """Run a study; how it ended, and how often each task was begun."""
    tasks = tasks_of(study)
    return execute(study, Local(2), tasks, do=do), [calls_of(task) for task in tasks]


def test_every_task_is_done_once(study: Study) -> None:
    result, calls = call(study, works.finishes)
    assert (result.finished, result.code, calls) == (3, ExitCode.FINISHED, [1, 1, 1])


def test_workers_share_the_gpus_in_turn(study: Study) -> None:
    tasks = tasks_of(study)[:2]
    execute(study, Local(2, gpus=2), tasks, do=works.says_its_device)
    assert {path.name for task in tasks for path in Path(task.folder).glob("cuda*")} == {"cuda:0", "cuda:1"}


@pytest.mark.parametrize("do", [works.is_killed_once, works.is_stopped_once])
def test_a_task_that_is_cut_off_is_begun_again(study: Study, do: Work) -> None:
    result, calls = call(study, do)
    assert (result.finished, result.code, calls) == (3, ExitCode.FINISHED, [2, 2, 2])


def test_a_task_that_is_killed_again_and_again_is_given_up(study: Study) -> None:
    result, calls = call(study, works.is_always_killed)
    assert (result.finished, result.code, calls) == (0, ExitCode.INCOMPLETE, [3, 3, 3])
    for name, reason in result.problems.items():
        assert reason == ("killed by signal 9 3 times; the last lines of its log: step 40/60; out of memory, I think")
        assert study.run_folder(name).failure == reason
    assert tasks_of(study) == []
    assert len(tasks_of(study, retry_failed=True)) == 3
    assert len(tasks_of(study)) == 3


def test_a_run_that_was_killed_less_often_is_not_given_up(study: Study) -> None:
    class Killed:
        """An engine that is stopped before it begins the third attempt."""

        def run(self, work: Work, tasks: Sequence[Task], is_stopped: Callable[[], bool]) -> Iterator[Ended]:
            for task in tasks:
                Path(task.folder).mkdir(parents=True)
                yield Ended(task, -signal.SIGKILL, 2)

    result = execute(study, Killed(), tasks_of(study))
    assert set(result.problems.values()) == {
        "killed by signal 9 2 times; the last lines of its log: it printed nothing"
    }
    assert len(tasks_of(study)) == 3


def test_a_run_that_cannot_be_given_up_costs_no_other(study: Study) -> None:
    class Killed:
        """An engine whose first run is killed again and again, on a disk that is full then."""

        def run(self, work: Work, tasks: Sequence[Task], is_stopped: Callable[[], bool]) -> Iterator[Ended]:
            (Path(tasks[0].folder) / FAILED).mkdir(parents=True)
            yield Ended(tasks[0], -signal.SIGKILL, 3)
            yield Ended(tasks[1], ExitCode.FINISHED)

    result = execute(study, Killed(), tasks_of(study))
    assert (result.finished, len(result.problems), result.code) == (1, 1, ExitCode.INCOMPLETE)


def test_an_engine_that_cannot_write_a_log_goes_on(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    log(Task("a", str(tmp_path / "a"), str(tmp_path / "logs" / "a.log"), {}, ()), "the machine is gone")
    assert (tmp_path / "logs").read_text() == ""


def test_more_workers_than_tasks_take_no_memory(study: Study) -> None:
    assert list(Local(10**12, gpus=0).run(works.finishes, [], lambda: False)) == []


def test_a_run_that_is_at_work_elsewhere_is_left_to_the_other(study: Study) -> None:
    result, _ = call(study, works.is_at_work_elsewhere)
    assert (result.finished, result.elsewhere, result.problems, result.code) == (0, 3, {}, ExitCode.INCOMPLETE)
    assert len(tasks_of(study)) == 3


def test_a_mistake_of_ours_ends_one_run_alone(study: Study) -> None:
    result, calls = call(study, works.breaks)
    assert (result.code, calls) == (ExitCode.INCOMPLETE, [3, 3, 3])
    assert all(reason.startswith("broken 3 times") for reason in result.problems.values())


def test_a_full_disk_is_said_and_the_others_go_on(study: Study) -> None:
    result, calls = call(study, works.cannot_write)
    assert (result.code, calls) == (ExitCode.CANNOT_WRITE, [1, 1, 1])
    assert set(result.problems.values()) == {"study: cannot write here: No space left on device"}
    assert len(tasks_of(study)) == 3  # nothing is given up for it


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.STOPPED)]
)
def test_a_signal_asks_the_runs_at_work_to_stop_and_begins_no_other(
    study: Study, number: signal.Signals, code: ExitCode
) -> None:
    tasks = tasks_of(study)

    def send() -> None:
        wait_for(lambda: sum(map(calls_of, tasks)) == 2)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()
    result, calls = call(study, works.waits_to_be_stopped)
    assert (result.finished, result.problems, result.stopped_by, result.code) == (0, {}, number, code)
    assert calls == [1, 1, 0]


def test_a_task_says_where_its_run_is_to_a_worker_in_another_folder(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for task in tasks_of(Study(Path("study"))):
        assert task.folder == str(study.run_folder(task.name).path)
        assert task.log == str(study.log(task.name))


def test_a_signal_to_the_whole_group_leaves_the_server_of_the_processes(study: Study, tmp_path: Path) -> None:
    """As a terminal sends it, and ``timeout``."""
    answer = tmp_path / "answer"
    tasks = tasks_of(study)
    process = mp.get_context("spawn").Process(target=_run_in_a_group, args=(study, answer))
    process.start()
    wait_for(lambda: sum(map(calls_of, tasks)) == 2)
    os.killpg(process.pid or 0, signal.SIGTERM)
    process.join(60)
    assert answer.read_text() == "0 {} 75"


def _run_in_a_group(study: Study, answer: Path) -> None:
    os.setpgid(0, 0)
    result, _ = call(study, works.waits_to_be_stopped)
    answer.write_text(f"{result.finished} {result.problems} {int(result.code)}")


def test_a_result_for_a_task_of_another_study_is_none_of_ours(study: Study) -> None:
    left: list[Task] = tasks_of(study, ["nobody"])
    assert left == []
    assert execute(study, Local(1), left).code == ExitCode.FINISHED


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
