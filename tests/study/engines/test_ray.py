"""Studies on a Ray cluster of two node processes on this machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from disentangle_ext._errors import MistakeError
from disentangle_ext._exit_codes import ExitCode
from disentangle_ext.runs.checkpoint import checkpoints_by_step
from disentangle_ext.study.engines import Ended
from disentangle_ext.study.engines.ray import Ray
from disentangle_ext.study.execute import execute, tasks_of
from disentangle_ext.study.work import work
from disentangle_ext.training.interrupt import SIGNALS, Interrupt
from tests.study import works
from tests.study.engines.light import behaves, calls, fakes
from tests.study.engines.studies import plan_tiny, results

pytestmark = pytest.mark.forks

cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray has no wheel for this Python")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two nodes with a CPU each, the second with a GPU that is none."""
    kept = {each: signal.getsignal(each) for each in SIGNALS}
    memory: dict[str, Any] = {"object_store_memory": 80 << 20, "num_cpus": 1}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={**memory, "include_dashboard": False})
    try:
        cluster.add_node(**memory, num_gpus=1)
        for each, handler in kept.items():
            signal.signal(each, handler)
        yield cluster.address
    finally:
        cluster.shutdown()


def run(address: str, folder: Path, *names: str, **options: Any) -> dict[str, Ended]:
    ended = list(Ray(address, **options).run(behaves, fakes(folder, *names), lambda: False))
    assert sorted(each.task.name for each in ended) == sorted(names)
    return {each.task.name: each for each in ended}


def test_every_end_of_the_work_is_told(address: str, tmp_path: Path) -> None:
    names = ("finishes", "killed-once", "stopped-once", "killed", "breaks", "full-disk")
    ended = run(address, tmp_path, *names)
    assert {name: (each.code, each.attempts, calls(each.task)) for name, each in ended.items()} == {
        "finishes": (ExitCode.FINISHED, 1, 1),
        "killed-once": (ExitCode.FINISHED, 2, 2),
        "stopped-once": (ExitCode.FINISHED, 1, 2),
        "killed": (-signal.SIGKILL, 3, 3),
        "breaks": (ExitCode.INCOMPLETE, 3, 3),
        "full-disk": (ExitCode.CANNOT_WRITE, 1, 1),
    }
    assert (tmp_path / "finishes" / "device").read_text() == "cpu"  # it was free to choose, and has no GPU
    assert Path(ended["killed"].task.log).read_text().count("The worker died unexpectedly") == 3
    assert "RuntimeError: a mistake of ours" in Path(ended["breaks"].task.log).read_text()


def test_a_stop_ends_what_is_at_work_and_begins_nothing(address: str, tmp_path: Path) -> None:
    tasks = fakes(tmp_path, *(f"waits-{number}" for number in range(5)))
    with Interrupt() as interrupt, interrupt.deferred():
        threading.Thread(target=_terminate_when, args=(lambda: sum(map(calls, tasks)) == 2,)).start()
        ended = list(Ray(address).run(behaves, tasks, lambda: interrupt.requested is not None))
    assert interrupt.requested == signal.SIGTERM
    assert [each.code for each in ended] == [ExitCode.STOPPED] * 2
    assert {each.task.name for each in ended} == {each.name for each in tasks if calls(each)}


def _terminate_when(is_time: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_time() and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_that_has_a_share_of_a_gpu_may_choose_its_device(address: str, tmp_path: Path) -> None:
    run(address, tmp_path, "a", gpus_per_run=0.5)
    assert (tmp_path / "a" / "device").read_text() == "auto"


def test_runs_that_no_machine_has_room_for_wait_and_it_is_said(
    address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert list(Ray(address).run(behaves, fakes(tmp_path, "a", threads=3), _second_time())) == []
    said = "study: no machine of the Ray cluster has 3 CPUs and 0 GPUs: runs wait until one comes"
    assert said in capfd.readouterr().err


def _second_time() -> Callable[[], bool]:
    """False while the tasks are handed out, then True."""
    answers = iter([False, False])
    return lambda: next(answers, True)


def test_a_study_of_which_a_worker_is_killed_has_the_same_scores_as_here(address: str, tmp_path: Path) -> None:
    study = plan_tiny(tmp_path / "ray")
    result = execute(study, Ray(address), tasks_of(study), do=works.trains_and_the_first_is_killed)
    assert (result.finished, result.problems) == (2, {})
    assert len(list((study.folder / "runs").glob("*.disturbed"))) == 1
    assert list((study.folder / "logs").iterdir()) == []
    here = plan_tiny(tmp_path / "here")
    assert [work(task) for task in tasks_of(here)] == [ExitCode.FINISHED] * 2
    assert results(study) == results(here)


def test_a_run_that_is_stopped_has_saved_and_goes_on(address: str, tmp_path: Path) -> None:
    study = plan_tiny(tmp_path, steps=10**7, every=10**7, seeds=1)
    folder = study.run_folder(study.runs[0].name)
    steps = []
    for _ in range(2):
        more = len(folder.read_metrics()) + 2
        ended = list(Ray(address).run(work, tasks_of(study), lambda more=more: len(folder.read_metrics()) >= more))
        assert [(each.code, each.attempts) for each in ended] == [(ExitCode.STOPPED, 1)]
        assert not folder.is_locked
        steps.append(max(checkpoints_by_step(folder.checkpoints)))
    assert 0 < steps[0] < steps[1]


@pytest.mark.parametrize("wrong", ["nowhere", "host:port", "127.0.0.1:1", "127.0.0.1:99999", "a.invalid:6379"])
def test_an_address_without_a_cluster_is_said_in_one_line(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(MistakeError, match=f"^study: --address .*{wrong}") as caught:
        list(Ray(wrong).run(behaves, fakes(tmp_path, "a"), lambda: False))
    assert "\n" not in str(caught.value)
