"""A study whose runs take milliseconds: seconds and MB of its commands; ``python -m studies.simulated_study FOLDER``.

:func:`fake_work` takes the place of :func:`disentangle_ext.study.work.work`: its run folders look trained and scored,
with scores that depend on objective, strength and seed, though nothing is trained.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from disentangle_ext._exit_codes import ExitCode
from disentangle_ext.runs.config import TrainConfig, resolve, to_yaml
from disentangle_ext.runs.folder import EVALUATION, SCORES, LockedError, RunFolder
from disentangle_ext.runs.presets import SWEEPS
from disentangle_ext.study.execute import tasks_of
from disentangle_ext.study.plan import Study
from disentangle_ext.study.records import RECORDS
from disentangle_ext.study.work import LOCKED, Task

__all__ = ["Cost", "cost_of", "fake_work", "quality"]

FACTORS = ("shape", "scale", "orientation", "position_x", "position_y")
LABELS = (10, 100, 1000, 10_000)

_OBJECTIVES = {"annealed_vae": -0.3, "beta_tcvae": 0.8, "dip_vae_ii": 0.3, "factor_vae": 0.6}
_SEEDS = 0.5
"""Standard deviation of the quality over seeds."""


def fake_work(task: Task) -> int:
    """Write what the work on a run would have left, as safely: under the folder's lock, each file the whole or nothing.

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
            if not folder.is_done:
                _train(folder, config, task.name)
            if not (folder.path / EVALUATION).is_file():
                folder.write_json(EVALUATION, {"metrics": _evaluation(task.name, config, task.metrics)})
    except LockedError:
        return LOCKED
    log.unlink(missing_ok=True)
    return ExitCode.FINISHED


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


def _train(folder: RunFolder, config: TrainConfig, name: str) -> None:
    folder.clear()
    folder.start(to_yaml(config))
    good, rng = quality(config, name), _random(name, "training")
    for step in range(config.max_steps // 4, config.max_steps + 1, max(config.max_steps // 4, 1)):
        terms = {"reconstruction": 60 + 3 * good + rng.normal(), "kl": 20 - 2 * good + rng.normal()}
        folder.append_metrics({"step": step, "seconds": step / 1000, "lr": config.lr, "loss": 80.0, **terms})
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

_JOIN = """
from pathlib import Path; import sys; from disentangle_ext.study.records import LONG_TABLE, query
print(query(Path(sys.argv[1]), LONG_TABLE).num_rows)"""


def main() -> None:
    """Plan a study, fake its runs, and print what its commands take."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--grid", default="locatello")
    request = parser.parse_args()
    study, folder = [sys.executable, "-m", "disentangle_ext.study"], str(request.folder)
    _say("plan", cost_of([*study, "plan", request.grid, "--output-dir", folder]))
    begun = time.monotonic()
    tasks = tasks_of(Study(request.folder))
    for task in tasks:
        fake_work(task)
    print(f"{len(tasks):,} runs faked in {time.monotonic() - begun:.0f} s")
    _say("status", cost_of([*study, "status", folder]))
    _say("collect", cost_of([*study, "collect", folder]))
    _say("long table", cost_of([sys.executable, "-c", _JOIN, folder]))
    _say("report", cost_of([*study, "report", folder]))
    print(f"{RECORDS}: {(request.folder / RECORDS).stat().st_size / 1e6:.1f} MB")


def _say(what: str, cost: Cost) -> None:
    print(f"{what:<10}  {cost.seconds:5.1f} s  {cost.cpu_seconds:5.1f} CPU-s  {cost.megabytes:5.0f} MB", flush=True)


if __name__ == "__main__":
    main()
