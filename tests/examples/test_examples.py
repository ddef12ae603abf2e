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


def values(name: str, folder: Path, *arguments: str) -> dict[str, float]:
    """The last of each value that a script prints."""
    needs = NEEDS[name]
    if needs is not None and importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed: pip install 'disentangle_ext[examples]'")
    script = str(EXAMPLES / f"{name}.py")
    run = subprocess.run([sys.executable, script, *arguments], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert list(folder.iterdir()) == []
    return {key: float(value) for key, value in re.findall(r"(\w+) (-?[\d.]+\d)", run.stdout)}


def test_every_script_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(NEEDS)


@pytest.mark.forks
@pytest.mark.parametrize("name", ["plain_loop", "lightning_module", "accelerate_loop"])
def test_beta_tcvae(name: str, tmp_path: Path) -> None:
    """It learns to draw and to separate; and the weight of the total correlation, whose gradient is the encoder's
    alone, keeps the codes from knowing as much as they would without it."""
    weighted = values(name, tmp_path, "--steps", "600", "--beta", "15")
    assert weighted["reconstruction"] < UNTRAINED / 10
    assert 0.05 < weighted["MIG"] <= 1
    without = values(name, tmp_path, "--steps", "300", "--beta", "1")
    assert weighted["KL"] < 0.8 * without["KL"]


@pytest.mark.forks
def test_factor_vae(tmp_path: Path) -> None:
    """The discriminator finds a total correlation where nothing works against it, and that is what gamma removes."""
    weighted, without = (values("factor_vae", tmp_path, "--steps", "600", "--gamma", gamma) for gamma in ("60", "0"))
    for each in weighted, without:
        assert each["reconstruction"] < UNTRAINED / 10
    assert 0.05 < weighted["MIG"] <= 1
    assert without["discriminator"] < 0.5
    assert weighted["TC"] < without["TC"] / 2
