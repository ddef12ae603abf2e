"""What all programs have in common: how they end where nobody waits for them any more."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import disentangle_ext
from tests.processes import context

PACKAGE = Path(disentangle_ext.__file__).parent
PROGRAMS = {path.stem: path for path in PACKAGE.glob("*.py") if not path.stem.startswith("_")}
PROGRAMS.update({path.parent.name: path for path in PACKAGE.glob("*/__main__.py")})

pytestmark = pytest.mark.forks


def test_the_programs_are_found() -> None:
    assert {"train", "evaluate", "report", "data", "doctor"} <= set(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("module", ["torch", "numpy"])
def test_ctrl_c_while_it_is_imported(tmp_path: Path, name: str, module: str) -> None:
    interrupts = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    (tmp_path / f"{module}.py").write_text(interrupts)
    call = [sys.executable, "-m", f"disentangle_ext.{name}", "--help"]
    path = os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])
    done = subprocess.run(call, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_program_that_is_not_ours_keeps_its_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "__init__.py").write_text(
        "import signal\n"
        "try:\n"
        "    import disentangle_ext\n"
        "except ImportError:\n"
        "    print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
    )
    (tmp_path / "other" / "__main__.py").touch()
    path = os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])
    call = [sys.executable, "-m", "other"]
    done = subprocess.run(call, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=50)
    assert done.stdout == "True\n"


def _into_a_closed_pipe(path: Path, errors: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    sys.stdout = open(writing, "w")  # noqa: SIM115
    sys.stderr = open(errors, "w", buffering=1)  # noqa: SIM115
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as in every Python
    sys.argv = ["program", "--help"]
    runpy.run_path(str(path), run_name="__main__")


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_into_a_pipe_that_is_closed(tmp_path: Path, name: str) -> None:
    errors = tmp_path / "errors"
    process = context().Process(target=_into_a_closed_pipe, args=(PROGRAMS[name], errors))
    process.start()
    process.join(60)
    assert (process.exitcode, errors.read_text()) == (141, "")
