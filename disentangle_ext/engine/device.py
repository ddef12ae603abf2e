"""What a run computes on: the device, its determinism, the threads and the memory of the process."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from disentangle_ext._errors import MistakeError

__all__ = [
    "AUTO",
    "blame_device",
    "choose_device",
    "cpu_threads",
    "deterministic",
    "fastest_precision",
    "keep_freed_memory",
]

AUTO = "auto"

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = (1 << 31) - 1
_LARGEST_OLD_MMAP_THRESHOLD = 1 << 25  # what glibc before 2.35 accepts on 64 bits


def choose_device(name: str, place: int | None = None) -> torch.device:
    """Choose the device that a name stands for.

    Args:
        name: "cpu", "cuda", "cuda:1", or "auto": the current CUDA device where there is one, else the CPU.
        place: which of several processes on this machine asks: its CUDA device is the one with this number.

    Raises:
        MistakeError: for another kind of device, or one that this machine or this torch does not have.
    """
    if name == AUTO:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, colon, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not (kind == "cuda" and index.isdecimal())):
        raise MistakeError(f"train: --device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if kind == "cpu":
        return torch.device("cpu")
    if index and place is not None:
        raise MistakeError(
            f"train: --device {name}: each of several processes has a GPU of its own: give --device cuda"
        )
    if not torch.cuda.is_available():
        reason = "torch sees no GPU" if torch.version.cuda else f"torch {torch.__version__} is a build without CUDA"
        raise MistakeError(f"train: --device {name}: {reason}")
    count = torch.cuda.device_count()
    # Which device is the current one can only be asked of CUDA that has started, and before that it is the first.
    current = torch.cuda.current_device() if torch.cuda.is_initialized() else 0
    current = current if place is None else place
    chosen = int(index) if index else current
    if chosen >= count:
        raise MistakeError(f"train: --device {name}: there are {count} GPUs, cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", chosen)


@contextmanager
def deterministic(enabled: bool, device: torch.device) -> Iterator[None]:
    """Run a block with torch's deterministic algorithms only; what was set before is put back after it.

    cuBLAS takes its workspaces from an environment variable when CUDA starts, which has to come later than this. If
    CUDA starts in the block, the variable stays, as those workspaces do.

    Args:
        enabled: if not, the block runs as it would without.
        device: what it computes on.

    Raises:
        MistakeError: if CUDA has started with other workspaces, or an operation has no deterministic algorithm.
    """
    if not enabled:
        yield
        return
    workspace, benchmark = os.environ.get(_WORKSPACE), torch.backends.cudnn.benchmark
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if device.type == "cuda" and workspace not in (":4096:8", ":16:8") and torch.cuda.is_initialized():
        raise MistakeError(
            f"train: --deterministic: set {_WORKSPACE}=:4096:8 before CUDA is first used, got {workspace}"
        )
    os.environ[_WORKSPACE] = workspace if workspace in (":4096:8", ":16:8") else ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        name, found, _ = str(error).partition(" does not have a deterministic implementation")
        if not found:
            raise
        raise MistakeError(f"train: --deterministic: {name} has no deterministic form on {device.type}") from None
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark
        if not torch.cuda.is_initialized():
            del os.environ[_WORKSPACE]
            if workspace is not None:
                os.environ[_WORKSPACE] = workspace


def fastest_precision(device: torch.device) -> str:
    """The precision in which networks are fastest on a device: "bf16" where it has instructions for it, else "fp32"."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # Processors that have to emulate bfloat16 are several times slower with it.
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"


def blame_device(error: RuntimeError) -> str | None:
    """Say in one line what the device is to blame for, its memory or its kind; None for another error."""
    line = str(error).partition("\n")[0]
    if any(sign in line for sign in ("Storage size calculation overflowed", "numel: integer multiplication overflow")):
        return f"train: out of memory: no machine has room for a tensor of this latent_dim, width or batch_size: {line}"
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in line:
        return f"train: out of memory: a smaller --batch-size needs less: {line}"
    return f"train: {line}" if "kernels are not compiled for this GPU" in line else None


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Run a block with ``count`` CPU threads, or with as many as before for 0. Sums in another order differ in bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> bool:
    """Have the process keep freed memory for its next allocation; whether the C library has this setting.

    glibc hands the large blocks at the end of its heap back to the kernel as they are freed. On a CPU every step then
    asks for its activations anew, and the kernel clears them page by page: some 50 MB a step of 64 images of 64 x 64,
    a tenth to a fifth of its time. With this the process stays as large as it was at its largest. No value changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # a C library other than glibc
        return False
    kept_out_of_mmap = any(mallopt(_M_MMAP_THRESHOLD, size) for size in (_LARGEST, _LARGEST_OLD_MMAP_THRESHOLD))
    return kept_out_of_mmap and bool(mallopt(_M_TRIM_THRESHOLD, _LARGEST))
