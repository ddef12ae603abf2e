"""A kill at any file operation of a run, or of a stack: what is left goes on, and ends as the run never killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SMALL

SCRIPT = Path(__file__).with_name("crash_points.py")
FEW = ["--max-steps", "4", "--checkpoint-every", "2"]


RUNS = {
    "a run": ([], 5),
    "a stack": (["--stack", "2"], 13),
    "in turn, overwritten": (["--vary", "seed=0,1", "--overwrite"], 16),
}


@pytest.mark.forks
@pytest.mark.parametrize(("several", "every"), RUNS.values(), ids=RUNS)
def test_a_kill_at_some_of_the_file_operations(tmp_path: Path, several: list[str], every: int) -> None:
    """``python tests/training/crash_points.py FOLDER 1 ARGUMENT ..`` kills at all of them."""
    call = [sys.executable, str(SCRIPT), str(tmp_path), str(every), "--model", "beta_vae", *SMALL, *FEW, *several]
    finished = subprocess.run(call, capture_output=True, text=True, check=True, timeout=300)
    wrong = [line for line in finished.stdout.splitlines() if line.startswith("killed ")]
    assert wrong == []
    assert int(finished.stdout.split()[-2]) > 20
