"""Training on several processes: the steps of one process, one run folder, and one word when it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from disentangle_ext import train as train_module
from disentangle_ext._files import WriteError
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.runs.checkpoint import checkpoints_in, read_tensors
from disentangle_ext.runs.folder import RunFolder
from disentangle_ext.training import fit, torchrun
from tests.processes import Program

pytestmark = pytest.mark.forks

QUICK = ["--data", "dsprites_like", "--quick", "--base-channels", "4", "--batch-size", "16"]


def fail_to_load(rank: int) -> None:
    def load(*_: Any, **options: Any) -> Any:
        raise FileNotFoundError("train: no such file on this machine")

    if rank == 1:
        fit.load_data = load


def run_out_of_memory(rank: int) -> None:
    compute = Trainer.update

    def update(trainer: Trainer) -> Any:
        if rank == 1 and trainer.step == 3:
            raise RuntimeError("not enough memory")
        return compute(trainer)

    Trainer.update = update  # type: ignore[method-assign]


def fill_the_disk(rank: int) -> None:
    def append(folder: RunFolder, row: dict[str, Any]) -> None:
        raise WriteError(folder.path / "metrics.jsonl", OSError(28, "No space left on device"))

    RunFolder.append_metrics = append  # type: ignore[method-assign]


def wait_briefly(rank: int) -> None:
    torchrun.TIMEOUT = timedelta(seconds=3)


class Job:
    """Processes with the environment that torchrun gives them, and the store that it keeps for them."""

    def __init__(self, folder: Path, world: int, *arguments: str, prepare: Callable[[int], None] | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.programs = []
        for rank in range(world):
            environment = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(world),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(self._store.port),
                "TORCHELASTIC_USE_AGENT_STORE": "True",
                "TORCHELASTIC_RESTART_COUNT": "0",
            }
            first = None if prepare is None else partial(prepare, rank)
            file = folder / f"{rank}.txt"
            self.programs.append(Program(file, *arguments, environment=environment, prepare=first))

    def wait_for(self, text: str) -> None:
        """Wait until the first process, which alone speaks, has printed it."""
        self.programs[0].wait_for(text)

    def printed(self) -> str:
        return "".join(program.printed() for program in self.programs)

    def codes(self) -> list[int | None]:
        codes = [program.code() for program in self.programs]
        self.end()
        return codes

    def end(self) -> None:
        for program in self.programs:
            program.process.kill()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []

    def start(world: int, *arguments: str, **options: Any) -> Job:
        jobs.append(Job(tmp_path / f"output-{len(jobs)}", world, *arguments, **options))
        return jobs[-1]

    yield start
    for job in jobs:
        job.end()


def metrics(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


def start_torchrun(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    return subprocess.Popen(
        [*command, "disentangle_ext.train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )


def read_until(process: subprocess.Popen[str], start: str) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(start):
            break
    return lines


def test_a_run_goes_on_with_another_number_of_processes(
    tmp_path: Path, launch: Callable[..., Job], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes of torchrun until it is stopped, one until it is stopped, then four: as one from start to end."""
    whole, folder = tmp_path / "whole", tmp_path / "run"
    arguments = ["--model", "beta_tcvae", *QUICK, "--max-steps", "90", "--log-every", "10", "--threads", "1"]
    assert train_module.main([*arguments, "--output-dir", str(whole)]) == 0

    process = start_torchrun(*arguments, "--output-dir", str(folder))
    lines = read_until(process, "step 20/")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    printed = "".join(lines) + out
    assert printed.count("step 10/") == printed.count("step 20/") == 1
    assert "MIG" not in printed
    first = int(printed.split("Stopped after step ")[1].split(" of 90 by SIGTERM")[0])
    assert [path.name for path in checkpoints_in(folder / "checkpoints")] == [f"step-{first:010d}.safetensors"]

    job = launch(1, "--resume", "--output-dir", str(folder))
    job.wait_for(f"step {first // 10 * 10 + 20}/")
    job.programs[0].send(signal.SIGTERM)
    assert job.codes() == [75], job.printed()
    assert "world_size was 2 and is 1: the run goes on, but not bit for bit" in job.printed()

    job = launch(4, "--resume", "--output-dir", str(folder))
    assert job.codes() == [0, 0, 0, 0], job.printed()
    assert [program.printed() for program in job.programs[1:]] == ["", "", ""], "only the first process speaks"
    assert job.printed().count("step 90/90") == 1

    environment = json.loads((folder / "env.json").read_text())
    assert environment["world_size"] == 2
    assert [entry["world_size"] for entry in environment["resumed"]] == [1, 4]
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole.iterdir()}
    ours, theirs = metrics(folder), metrics(whole)
    assert [row["step"] for row in ours] == list(range(10, 91, 10))
    for own, other in zip(ours, theirs, strict=True):
        assert own == pytest.approx(other, rel=1e-4, abs=1e-3)
    first_weights, second_weights = (read_tensors(run / "model.safetensors")[0] for run in (folder, whole))
    for name, weight in second_weights.items():
        torch.testing.assert_close(first_weights[name], weight, rtol=0, atol=1e-4)


def test_a_signal_to_one_process_stops_all_after_the_same_step(tmp_path: Path, launch: Callable[..., Job]) -> None:
    folder = tmp_path / "run"
    model = ["--model", "factor_vae", *QUICK, "--discriminator-width", "16"]
    job = launch(2, *model, "--log-every", "1", "--output-dir", str(folder))
    job.wait_for("step 5/")
    while job.programs[1].process.is_alive():  # again and again, as launchers that have got one themselves pass it on
        job.programs[1].send(signal.SIGTERM)
        time.sleep(0.02)
    assert job.codes() == [75, 75], job.printed()
    assert job.printed().count("Stopped after step") == job.printed().count("To go on") == 1
    step = int(job.printed().split("Stopped after step ")[1].split()[0])
    assert [path.name for path in checkpoints_in(folder / "checkpoints")] == [f"step-{step:010d}.safetensors"]


def test_the_loss_of_a_process_ends_the_others(tmp_path: Path, launch: Callable[..., Job]) -> None:
    """The group has four processes, so that the first hears of the loss only as its neighbours give up."""
    folder = tmp_path / "run"
    every = ["--log-every", "5", "--checkpoint-every", "5"]
    job = launch(4, "--model", "vae", *QUICK, *every, "--output-dir", str(folder))
    job.wait_for("step 10/")
    job.programs[2].process.kill()
    assert job.codes() == [1, 1, -signal.SIGKILL, 1], job.printed()
    lines = [line for line in job.printed().splitlines() if not line.startswith("step ")]
    for rank in (0, 1, 3):
        (said,) = [line for line in lines if line.startswith(f"train: process {rank} of 4 has lost the others (")]
        assert said.endswith("--resume goes on from the last checkpoint")
    assert "Traceback" not in job.printed()
    assert checkpoints_in(folder / "checkpoints")


def test_a_process_that_falls_silent_is_waited_for_no_longer_than_the_time_limit(
    tmp_path: Path, launch: Callable[..., Job]
) -> None:
    every = ["--log-every", "5", "--output-dir", str(tmp_path / "run")]
    job = launch(2, "--model", "vae", *QUICK, *every, prepare=wait_briefly)
    job.wait_for("step 5/")
    job.programs[1].send(signal.SIGSTOP)
    assert job.programs[0].code() == 1, job.printed()
    assert "train: process 0 of 2 has lost the others" in job.printed()


@pytest.mark.parametrize(
    ("text", "is_lost"),
    [
        ("[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1", True),
        ("Application timeout caused pair closure", True),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_what_a_lost_connection_is_known_by(text: str, is_lost: bool) -> None:
    assert torchrun._is_of_connection(RuntimeError(text)) == is_lost
    assert not torchrun._is_of_connection(ValueError(text))


@pytest.mark.parametrize("environment", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "two"}])
def test_an_environment_that_describes_no_group(environment: dict[str, str], tmp_path: Path) -> None:
    """The program runs in a process of its own: to be launched changes its signals."""
    program = Program(tmp_path / "printed", "--model", "vae", environment={"RANK": "0", **environment})
    assert program.code() == 2
    assert program.printed().startswith("train: cannot join the other processes: ")
    assert program.printed().count("\n") == 1


def test_torchrun_ends_the_others_of_a_lost_process_which_is_no_orderly_stop(tmp_path: Path) -> None:
    process = start_torchrun("--model", "vae", *QUICK, "--log-every", "5", "--output-dir", str(tmp_path / "run"))
    read_until(process, "step 5/")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("this system does not list the children of a process")
    start = time.monotonic()
    os.kill(int(children.read_text().split()[1]), signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Signal 9 (SIGKILL) received by PID" in err
    assert "Stopped" not in out + err
    assert time.monotonic() - start < 45


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "vae", "--batch-size", "15"], "PlainVAE: batch_size must be divisible by 2 processes, got 15"),
        (["--model", "vae", "--stack", "2"], "train: --stack and --vary train in one process, not 2"),
        (["--model", "vea"], "train: unknown model 'vea': did you mean 'vae'?"),
    ],
)
def test_mistakes_are_said_once_and_leave_nothing(
    tmp_path: Path, launch: Callable[..., Job], arguments: list[str], message: str
) -> None:
    job = launch(2, *QUICK, *arguments, "--output-dir", str(tmp_path / "run"))
    assert job.codes() == [2, 2]
    assert job.programs[0].printed().startswith(message)
    assert job.printed().count("\n") == 1, job.printed()
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_in_the_way(tmp_path: Path, launch: Callable[..., Job]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    job = launch(2, "--model", "vae", *QUICK, "--output-dir", str(tmp_path / "run"))
    assert job.codes() == [2, 2]
    assert job.printed().count("\n") == 1
    assert "must be a new or empty folder" in job.programs[0].printed()


def test_help_is_shown_once(tmp_path: Path, launch: Callable[..., Job]) -> None:
    job = launch(2, "--help")
    assert job.codes() == [0, 0]
    assert job.printed().count("--output-dir") >= 1
    assert job.programs[1].printed() == ""


@pytest.mark.parametrize(
    ("prepare", "code", "messages"),
    [
        (fail_to_load, 2, {1: "train: no such file on this machine\n", 0: ""}),
        (fill_the_disk, 74, {1: "", 0: "No space left on device"}),
        (
            run_out_of_memory,
            1,
            {1: "RuntimeError: not enough memory\n", 0: "train: process 0 of 2 has lost the others ("},
        ),
    ],
)
def test_what_fails_on_one_process_ends_all(
    tmp_path: Path, launch: Callable[..., Job], prepare: Callable[[int], None], code: int, messages: dict[int, str]
) -> None:
    arguments = ["--model", "vae", *QUICK, "--log-every", "1", "--output-dir", str(tmp_path / "run")]
    job = launch(2, *arguments, prepare=prepare)
    assert job.codes() == [code, code], job.printed()
    for rank, message in messages.items():
        printed = job.programs[rank].printed()
        assert message in printed
        assert message or not printed, printed
    assert ("Traceback" in job.printed()) == (prepare is run_out_of_memory)


def test_a_loss_that_is_not_finite_exits_5(tmp_path: Path, launch: Callable[..., Job]) -> None:
    options = ["--lr", "1e20", "--log-every", "5"]
    job = launch(2, "--model", "beta_vae", *QUICK, *options, "--output-dir", str(tmp_path / "run"))
    assert job.codes() == [5, 5]
    assert job.printed().count("there is no checkpoint from before it") == 1
    assert " at step " in (tmp_path / "run" / "FAILED").read_text()
    assert job.programs[1].printed() == ""
