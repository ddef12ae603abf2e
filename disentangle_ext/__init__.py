"""Ops, objectives, models, data and metrics for learning disentangled representations with PyTorch.

The submodules ``data``, ``metrics``, ``models``, ``objectives``, ``ops``, ``report`` and ``training`` are imported
when they are first used: ``import disentangle_ext`` alone needs only torch and NumPy.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from disentangle_ext import _start  # noqa: F401  # before all that takes a while

# isort: split
from disentangle_ext import _extension

if TYPE_CHECKING:
    from disentangle_ext import data, metrics, models, objectives, ops, report, training
    from disentangle_ext.runs.load import load

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "build_info",
    "data",
    "load",
    "metrics",
    "models",
    "objectives",
    "ops",
    "report",
    "training",
]

_SUBMODULES = frozenset({"data", "metrics", "models", "objectives", "ops", "report", "training"})

# The doctor is a submodule and has to get past this line to explain the same problem at length.
if _extension.PROBLEM and "disentangle_ext.doctor" not in sys.orig_argv:
    raise ImportError(_extension.PROBLEM)


def build_info() -> dict[str, Any]:
    """What of this installation is compiled, for what, and why not more.

    Returns:
        A dict of plain values: ``version``; ``build``, "compiled" or "python", with the ``reason`` for the latter;
        ``compiler``; ``torch_built_for`` and ``torch_running``; ``simd``, the instruction set that the CPU kernels
        chose on this machine; ``openmp`` and ``threads``; ``cuda``, the toolkit version the CUDA kernels were
        compiled with, with ``cuda_architectures``, or "" with a ``cuda_reason``.
    """
    return {"version": __version__, **_extension.describe()}


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"disentangle_ext.{name}")
    if name == "load":
        return importlib.import_module("disentangle_ext.runs.load").load
    raise AttributeError(f"module 'disentangle_ext' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
