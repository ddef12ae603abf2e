"""A run that takes a moment, and what is left of it on disk."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from disentangle_ext import train as train_module
from disentangle_ext.report import PICTURES

# A shell that starts the tests in the background has them ignore Ctrl-C, and every process that they start, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

SMALL = [
    *("--data", "dsprites_like", "--quick", "--network", "mlp", "--width", "8", "--latent-dim", "3"),
    *("--batch-size", "8", "--max-steps", "12", "--log-every", "2", "--checkpoint-every", "3", "--device", "cpu"),
]


@contextmanager
def only_samples() -> Iterator[None]:
    """Drawing takes longer than such a run: only samples.png is left of it."""
    every = dict(PICTURES)
    PICTURES.clear()
    PICTURES["samples"] = every["samples"]
    yield
    PICTURES.clear()
    PICTURES.update(every)  # in their order


def run_small(folder: Path, *arguments: str, model: str = "beta_vae") -> int:
    """Run the command line in this process; the exit code."""
    return train_module.main(["--model", model, *SMALL, "--output-dir", str(folder), *arguments])


@pytest.fixture
def one_picture() -> Iterator[None]:
    with only_samples():
        yield


@pytest.fixture
def small_run(one_picture: None) -> Callable[..., int]:
    return run_small


@pytest.fixture(scope="module")
def small_run_once() -> Iterator[Callable[..., int]]:
    """:func:`run_small` for what the tests of a module share."""
    with only_samples():
        yield run_small


@pytest.fixture
def left() -> Callable[[Path], dict[str, Any]]:
    """What has to be equal if two runs are the same: the bytes of the model, and all that does not say how fast."""

    def read(folder: Path) -> dict[str, Any]:
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for row in rows:
            del row["seconds"], row["images_per_second"]
        files = {name: (folder / name).read_bytes() for name in ("model.safetensors", "scores.json", "samples.png")}
        return {**files, "rows": rows, "files": sorted(path.name for path in folder.iterdir())}

    return read


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which test noticed each planted mistake.

    It stands here because pytest-xdist collects in other processes, and reads no conftest.py of a folder below in this.
    """
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, [])]
    verdicts = [(report, value) for report in reports for name, value in report.user_properties if name == "planted"]
    if not verdicts:
        return
    terminalreporter.section("mistakes planted into the CUDA kernels")
    for _, (op, name, mode, test, how) in verdicts:
        terminalreporter.write_line(f"{op:20} {name:48} {mode:6} {test or 'MISSED'}: {' '.join(how.split())[:100]}")
    terminalreporter.write_line(f"{sum(report.passed for report, _ in verdicts)} of {len(verdicts)} caught")
