"""The build: toolchain -> flags -> extension. The metadata is in pyproject.toml.

DISENTANGLE_EXT_BUILD=auto, the default, compiles or stops with the reason; =python installs no compiled code.
CXX names the compiler, MAX_JOBS limits how many files compile at once.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from glob import glob
from importlib import metadata
from pathlib import Path
from sysconfig import get_platform
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

PACKAGE = "disentangle_ext"
MODULE = f"{PACKAGE}._C"
OLDEST_TORCH = "2.11"
PYTHON_ONLY = "DISENTANGLE_EXT_BUILD=python installs without compiled code"
NO_CUDA = "this version has no CUDA kernels"


def build_mode() -> str:
    mode = os.environ.get("DISENTANGLE_EXT_BUILD") or "auto"
    if mode not in ("auto", "python"):
        raise SystemExit(f"{PACKAGE}: DISENTANGLE_EXT_BUILD must be auto or python, got {mode!r}")
    return mode


def torch_version() -> str | None:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None


def dependencies(mode: str, torch: str | None) -> list[str]:
    if mode == "python" or torch is None:
        return ["numpy>=1.26", f"torch>={OLDEST_TORCH}"]
    # The C++ interface of torch may change with every minor version: compiled code fits the one it was built for.
    return ["numpy>=1.26", f"torch=={'.'.join(torch.split('.')[:2])}.*"]


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


def write_config(folder: Path, *, build: str, torch: str, reason: str) -> None:
    """What disentangle_ext._extension reads before it loads the compiled module."""
    settings = {"build": build, "torch": torch, "reason": reason, "cuda_reason": NO_CUDA}
    (folder / "_build_config.json").write_text(json.dumps(settings, indent=2) + "\n")


class PythonOnly(build_py):
    def run(self) -> None:
        super().run()
        folder = Path(PACKAGE) if self.editable_mode else Path(self.build_lib, PACKAGE)
        write_config(folder, build="python", torch="", reason="installed with DISENTANGLE_EXT_BUILD=python")
        print(f"{PACKAGE}: no compiled code, by DISENTANGLE_EXT_BUILD=python: the ops run as plain PyTorch")


class NeedsTorch(build_ext):
    def run(self) -> None:
        raise SystemExit(f"{PACKAGE}: install torch>={OLDEST_TORCH} before the build; {PYTHON_ONLY}")


def extension(torch: str | None) -> dict[str, Any]:
    sources = [*sorted(glob("csrc/*.cpp")), *sorted(glob("csrc/cpu/*.cpp"))]
    if torch is None:  # enough for an sdist
        return {"ext_modules": [Extension(MODULE, sources)], "cmdclass": {"build_ext": NeedsTorch}}
    from torch.utils.cpp_extension import BuildExtension, CppExtension

    class Compile(BuildExtension):
        def run(self) -> None:
            what = f"{len(sources)} C++ files with {find_compiler()} for torch {torch}"
            print(f"{PACKAGE}: compiling {what}; no CUDA: {NO_CUDA}", flush=True)
            # For an editable installation setuptools takes a new folder each time, and compiles every file again.
            self.build_temp = f"build/temp.{get_platform()}-{sys.implementation.cache_tag}-torch-{torch}"
            super().run()
            folder = Path(self.get_ext_fullpath(MODULE)).parent
            write_config(folder, build="compiled", torch=str(torch), reason="")

    compile_flags, link_flags = flags()
    arguments = {"extra_compile_args": compile_flags, "extra_link_args": link_flags}
    module = CppExtension(MODULE, sources, include_dirs=[str(Path("csrc").absolute())], **arguments)
    return {"ext_modules": [module], "cmdclass": {"build_ext": Compile}}


mode, version = build_mode(), torch_version()
commands = {"cmdclass": {"build_py": PythonOnly}} if mode == "python" else extension(version)
setup(install_requires=dependencies(mode, version), **commands)
