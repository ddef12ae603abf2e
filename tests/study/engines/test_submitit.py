"""Studies by submitit: processes that stand for jobs of SLURM, with the signals that SLURM sends."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from disentangle_ext._errors import MistakeError
from disentangle_ext._exit_codes import ExitCode
from disentangle_ext.study.engines.local import Local
from disentangle_ext.study.engines.submitit import Resources, Submitit
from disentangle_ext.study.execute import execute, tasks_of
from tests.study import works
from tests.study.engines.light import behaves, calls, fakes
from tests.study.engines.studies import plan_tiny, results

pytestmark = pytest.mark.forks


def local(folder: Path, *, block: int = 1) -> Submitit:
    return Submitit(folder / "jobs", cluster="local", block=block, resources=Resources(array_parallelism=1))


def test_a_job_that_is_killed_or_stopped_goes_on_with_its_block(tmp_path: Path) -> None:
    tasks = fakes(tmp_path, "finishes", "killed-once", "stopped-once")
    ended = list(local(tmp_path, block=3).run(behaves, tasks, lambda: False))
    assert [(each.task.name, each.code, each.attempts) for each in ended] == [
        ("finishes", ExitCode.FINISHED, 1),
        ("killed-once", ExitCode.FINISHED, 2),
        ("stopped-once", ExitCode.FINISHED, 1),
    ]
    assert [calls(each) for each in tasks] == [1, 2, 2]


def test_jobs_that_begin_no_run_are_given_up_and_it_is_said_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "disentangle_ext"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('not built for this machine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (ended,) = local(tmp_path).run(behaves, fakes(tmp_path, "a"), lambda: False)
    assert (ended.code, ended.attempts, calls(ended.task)) == (ExitCode.INCOMPLETE, 3, 0)
    assert "began no run: " in (said := Path(ended.task.log).read_text())
    assert "ImportError: not built for this machine" in said


def test_a_stop_ends_the_process_of_this_machine_and_begins_no_other(tmp_path: Path) -> None:
    tasks = fakes(tmp_path, "waits-1", "waits-2")
    ended = list(local(tmp_path).run(behaves, tasks, lambda: calls(tasks[0]) > 0))
    assert [(each.task.name, each.code) for each in ended] == [("waits-1", ExitCode.STOPPED)]
    assert [calls(each) for each in tasks] == [1, 0]


def test_a_run_whose_job_is_out_of_time_has_the_scores_of_the_local_engine(tmp_path: Path) -> None:
    study = plan_tiny(tmp_path / "submitit", seeds=1)
    result = execute(study, local(study.folder), tasks_of(study), do=works.trains_until_its_time_is_over)
    assert (result.finished, result.problems) == (1, {})
    (said,) = (study.folder / "jobs").glob("*_log.out")
    assert said.read_text().count("Requeued job") == 1
    other = plan_tiny(tmp_path / "local", seeds=1)
    assert execute(other, Local(1), tasks_of(other)).finished == 1
    assert results(study) == results(other)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Make the commands of SLURM, with what sbatch and sacct do; they run no job."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def make(sbatch: str, sacct: str) -> Path:
        for name, script in {"sbatch": sbatch, "sacct": sacct, "srun": "exit 1", "scontrol": "exit 1"}.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        return tmp_path / "jobs"

    return make


def _script(jobs: Path) -> tuple[dict[str, str], str]:
    """The options of sbatch in the script that was submitted, and what follows them."""
    (path,) = jobs.glob("*_submission.sh")
    text = path.read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text, flags=re.MULTILINE))
    return options, text.rpartition("#SBATCH")[2]


def test_the_script_for_slurm_asks_for_what_the_call_asks_for(
    slurm: Callable[[str, str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    jobs = slurm("echo Submitted batch job 123", "echo 'JobID|State|NodeList'")
    resources = Resources("gpu", 90, 1, 4, 7.5, 8, {"account": "vision", "exclusive": True})
    answers = iter([False, False])
    tasks = fakes(tmp_path, *(f"run-{number}" for number in range(7)))
    assert list(Submitit(jobs, block=3, resources=resources).run(behaves, tasks, lambda: next(answers, True))) == []
    options, commands = _script(jobs)
    assert options == {
        "account": "vision",
        "array": "0-2%3",
        "cpus-per-task": "4",
        "error": f"{jobs}/%A_%a_0_log.err",
        "exclusive": "",
        "gpus-per-node": "1",
        "job-name": "study",
        "mem": "7680MB",
        "nodes": "1",
        "open-mode": "append",
        "output": f"{jobs}/%A_%a_0_log.out",
        "partition": "gpu",
        "requeue": "",
        "signal": "USR1@120",
        "time": "90",
        "wckey": "submitit",
    }
    assert "export SUBMITIT_PREEMPT_SIGNAL=USR1\n" in commands
    assert re.search(r"^srun .* -m submitit.core._submit ", commands, flags=re.MULTILINE)
    assert "the jobs stay in the queue" in (said := capfd.readouterr().err)
    assert said.rstrip().endswith("cancel: scancel 123")


def test_a_run_takes_a_cpu_for_each_of_its_threads(slurm: Callable[[str, str], Path], tmp_path: Path) -> None:
    jobs = slurm("echo Submitted batch job 123", "echo 'JobID|State|NodeList'")
    answers = iter([False, False])
    list(Submitit(jobs).run(behaves, fakes(tmp_path, "a", threads=3), lambda: next(answers, True)))
    assert _script(jobs)[0]["cpus-per-task"] == "3"


def test_a_job_that_was_cancelled_is_not_submitted_again(slurm: Callable[[str, str], Path], tmp_path: Path) -> None:
    jobs = slurm(
        f"echo x >> {tmp_path}/calls; echo Submitted batch job 123",
        "printf 'JobID|State|NodeList\\n123|CANCELLED by 0|\\n'",
    )
    ended = list(Submitit(jobs).run(behaves, fakes(tmp_path, "a"), lambda: False))
    assert [(each.code, each.attempts) for each in ended] == [(-signal.SIGTERM, 1)]
    assert Path(ended[0].task.log).read_text() == "the job 123 was cancelled\n"
    assert (tmp_path / "calls").read_text() == "x\n"


def test_what_slurm_refuses_is_said_in_one_line(slurm: Callable[[str, str], Path], tmp_path: Path) -> None:
    jobs = slurm("echo 'sbatch: error: invalid partition specified: cpu' >&2; exit 1", "exit 1")
    with pytest.raises(MistakeError, match="^study: --engine submitit: .*invalid partition specified: cpu$") as caught:
        list(Submitit(jobs).run(behaves, fakes(tmp_path, "a"), lambda: False))
    assert "\n" not in str(caught.value)


def test_a_machine_without_slurm_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MistakeError, match='^study: --engine submitit: Could not detect "srun"'):
        list(Submitit(tmp_path / "jobs").run(behaves, fakes(tmp_path, "a"), lambda: False))
