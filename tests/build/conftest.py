"""Copies of the source tree, and programs run outside of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import disentangle_ext

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "build_support")]  # at the end: an installed copy of the package comes first
TIMEOUT = 300.0  # seconds of a program
BUILT = shutil.ignore_patterns("__pycache__", "*.so", "_build_config.json")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent and {"run", "run_code"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.forks)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


def copy_tree(target: Path) -> Path:
    for folder in ("build_support", "csrc", "disentangle_ext"):
        shutil.copytree(ROOT / folder, target / folder, ignore=BUILT)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, target / name)
    return target


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The source tree as a fresh clone has it: nothing built."""
    return copy_tree(tmp_path / "tree")


@pytest.fixture(scope="module")
def shared_tree(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Makes a source tree for a build that several tests look at."""
    return lambda: copy_tree(tmp_path_factory.mktemp("shared") / "tree")


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


def environment(variables: dict[str, str | None]) -> dict[str, str]:
    """This process's environment without what decides about a build; None as a variable's value removes it."""
    cuda = ("DISENTANGLE_EXT_CUDA", "FORCE_CUDA", "TORCH_CUDA_ARCH_LIST", "CUDA_HOME", "CUDA_PATH")
    unset: dict[str, str | None] = dict.fromkeys(("DISENTANGLE_EXT_BUILD", "CXX", "PYTHONPATH", *cuda))
    chosen = {**os.environ, "OMP_NUM_THREADS": "1", **unset, **variables}
    return {name: value for name, value in chosen.items() if value is not None}


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run Python with ``arguments``, by default in an empty folder; None as a variable's value removes it."""
    empty = tmp_path_factory.mktemp("elsewhere")

    def run(
        *arguments: str | Path, cwd: Path | None = None, python: str | Path = sys.executable, **variables: str | None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(python), *map(str, arguments)],
            cwd=cwd or empty,
            env=environment(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def run_code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run code as ``python -c`` would, with torch imported already: `path` comes first in sys.path."""
    empty = tmp_path_factory.mktemp("elsewhere")
    command = [sys.executable, str(Path(__file__).with_name("forked.py"))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=empty, env=environment({}), text=True, **pipes) as server:

        def run(
            code: str, *, path: str | Path, cwd: Path = empty, timeout: float = TIMEOUT, **variables: str
        ) -> subprocess.CompletedProcess[str]:
            request = {"code": code, "path": str(path), "cwd": str(cwd), "timeout": timeout, "variables": variables}
            print(json.dumps(request), file=server.stdin, flush=True)
            result = subprocess.CompletedProcess(code, **json.loads(server.stdout.readline()))
            if result.returncode == -signal.SIGALRM:
                raise subprocess.TimeoutExpired(code, timeout, result.stdout, result.stderr)
            return result

        yield run
        server.kill()
