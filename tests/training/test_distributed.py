"""Training on several processes: the steps of one process, one run folder, and one word when it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import product
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.distributed import ProcessGroup

from disentangle_ext import train as train_module
from disentangle_ext._files import WriteError
from disentangle_ext.data import ArrayData
from disentangle_ext.engine.descent import Descent
from disentangle_ext.engine.device import choose_device
from disentangle_ext.engine.meter import NonFiniteLossError
from disentangle_ext.engine.ranks import Ranks
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.models import build_vae
from disentangle_ext.objectives import OBJECTIVES, AdversarialObjective, Objective
from disentangle_ext.runs.checkpoint import checkpoints_in, read_tensors
from disentangle_ext.runs.folder import RunFolder
from disentangle_ext.training import fit, torchrun
from tests.ops import ranks as parallel

# The first optimiser imports torch._dynamo, which takes seconds.
PRELOADED = ["disentangle_ext.train", "tests.ops.ranks", "torch._dynamo", "tyro"]

QUICK = ["--data", "dsprites_like", "--quick", "--base-channels", "4", "--batch-size", "16"]
FACTORS = list(product(range(2), range(4), range(5)))

# --------------------------------------------------------------------------------------------------------------------
# The trainer in float64, on every process of a group and beside it on one

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "ada_gvae": ("ada_gvae", {"changes": "random"}),
    "annealed_vae": ("annealed_vae", {"c_max": 5.0, "threshold": 3}),
    "beta_tcvae, mss": ("beta_tcvae", {"dataset_size": 40, "estimator": "mss", "kl": "decomposed"}),
    "beta_tcvae, mws": ("beta_tcvae", {"dataset_size": 40, "likelihood": "gaussian", "scale": "learned"}),
    "dcign": ("dcign", {"latent_dim": 3, "factor_names": ["factor_0", "factor_1", "factor_2"]}),
    "dip_vae_i": ("dip_vae_i", {}),
    "dip_vae_ii": ("dip_vae_ii", {}),
    "factor_vae": ("factor_vae", {"latent_dim": 3, "discriminator_layers": 2, "discriminator_width": 16}),
    "factor_vae, two batches": (
        "factor_vae",
        {"latent_dim": 3, "discriminator_layers": 2, "discriminator_width": 16, "second_batch": True},
    ),
    "info_vae": ("info_vae", {}),
    "ml_vae": ("ml_vae", {}),
    "wae_mmd": ("wae_mmd", {}),
}


class DoubleData(ArrayData):
    """In float64, where one image can be broken."""

    broken: int | None = None

    def batch(self, index: Tensor) -> Tensor:
        images = super().batch(index).double()
        if self.broken is not None:
            images[index == self.broken] = torch.inf
        return images


def make(case: str, group: ProcessGroup | None = None, *, batch_size: int = 8) -> Trainer:
    torch.manual_seed(3)
    model = build_vae("conv", (1, 32, 32), 3, base_channels=2).double()
    name, options = CASES[case]
    objective: Objective = OBJECTIVES[name](**options).double()
    data = DoubleData(torch.randint(256, (40, 1, 32, 32), dtype=torch.uint8), FACTORS)
    adversary = None
    if isinstance(objective, AdversarialObjective):
        adversary = Descent(torch.optim.Adam(objective.adversary_parameters(), 1e-3), lambda step: 1e-3)
    return Trainer(
        model,
        objective,
        data,
        optimizer=torch.optim.Adam([*model.parameters(), *objective.likelihood_parameters()]),
        learning_rate=lambda step: 1e-3,
        adversary=adversary,
        batch_size=batch_size,
        seed=1,
        process_group=group,
    )


def advance(trainer: Trainer, steps: int) -> dict[str, float]:
    for _ in range(steps):
        output = trainer.update()
    return trainer.read(output)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    own = {f"objective.{name}": weight for name, weight in trainer.objective.state_dict().items()}
    return {**trainer.model.state_dict(), **own}


def assert_same(ours: Trainer, theirs: Trainer, tolerance: float = 1e-9) -> None:
    assert ours.step == theirs.step
    for (name, own), other in zip(weights(ours).items(), weights(theirs).values(), strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}")


def as_one_process(case: str, group: ProcessGroup) -> None:
    """Three steps, a checkpoint that one process goes on from for two, and its checkpoint for the group again."""
    alone, together = make(case), make(case, group)
    before = {name: weight.clone() for name, weight in weights(alone).items()}
    expected = advance(alone, 3)
    assert min((weight - before[name]).abs().max() for name, weight in weights(alone).items()) > 1e-4, "nothing moves"
    # Terms are added up in float32.
    assert advance(together, 3) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert_same(together, alone)

    alone.update()
    together.update()
    saved, reference = together.checkpoint(), alone.checkpoint()
    assert saved.state == reference.state
    assert saved.tensors.keys() == reference.tensors.keys()
    for name, tensor in reference.tensors.items():
        torch.testing.assert_close(saved.tensors[name], tensor, rtol=1e-6, atol=1e-9)

    resumed = make(case)
    resumed.load(saved)
    expected = advance(alone, 2)
    assert advance(resumed, 2) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    again = make(case, group)
    again.load(resumed.checkpoint())
    alone.update()
    again.update()
    assert_same(again, alone)


class OneProcess(NamedTuple):
    """A check that can be sent to a process."""

    case: str

    def __call__(self, group: ProcessGroup) -> None:
        as_one_process(self.case, group)


def a_loss_that_is_not_finite_on_one_process(group: ProcessGroup) -> None:
    """Every process raises what one process would: of the step, the term and its value."""
    seen = []
    for trainer in (make("info_vae"), make("info_vae", group)):
        trainer.data.broken = int(trainer.order.index(2)[-1])  # type: ignore[attr-defined]
        with pytest.raises(NonFiniteLossError) as raised:
            advance(trainer, 5)
        seen.append((raised.value.step, raised.value.term, str(raised.value)))
    assert seen[0] == seen[1]
    assert seen[0][0] <= 2


def unequal_shares(group: ProcessGroup) -> None:
    world = dist.get_world_size(group)
    with pytest.raises(ValueError, match=f"^BetaTCVAE: batch_size must be divisible by {world} processes, got 7$"):
        make("beta_tcvae, mws", group, batch_size=7)
    expected = f"^AdaGVAE: batch_size must be divisible by {2 * world}: {world} processes, and pairs of images, got 6$"
    with pytest.raises(ValueError, match=expected):
        make("ada_gvae", group, batch_size=6)


CHECKS: dict[str, parallel.Check] = {
    **{case: OneProcess(case) for case in CASES},
    "not finite": a_loss_that_is_not_finite_on_one_process,
    "unequal shares": unequal_shares,
}


@pytest.fixture(scope="module", autouse=True)
def server() -> None:
    """What starts processes, before anyone else has it started with less."""
    mp.get_context("forkserver").set_forkserver_preload(PRELOADED)
    ensure_running()


@pytest.fixture(scope="module", params=parallel.WORLDS)
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return parallel.run(CHECKS, request.param, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", CHECKS)
def test_the_trainer_on_several_processes(name: str, outcome: dict[str, str]) -> None:
    assert not outcome[name], outcome[name]


def test_shards_are_contiguous_rows_of_each_half() -> None:
    ranks = Ranks()
    assert ranks.shard(torch.arange(8), 2).tolist() == list(range(8))
    ranks.group, ranks.world, ranks.rank = dist.GroupMember.WORLD or object(), 2, 1  # type: ignore[assignment]
    assert ranks.shard(torch.arange(8)).tolist() == [4, 5, 6, 7]
    assert ranks.shard(torch.arange(8), 2).tolist() == [2, 3, 6, 7]


def test_every_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto", 1) == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="there are 2 GPUs"):
        choose_device("cuda", 2)
    with pytest.raises(ValueError, match="each of several processes has a GPU of its own"):
        choose_device("cuda:1", 0)


# --------------------------------------------------------------------------------------------------------------------
# The command line: without torchrun, whose part the test plays, and with it


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
        self.files = [folder / f"{number}.txt" for number in range(world)]
        self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        context = mp.get_context("forkserver")
        self.processes: list[BaseProcess] = []
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
            process = context.Process(target=_main, args=(environment, self.files[rank], arguments, prepare))
            process.start()
            self.processes.append(process)

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + 60
        while text not in self.printed():
            assert time.monotonic() < end, f"{text!r} never came: {self.printed()}"
            time.sleep(0.01)

    def printed(self) -> str:
        return "".join(file.read_text() for file in self.files if file.exists())

    def codes(self) -> list[int | None]:
        for process in self.processes:
            process.join(60)
        codes = [process.exitcode for process in self.processes]
        self.end()
        return codes

    def end(self) -> None:
        for process in self.processes:
            process.kill()


def _main(environment: dict[str, str], file: Path, arguments: tuple[str, ...], prepare: Any) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    with open(file, "w", buffering=1) as stream:
        sys.stdout = sys.stderr = stream
        if prepare is not None:
            prepare(int(environment["RANK"]))
        try:
            code = train_module.main(list(arguments))
        except Exception:
            traceback.print_exc()
            code = 1
    # Not what a process of multiprocessing does at its end, but a program.
    sys.exit(code)


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
    os.kill(job.processes[0].pid or 0, signal.SIGTERM)
    assert job.codes() == [75], job.printed()
    assert "world_size was 2 and is 1: the run goes on, but not bit for bit" in job.printed()

    job = launch(4, "--resume", "--output-dir", str(folder))
    assert job.codes() == [0, 0, 0, 0], job.printed()
    assert [file.read_text() for file in job.files[1:]] == ["", "", ""], "only the first process speaks"
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
    while job.processes[1].is_alive():  # again and again, as launchers that have got one themselves pass it on
        os.kill(job.processes[1].pid or 0, signal.SIGTERM)
        time.sleep(0.02)
    assert job.codes() == [75, 75], job.printed()
    assert job.printed().count("Stopped after step") == job.printed().count("To go on") == 1
    step = int(job.printed().split("Stopped after step ")[1].split()[0])
    assert [path.name for path in checkpoints_in(folder / "checkpoints")] == [f"step-{step:010d}.safetensors"]


def test_the_loss_of_a_process_ends_the_others(tmp_path: Path, launch: Callable[..., Job]) -> None:
    """Of four, so that the first hears of it only as its neighbours give up."""
    folder = tmp_path / "run"
    every = ["--log-every", "5", "--checkpoint-every", "5"]
    job = launch(4, "--model", "vae", *QUICK, *every, "--output-dir", str(folder))
    job.wait_for("step 10/")
    job.processes[2].kill()
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
    os.kill(job.processes[1].pid or 0, signal.SIGSTOP)
    job.processes[0].join(30)
    assert job.processes[0].exitcode == 1, job.printed()
    assert "train: process 0 of 2 has lost the others" in job.printed()


@pytest.mark.parametrize("environment", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "two"}])
def test_an_environment_that_describes_no_group(environment: dict[str, str]) -> None:
    """In a process of its own: to be launched changes its signals."""
    command = [sys.executable, "-m", "disentangle_ext.train", "--model", "vae"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MASTER_")}
    finished = subprocess.run(
        command, env={**inherited, "RANK": "0", **environment}, capture_output=True, text=True, timeout=60
    )
    assert finished.returncode == 2
    assert finished.stderr.startswith("train: cannot join the other processes: ")
    assert finished.stderr.count("\n") == 1


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
    assert job.files[0].read_text().startswith(message)
    assert job.printed().count("\n") == 1, job.printed()
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_in_the_way(tmp_path: Path, launch: Callable[..., Job]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    job = launch(2, "--model", "vae", *QUICK, "--output-dir", str(tmp_path / "run"))
    assert job.codes() == [2, 2]
    assert job.printed().count("\n") == 1
    assert "must be a new or empty folder" in job.files[0].read_text()


def test_help_is_shown_once(tmp_path: Path, launch: Callable[..., Job]) -> None:
    job = launch(2, "--help")
    assert job.codes() == [0, 0]
    assert job.printed().count("--output-dir") >= 1
    assert job.files[1].read_text() == ""


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
        printed = job.files[rank].read_text()
        assert message in printed
        assert message or not printed, printed
    assert ("Traceback" in job.printed()) == (prepare is run_out_of_memory)


def test_a_loss_that_is_not_finite_exits_5(tmp_path: Path, launch: Callable[..., Job]) -> None:
    options = ["--lr", "1e20", "--log-every", "5"]
    job = launch(2, "--model", "beta_vae", *QUICK, *options, "--output-dir", str(tmp_path / "run"))
    assert job.codes() == [5, 5]
    assert job.printed().count("there is no checkpoint from before it") == 1
    assert job.files[1].read_text() == ""
