"""A study whose runs take milliseconds.

:func:`fake_work` takes the place of :func:`disentangle_ext.study.work.work`: its run folders look trained and scored,
with scores that depend on objective, strength and seed, though nothing is trained. :mod:`studies.sabotage` lets it be
disturbed, and :mod:`studies.scale` measures the commands of a study with such runs.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from disentangle_ext._exit_codes import ExitCode
from disentangle_ext.runs.config import TrainConfig, resolve, to_yaml
from disentangle_ext.runs.folder import EVALUATION, SCORES, LockedError, RunFolder
from disentangle_ext.runs.presets import SWEEPS
from disentangle_ext.study.work import LOCKED, Task

__all__ = ["NOTES", "Cost", "cost_of", "fake_work", "noted_work", "quality"]

NOTES = "notes.jsonl"
"""The file in the folder of a study in which :func:`noted_work` notes what it has done."""

_PAUSE = 0.005
"""Seconds after each note, so that a process that is killed is as often in the middle of its work as at its start."""

FACTORS = ("shape", "scale", "orientation", "position_x", "position_y")
LABELS = (10, 100, 1000, 10_000)

_OBJECTIVES = {"annealed_vae": -0.3, "beta_tcvae": 0.8, "dip_vae_ii": 0.3, "factor_vae": 0.6}
_SEEDS = 0.5
"""Standard deviation of the quality over seeds."""


def fake_work(task: Task, note: Callable[[str], object] = lambda event: None) -> int:
    """Write what the work on a run would have left, as safely: under the folder's lock, each file the whole or nothing.

    Args:
        task: the run.
        note: called while the lock is held: with "begun", or "begun again" if another attempt has left an unfinished
            run; with "halfway"; with "trained" and "scored" after each of these, so that no work is noted that is not
            done.

    Returns:
        The exit code that :func:`disentangle_ext.study.work.work` would have.
    """
    folder, log = RunFolder(task.folder), Path(task.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()
    if folder.failure is not None:
        return ExitCode.NON_FINITE
    try:
        with folder.lock():
            config = resolve(task.settings, source="study")
            is_scored = folder.is_done and (folder.path / EVALUATION).is_file()
            note("begun again" if folder.is_run and not is_scored else "begun")
            if not folder.is_done:
                _train(folder, config, task.name, note)
                note("trained")
            elif not folder.is_tidy:
                folder.finish()
            if not is_scored:
                folder.write_json(EVALUATION, {"metrics": _evaluation(task.name, config, task.metrics)})
                note("scored")
    except LockedError:
        return LOCKED
    log.unlink(missing_ok=True)
    return ExitCode.FINISHED


def noted_work(task: Task) -> int:
    """Do :func:`fake_work`, and note every event in :data:`NOTES`: a line with the run, the event and the process."""
    notes = Path(task.log).parents[1] / NOTES

    def note(event: str) -> None:
        # One call, so that lines of several processes do not mix. It begins a line of its own, since a process that is
        # killed in the call may leave a part.
        descriptor = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.write(descriptor, f"\n{json.dumps([task.name, event, os.getpid()])}\n".encode())
        os.close(descriptor)
        time.sleep(_PAUSE)

    return fake_work(task, note)


def quality(config: TrainConfig, name: str) -> float:
    """How good a fake run is: the effects of its objective and of its strength, and the chance of its seed.

    Args:
        config: the run's configuration.
        name: its name.
    """
    sweep = SWEEPS.get(config.model)
    strength = 0.0
    if sweep:
        values = sweep[1]
        strength = math.log(max(config.objective_options[sweep[0]], 1e-9) / values[len(values) // 2])
    chance = float(_random(name, "quality").normal(scale=_SEEDS))
    return _OBJECTIVES.get(config.model, 0.0) + 0.4 * strength - 0.1 * strength**2 + chance


def _train(folder: RunFolder, config: TrainConfig, name: str, note: Callable[[str], object]) -> None:
    folder.clear()
    folder.start(to_yaml(config))
    good, rng = quality(config, name), _random(name, "training")
    for step in range(config.max_steps // 4, config.max_steps + 1, max(config.max_steps // 4, 1)):
        terms = {"reconstruction": 60 + 3 * good + rng.normal(), "kl": 20 - 2 * good + rng.normal()}
        folder.append_metrics({"step": step, "seconds": step / 1000, "lr": config.lr, "loss": 80.0, **terms})
    note("halfway")
    folder.write_json(SCORES, {"points": 10_000, "mig": _metric(name, "mig", good)})
    folder.finish()


def _evaluation(name: str, config: TrainConfig, metrics: Sequence[str]) -> dict[str, Any]:
    good = quality(config, name)
    return {metric: _metric(name, metric, good) for metric in metrics}


def _metric(name: str, metric: str, good: float) -> dict[str, Any]:
    """A score that goes with the quality but for its own noise; modularity does not, as in the study."""
    rng = _random(name, metric)
    score = 1 / (1 + math.exp(-(0.0 if metric == "modularity" else good) - 0.3 * rng.normal()))
    result = {
        "of": name,
        "score": score,
        "settings": {"num_points": 10_000, "shuffle": True, "seed": 0},
        "interval": None,
        "factor_names": list(FACTORS),
        "skipped": [],
        "by_factor": dict(zip(FACTORS, rng.random(len(FACTORS)).tolist())),
        "matrix": rng.random((10, len(FACTORS))).tolist(),
        "seconds": 0.1,
    }
    if metric == "downstream":
        shares = np.linspace(0.5, 1, len(LABELS))
        curve = np.clip(score * shares[:, None] + 0.02 * rng.normal(size=(len(LABELS), len(FACTORS))), 0, 1)
        result.update(train_sizes=list(LABELS), curve=curve.tolist(), score=float(curve[-1].mean()))
    return result


def _random(*words: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256("/".join(words).encode()).digest()[:8], "little"))


class Cost(NamedTuple):
    """What a command took."""

    seconds: float
    """By the clock."""
    cpu_seconds: float
    megabytes: float
    """The most memory that it held."""


def cost_of(command: Sequence[str]) -> Cost:
    """Run a command, and say what it took.

    Raises:
        CalledProcessError: if it ends with another code than 0.
    """
    # From a small process: Linux counts what the parent holds as the child's own peak.
    done = subprocess.run([sys.executable, "-c", _RUN, *command], stdout=subprocess.PIPE, check=True)
    return Cost(*json.loads(done.stdout))


_RUN = """
import json, os, subprocess, sys, time
begun = time.monotonic()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]))
sys.exit(os.waitstatus_to_exitcode(status))
"""
