"""A study whose workers are killed and stopped at random: what is lost, torn or done twice.

:func:`disturbed` calls ``python -m studies.simulated_run``, and disturbs it, until every run is done; :func:`census`
counts.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from bench.pages import ROOT
from disentangle_ext._errors import MistakeError
from disentangle_ext.runs.config import read_yaml, resolve
from disentangle_ext.runs.folder import CONFIG, DONE, EVALUATION, LOCK, METRICS, SCORES, RunFolder
from disentangle_ext.study.plan import Study
from disentangle_ext.study.status import State, state_of
from studies.simulated_study import NOTES

__all__ = ["Census", "Disturbance", "Disturbed", "census", "disturbed", "two_nodes"]

_LONGEST_STOP = 1.0
"""The longest that a process stays stopped, in seconds."""

_STOPS = 0.25
"""The share of the disturbed workers that are stopped; the others are killed."""

_FILES = {CONFIG, METRICS, SCORES, EVALUATION, DONE}
_EVENTS = 4
"""Notes of a run that nobody disturbs."""

_POLL = 0.01
_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of <linux/prctl.h>."""


class Disturbance(NamedTuple):
    """How often processes are disturbed, at random times: for each run, so that a slow machine comes to an end, too."""

    workers: float
    """Workers that are killed or stopped. A stopped one is continued or killed later."""
    calls: float
    """How often the command itself is killed, which is then called again."""
    seed: int = 0


class Disturbed(NamedTuple):
    """How a study came to its end."""

    calls: int
    """Calls of the command."""
    calls_killed: int
    kills: int
    """Workers that were killed as they ran."""
    stops: int
    """Workers that were stopped."""
    stopped_kills: int
    """Stopped workers that were killed before they went on."""
    failed: int
    """Runs that were given up, having been killed three times, and tried again by ``--retry-failed``."""
    seconds: float


class Census(NamedTuple):
    """What is on disk at the end."""

    runs: int
    done: int
    torn: int
    """Runs with a file that is missing, does not parse or should not be there."""
    trained_twice: int
    """Runs that more than one process has trained to the end."""
    attempts: int
    """How often a process has begun on a run."""
    begun_again: int
    """Attempts that found an unfinished run, whose process had been cut off in the middle."""
    left_behind: int
    """Finished runs with a lock that nobody holds, or with a log, of a process that was killed at its end."""

    @property
    def lost(self) -> int:
        return self.runs - self.done

    @property
    def repeats(self) -> int:
        """Attempts beyond the first of each run."""
        return self.attempts - self.runs


def disturbed(folder: Path, disturbance: Disturbance, engine: Sequence[str], *, most_calls: int = 1000) -> Disturbed:
    """Call ``study run`` with fake work again and again until every run is done, and disturb it meanwhile.

    Args:
        folder: the folder of a study.
        disturbance: how it is disturbed.
        engine: the flags of the engine.
        most_calls: after so many the study is left as it is.
    """
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)  # workers that outlive their parents stay below this process
    begun = time.monotonic()
    study, failed = Study(folder), 0
    ends: list[int] = []
    saboteur = _Saboteur(disturbance, folder / NOTES)
    left: Counter[State] = Counter()
    with saboteur.at_work():
        while len(ends) < most_calls:
            retry = ["--retry-failed"] if ends and ends[-1] >= 0 and left[State.FAILED] else []
            failed += left[State.FAILED] if retry else 0
            ends.append(_call(folder, [*engine, *retry], saboteur))
            left = Counter(state_of(study.run_folder(run.name)) for run in study.runs)
            if left[State.DONE] == len(study.runs):
                break
    _reap(wait=True)
    killed = sum(code == -signal.SIGKILL for code in ends)
    counts = (saboteur.kills, saboteur.stops, saboteur.stopped_kills)
    return Disturbed(len(ends), killed, *counts, failed, time.monotonic() - begun)


def census(study: Study) -> Census:
    """Look at all that a study of fake runs has left."""
    events: dict[str, Counter[str]] = {run.name: Counter() for run in study.runs}
    for line in (study.folder / NOTES).read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):  # a part of a line, of a process that was killed
            run, event, _ = json.loads(line)
            events[run][event] += 1
    folders = [study.run_folder(run.name) for run in study.runs]
    again = sum(each["begun again"] for each in events.values())
    return Census(
        runs=len(folders),
        done=sum(state_of(folder) is State.DONE for folder in folders),
        torn=sum(map(is_torn, folders, (run.settings for run in study.runs))),
        trained_twice=sum(each["trained"] > 1 for each in events.values()),
        attempts=again + sum(each["begun"] for each in events.values()),
        begun_again=again,
        left_behind=sum(
            (folder.path / LOCK).exists() or study.log(run.name).exists() for folder, run in zip(folders, study.runs)
        ),
    )


def is_torn(folder: RunFolder, settings: dict[str, Any]) -> bool:
    """Whether the files of a finished fake run are others than it should have, or do not parse."""
    try:
        config = resolve(read_yaml(folder.path / CONFIG, source="study"), source="study")
        rows = [json.loads(line) for line in (folder.path / METRICS).read_text().splitlines()]
        for name in (SCORES, EVALUATION):
            json.loads((folder.path / name).read_text())
    except (OSError, ValueError, MistakeError):
        return True
    steps = [config.max_steps * quarter // 4 for quarter in (1, 2, 3, 4)]
    is_whole = config.plain() == settings and [row["step"] for row in rows] == steps
    return not is_whole or {path.name for path in folder.path.iterdir()} - {LOCK} != _FILES


@contextmanager
def two_nodes(folder: Path) -> Iterator[str]:
    """Start a Ray cluster of two nodes with a CPU each on this machine.

    Args:
        folder: takes the files of the cluster.

    Yields:
        Its address.
    """
    from ray.cluster_utils import Cluster

    # By itself Ray lets workers wait for all else that the machine does.
    os.environ.update({"RAY_TMPDIR": str(folder), "RAY_worker_niceness": "0"})
    memory: dict[str, Any] = {"object_store_memory": 80 << 20, "num_cpus": 1}
    cluster = Cluster(initialize_head=True, head_node_args={**memory, "include_dashboard": False})
    try:
        cluster.add_node(**memory)
        yield cluster.address
    finally:
        cluster.shutdown()


class _Process(NamedTuple):
    """A process below this one."""

    pid: int
    parent: int
    group: int
    command: str


class _Saboteur:
    """Kills and stops the workers of a study at random.

    Args:
        disturbance: how often.
        notes: the file of notes, which tells how far the study is.
    """

    def __init__(self, disturbance: Disturbance, notes: Path) -> None:
        self.kills = self.stops = self.stopped_kills = 0
        self.call: subprocess.Popen[bytes] | None = None
        """The call of the command that is at work."""
        self._rates = disturbance
        self._notes = notes
        self._chance = random.Random(disturbance.seed)
        self._stopped: list[tuple[float, int]] = []
        """When they go on or are killed, and the descriptors of the processes."""
        self._is_over = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        thread = threading.Thread(target=self._disturb)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()

    def _disturb(self) -> None:
        both = self._rates.workers + self._rates.calls
        turn = self._chance.expovariate(both)
        for runs in self._progress():
            self._go_on(time.monotonic())
            if runs < turn:
                continue
            turn = runs + self._chance.expovariate(both)
            if self._chance.random() < self._rates.calls / both:
                if self.call is not None:
                    self.call.kill()
            elif victim := self._open_worker():
                self._harm(victim)
        self._go_on(float("inf"))

    def _progress(self) -> Iterator[float]:
        """How many runs are finished, by the notes, until the study is over."""
        while not self._notes.exists():
            if self._is_over.wait(_POLL):
                return
        events = 0
        with open(self._notes, "rb") as notes:
            while not self._is_over.wait(_POLL):
                events += notes.read().count(b"]")  # the end of a note
                yield events / _EVENTS

    def _open_worker(self) -> int | None:
        """A descriptor of a worker, which stays that process whatever becomes of its number."""
        workers = [each for each in _below() if _is_worker(each)]
        if not workers:
            return None
        chosen = self._chance.choice(workers).pid
        try:
            descriptor = os.pidfd_open(chosen)
        except ProcessLookupError:
            return None
        if any(each.pid == chosen for each in _below()):
            return descriptor
        os.close(descriptor)
        return None

    def _harm(self, worker: int) -> None:
        is_stop = self._chance.random() < _STOPS
        later = time.monotonic() + self._chance.uniform(0, _LONGEST_STOP)
        if not _send(worker, signal.SIGSTOP if is_stop else signal.SIGKILL):
            os.close(worker)
        elif is_stop:
            self.stops += 1
            self._stopped.append((later, worker))
        else:
            self.kills += 1
            os.close(worker)

    def _go_on(self, now: float) -> None:
        """Let the stopped processes go on whose time has come, or kill them."""
        for each in [each for each in self._stopped if each[0] <= now]:
            self._stopped.remove(each)
            is_kill = self._chance.random() < 0.5
            if _send(each[1], signal.SIGKILL if is_kill else signal.SIGCONT):
                self.stopped_kills += is_kill
            os.close(each[1])


def _send(descriptor: int, number: signal.Signals) -> bool:
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    return True


def _below() -> list[_Process]:
    """The processes below this one."""
    found: dict[int, _Process] = {}
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError, IndexError):  # it has ended
            _, _, rest = Path(f"/proc/{entry}/stat").read_text().rpartition(") ")
            command = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found[int(entry)] = _Process(int(entry), int(rest.split()[1]), int(rest.split()[2]), command)
    below, own = [], {os.getpid()}
    for each in found.values():
        line = each
        while line.parent in found and line.pid not in own:
            line = found[line.parent]
        if line.pid in own and each.pid not in own:
            below.append(each)
    return below


def _is_worker(process: _Process) -> bool:
    """Whether it works on a run: a task of Ray, or a child of the server that the local engine forks from."""
    name = process.command.removeprefix("ray::").strip()
    if name != process.command.strip() and (name == "IDLE" or "-seed-" in name):  # not an agent of the node
        return True
    # A worker leads a group of its own, before it takes up its task; the server is in that of the command.
    return "multiprocessing.forkserver" in process.command and process.group == process.pid


def _call(folder: Path, arguments: Sequence[str], saboteur: _Saboteur) -> int:
    command = [sys.executable, "-m", "studies.simulated_run", str(folder), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    with open(folder / "calls.log", "ab") as log:
        saboteur.call = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        return saboteur.call.wait()
    finally:
        _reap()


def _reap(*, wait: bool = False) -> None:
    """Take leave of workers that have outlived their command and ended."""
    end = time.monotonic() + (2 * _LONGEST_STOP if wait else 0)
    while True:
        orphans = [each for each in _below() if each.parent == os.getpid() and "multiprocessing" in each.command]
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not orphans or time.monotonic() >= end:
            return
        time.sleep(0.05)
