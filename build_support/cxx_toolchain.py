"""The C++ compiler and its flags."""

from __future__ import annotations

import os
import shlex
import shutil
import sys

PACKAGE = "disentangle_ext"
PYTHON_ONLY = "DISENTANGLE_EXT_BUILD=python installs without compiled code"


def find_compiler() -> str:
    """The C++ compiler. It also goes into CXX, by which torch compiles and setuptools links with the same one."""
    chosen = os.environ.get("CXX")
    for candidate in [chosen] if chosen else ["c++", "g++", "clang++"]:
        if shutil.which(shlex.split(candidate)[0]):
            os.environ["CXX"] = candidate
            return candidate
    if chosen:
        raise SystemExit(f"{PACKAGE}: the C++ compiler CXX={chosen} is not installed ({PYTHON_ONLY})")
    command = "xcode-select --install" if sys.platform == "darwin" else "apt install g++, dnf install gcc-c++"
    raise SystemExit(f"{PACKAGE}: no C++ compiler found: install one ({command}) and try again; {PYTHON_ONLY}")


def flags() -> tuple[list[str], list[str]]:
    """Compiler and linker flags; torch adds its include paths and the language standard.

    No -ffast-math: the ops define what they do with infinities. No -march=native: the kernels are compiled once per
    instruction set and chosen at run time. -g0 undoes the -g that most Pythons add.
    """
    optimise = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
    openmp = ["-fopenmp"] if sys.platform.startswith("linux") else []  # without it at::parallel_for is serial
    return optimise + openmp, openmp


def language(torch: str) -> list[str]:
    """The sources are C++20, which torch asks for from 2.12 on; given twice, nvcc would refuse it."""
    major, minor = (int(part) for part in torch.split(".")[:2])
    return ["-std=c++20"] if (major, minor) < (2, 12) else []
