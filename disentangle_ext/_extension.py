"""Loading of the compiled module, and what there is to say about it when it cannot be loaded."""

from __future__ import annotations

import importlib
import json
import platform
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

PACKAGE = "disentangle_ext"
_HERE = Path(__file__).resolve().parent
_CONFIG = _HERE / "_build_config.json"
# A wheel in pip's cache, or in an index, may be the very one that does not fit.
_PIP = f"python -m pip install --no-deps --force-reinstall --no-cache-dir --no-binary {PACKAGE}"
BUILD_AGAIN = f"`{_PIP} SOURCE`, with SOURCE the folder, address or name that it was installed from"


def read_config(path: Path = _CONFIG) -> dict[str, str] | None:
    """What the build recorded, or None in a source tree that was never built."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def minor(version: str) -> str:
    """The part of a torch version within which its C++ interface stays the same."""
    return ".".join(version.split(".")[:2])


def problem_before_loading(config: dict[str, str] | None, running: str) -> str:
    """Why the compiled module must not be loaded, or the empty string.

    Loaded against another torch, it would at best miss a symbol and at worst crash later.
    """
    if config is None:
        # Python looks in the current folder first: there the tree hides a copy that is installed and well.
        return (
            f"{PACKAGE} in {_HERE} is a source tree that was not built: build it in place with "
            f"`python -m pip install -e {shlex.quote(str(_HERE.parent))}`, or work from another folder"
        )
    if config["build"] == "compiled" and minor(config["torch"]) != minor(running):
        return (
            f"{PACKAGE} was built for torch {config['torch']} and met torch {running}: go back with "
            f"`python -m pip install 'torch=={minor(config['torch'])}.*'`, or build it again with {BUILD_AGAIN}"
        )
    return ""


def _load(config: dict[str, str] | None) -> tuple[ModuleType | None, str]:
    problem = problem_before_loading(config, str(torch.__version__))
    if problem or config is None or config["build"] != "compiled":
        return None, problem
    try:
        return importlib.import_module(f"{PACKAGE}._C"), ""
    except ImportError as error:
        return None, (
            f"the compiled part of {PACKAGE} does not load under Python {platform.python_version()} "
            f"({error}): build it again with {BUILD_AGAIN}"
        )


def _devices(module: ModuleType | None) -> tuple[str, ...]:
    if module is None:
        return ()
    return ("cpu", "cuda") if module.build_info()["cuda"] else ("cpu",)


CONFIG = read_config()
MODULE, PROBLEM = _load(CONFIG)
# Asked once: every op looks here, and torch.compile cannot trace a call into the module.
DEVICES = _devices(MODULE)


def available(device_type: str) -> bool:
    """Whether compiled kernels for tensors on ``device_type`` are loaded."""
    return device_type in DEVICES


def describe() -> dict[str, Any]:
    """See :func:`disentangle_ext.build_info`."""
    config = CONFIG or {"build": "none", "torch": "", "reason": PROBLEM, "cuda_reason": PROBLEM}
    compiled: dict[str, Any] = MODULE.build_info() if MODULE else {}
    cuda = compiled.get("cuda", "")
    return {
        "build": config["build"],
        "reason": PROBLEM or config["reason"],
        "compiler": compiled.get("compiler", ""),
        "torch_built_for": config["torch"],
        "torch_running": str(torch.__version__),
        "simd": compiled.get("simd", ""),
        "openmp": compiled.get("openmp", False),
        "threads": torch.get_num_threads(),
        "cuda": cuda,
        "cuda_architectures": compiled.get("cuda_architectures", ""),
        "cuda_reason": "" if cuda else config["cuda_reason"],
    }
