"""Copies of the source tree, and programs run outside of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import disentangle_ext

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "build_support")]  # at the end: an installed copy of the package comes first
BUILT = shutil.ignore_patterns("__pycache__", "*.so", "_build_config.json")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The source tree as a fresh clone has it: nothing built."""
    target = tmp_path / "tree"
    for folder in ("build_support", "csrc", "disentangle_ext"):
        shutil.copytree(ROOT / folder, target / folder, ignore=BUILT)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, target / name)
    return target


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH that holds the package alone, without anything the build adds."""
    target = tmp_path / "package"
    shutil.copytree(ROOT / "disentangle_ext", target / "disentangle_ext", ignore=BUILT)
    return target


@pytest.fixture(scope="session")
def here() -> str:
    """The PYTHONPATH that leads another process to the package under test, installed or not."""
    return str(Path(disentangle_ext.__file__).resolve().parents[1])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run Python with ``arguments``, by default in an empty folder; None as a variable's value removes it."""

    def run(
        *arguments: str | Path, cwd: Path | None = None, python: str | Path = sys.executable, **variables: str | None
    ) -> subprocess.CompletedProcess[str]:
        empty = tmp_path / "elsewhere"
        empty.mkdir(exist_ok=True)
        cuda = ("DISENTANGLE_EXT_CUDA", "FORCE_CUDA", "TORCH_CUDA_ARCH_LIST", "CUDA_HOME", "CUDA_PATH")
        unset: dict[str, str | None] = dict.fromkeys(("DISENTANGLE_EXT_BUILD", "CXX", "PYTHONPATH", *cuda))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **unset, **variables}
        return subprocess.run(
            [str(python), *map(str, arguments)],
            cwd=cwd or empty,
            env={name: value for name, value in environment.items() if value is not None},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run
