"""The scripts in examples as a person runs them, with fewer steps."""

from __future__ import annotations

import importlib.util
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NEEDS = {"plain_loop": None, "lightning_module": "lightning", "accelerate_loop": "accelerate", "factor_vae": None}

UNTRAINED = 1024 * math.log(2)
"""The reconstruction term of a decoder that says 1/2 to each pixel, in nats."""


RUN_EACH = """
import runpy, sys
script, *calls = sys.argv[1:]
for call in calls:
    sys.argv = [script, *call.split()]
    runpy.run_path(script, run_name="__main__")
    print("end of a call", flush=True)
"""


def values(name: str, folder: Path, *calls: str) -> list[dict[str, float]]:
    """The last of each value that a script prints, for each call; one process has the imports of all."""
    needs = NEEDS[name]
    if needs is not None and importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed: pip install 'disentangle_ext[examples]'")
    command = [sys.executable, "-c", RUN_EACH, str(EXAMPLES / f"{name}.py"), *calls]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert list(folder.iterdir()) == []
    *printed, rest = run.stdout.split("end of a call")
    assert (len(printed), rest.strip()) == (len(calls), "")
    return [{key: float(value) for key, value in re.findall(r"(\w+) (-?[\d.]+\d)", each)} for each in printed]


def test_every_script_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(NEEDS)


@pytest.mark.forks
@pytest.mark.parametrize("name", ["plain_loop", "lightning_module", "accelerate_loop"])
def test_beta_tcvae(name: str, tmp_path: Path) -> None:
    """It learns to draw and to separate; and the weight of the total correlation, whose gradient is the encoder's
    alone, keeps the codes from knowing as much as they would without it."""
    weighted, without = values(name, tmp_path, "--steps 450 --beta 15", "--steps 250 --beta 1")
    assert weighted["reconstruction"] < UNTRAINED / 10
    assert 0.05 < weighted["MIG"] <= 1
    assert weighted["KL"] < 0.8 * without["KL"]


@pytest.mark.forks
def test_factor_vae(tmp_path: Path) -> None:
    """The discriminator finds a total correlation where nothing works against it, and that is what gamma removes."""
    weighted, without = values("factor_vae", tmp_path, "--steps 300 --gamma 60", "--steps 300 --gamma 0")
    for each in weighted, without:
        assert each["reconstruction"] < UNTRAINED / 10
    assert 0.05 < weighted["MIG"] <= 1
    assert without["discriminator"] < 0.5
    assert weighted["TC"] < without["TC"] / 2
