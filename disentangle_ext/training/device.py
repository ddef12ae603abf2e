"""Where a run computes, and whether it does so deterministically there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["AUTO", "blame_device", "choose_device", "describe_device", "deterministic"]

AUTO = "auto"

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def choose_device(name: str, place: int | None = None) -> torch.device:
    """The device of that name.

    Args:
        name: "cpu", "cuda", "cuda:1", or "auto": the current CUDA device where there is one, else the CPU.
        place: which of several processes on this machine asks: its CUDA device is the one with this number.

    Raises:
        ValueError: for another kind of device, or one that this machine or this torch does not have.
    """
    if name == AUTO:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not (kind == "cuda" and index.isdecimal())):
        raise ValueError(f"train: --device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if kind == "cpu":
        return torch.device("cpu")
    if index and place is not None:
        raise ValueError(f"train: --device {name}: each of several processes has a GPU of its own: give --device cuda")
    if not torch.cuda.is_available():
        reason = "torch sees no GPU" if torch.version.cuda else f"torch {torch.__version__} is a build without CUDA"
        raise ValueError(f"train: --device {name}: {reason}")
    count = torch.cuda.device_count()
    # Which device is the current one can only be asked of CUDA that has started, and before that it is the first.
    current = torch.cuda.current_device() if torch.cuda.is_initialized() else 0
    current = current if place is None else place
    chosen = int(index) if index else current
    if chosen >= count:
        raise ValueError(f"train: --device {name}: there are {count} GPUs, cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", chosen)


def describe_device(device: torch.device) -> str:
    """The kind of device, by the name of its maker where it has one; which of several alike does not matter."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


@contextmanager
def deterministic(enabled: bool, device: torch.device) -> Iterator[None]:
    """Run a block with torch's deterministic algorithms only; what was set before is put back after it.

    cuBLAS takes its workspaces from an environment variable when CUDA starts, which has to come later than this. If
    CUDA starts in the block, the variable stays, as those workspaces do.

    Args:
        enabled: if not, the block runs as it would without.
        device: what it computes on.

    Raises:
        ValueError: if CUDA has started with other workspaces, or an operation has no deterministic algorithm.
    """
    if not enabled:
        yield
        return
    workspace, benchmark = os.environ.get(_WORKSPACE), torch.backends.cudnn.benchmark
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if device.type == "cuda" and workspace not in (":4096:8", ":16:8") and torch.cuda.is_initialized():
        raise ValueError(f"train: --deterministic: set {_WORKSPACE}=:4096:8 before CUDA is first used, got {workspace}")
    os.environ[_WORKSPACE] = workspace if workspace in (":4096:8", ":16:8") else ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        name, found, _ = str(error).partition(" does not have a deterministic implementation")
        if not found:
            raise
        raise ValueError(f"train: --deterministic: {name} has no deterministic form on {device.type}") from None
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark
        if not torch.cuda.is_initialized():
            del os.environ[_WORKSPACE]
            if workspace is not None:
                os.environ[_WORKSPACE] = workspace


def blame_device(error: RuntimeError) -> str | None:
    """In one line what the device is to blame for, its memory or its kind; None if it is not."""
    line = str(error).partition("\n")[0]
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in line:
        return f"train: out of memory: a smaller --batch-size needs less: {line}"
    return f"train: {line}" if "kernels are not compiled for this GPU" in line else None
