"""The build: toolchain -> flags -> extension. The metadata is in pyproject.toml, the toolchains in build_support.

DISENTANGLE_EXT_BUILD=auto, the default, compiles or stops with the reason; =python installs no compiled code.
CXX names the compiler, MAX_JOBS limits how many files compile at once. For CUDA see build_support/cuda_toolchain.py.
"""

from __future__ import annotations

import json
import os
import sys
from glob import glob
from importlib import metadata
from pathlib import Path
from sysconfig import get_platform
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

sys.path.insert(0, "build_support")  # pip has it there already; `python setup.py` does not
import cuda_toolchain
from cxx_toolchain import PACKAGE, PYTHON_ONLY, find_compiler, flags, language

MODULE = f"{PACKAGE}._C"
OLDEST_TORCH = "2.11"


def build_mode() -> str:
    mode = os.environ.get("DISENTANGLE_EXT_BUILD") or "auto"
    if mode not in ("auto", "python"):
        raise SystemExit(f"{PACKAGE}: DISENTANGLE_EXT_BUILD must be auto or python, got {mode!r}")
    if mode == "python" and cuda_toolchain.switch(os.environ) == "1":
        raise SystemExit(f"{PACKAGE}: DISENTANGLE_EXT_BUILD=python compiles nothing, DISENTANGLE_EXT_CUDA=1 must")
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


def write_config(folder: Path, *, build: str, torch: str, reason: str, cuda_reason: str) -> None:
    """What disentangle_ext._extension reads before it loads the compiled module."""
    settings = {"build": build, "torch": torch, "reason": reason, "cuda_reason": cuda_reason}
    (folder / "_build_config.json").write_text(json.dumps(settings, indent=2) + "\n")


class PythonOnly(build_py):
    def run(self) -> None:
        super().run()
        folder = Path(PACKAGE) if self.editable_mode else Path(self.build_lib, PACKAGE)
        reason = "installed with DISENTANGLE_EXT_BUILD=python"
        write_config(folder, build="python", torch="", reason=reason, cuda_reason=reason)
        print(f"{PACKAGE}: no compiled code, by DISENTANGLE_EXT_BUILD=python: the ops run as plain PyTorch")


class NeedsTorch(build_ext):
    def run(self) -> None:
        raise SystemExit(f"{PACKAGE}: install torch>={OLDEST_TORCH} before the build; {PYTHON_ONLY}")


def extension(torch: str | None) -> dict[str, Any]:
    sources = [*sorted(glob("csrc/*.cpp")), *sorted(glob("csrc/cpu/*.cpp"))]
    if torch is None:  # enough for an sdist
        return {"ext_modules": [Extension(MODULE, sources)], "cmdclass": {"build_ext": NeedsTorch}}
    import torch as installed

    cuda = cuda_toolchain.plan(os.environ, torch, installed.version.cuda)
    from torch.utils.cpp_extension import BuildExtension, CppExtension  # after plan(), which sets CUDA_HOME for it

    class Compile(BuildExtension):
        def run(self) -> None:
            what = f"{len(sources)} C++ files with {find_compiler()} for torch {torch}"
            print(f"{PACKAGE}: compiling {what}; {cuda}", flush=True)
            # For an editable installation setuptools takes a new folder each time, and compiles every file again.
            self.build_temp = f"build/temp.{get_platform()}-{sys.implementation.cache_tag}-torch-{torch}"
            super().run()
            folder = Path(self.get_ext_fullpath(MODULE)).parent
            write_config(folder, build="compiled", torch=str(torch), reason="", cuda_reason=cuda.reason)

    compile_flags, link_flags = flags()
    host_flags = cuda.host_flags(Path(installed.__file__).parents[1])
    module = CppExtension(
        MODULE,
        cuda.sources() + sources,
        include_dirs=[str(Path("csrc").absolute()), *(cuda.toolkit.include_dirs if cuda.toolkit else ())],
        extra_compile_args={
            "cxx": [*compile_flags, *language(torch), *host_flags],
            "nvcc": [*cuda.device_flags(), *language(torch)],
        },
        extra_link_args=link_flags,
        **cuda.link_arguments(),
    )
    return {"ext_modules": [module], "cmdclass": {"build_ext": Compile}}


mode, version = build_mode(), torch_version()
commands = {"cmdclass": {"build_py": PythonOnly}} if mode == "python" else extension(version)
setup(install_requires=dependencies(mode, version), **commands)
