"""Runs the CUDA kernels on the CPU: builds csrc/testing/run_OP.cpp with g++ and calls its entries with torch tensors.

A library is built when the first test asks for it, and kept in build/host-runs; processes that want the same one wait
for the first of them.

Modes: `plain` computes; `check` also finds data races, uninitialised memory and out-of-bounds accesses; `asan`
runs each call in a process of its own under AddressSanitizer and UndefinedBehaviorSanitizer.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import hashlib
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
CACHE = ROOT / "build" / "host-runs"
MODES = ("plain", "check", "asan")
OLDEST_GXX = 11  # std::source_location
DTYPES = {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2, torch.float64: 3}

# Kernels reinterpret their pointers as vectors, which nvcc allows.
COMMON_FLAGS = ["-std=c++20", "-Wall", "-Wno-unknown-pragmas", "-fno-strict-aliasing", "-fvisibility=hidden"]
COMMON_FLAGS += ["-DDX_HOST_RUN"]
# Unrolled loops take longer to build than they save, and so does an optimiser under the sanitizers.
OPTIMISED = ["-O1", "-fdisable-tree-cunroll", "-fdisable-tree-cunrolli"]
KERNEL_FLAGS = {"plain": OPTIMISED, "check": OPTIMISED, "asan": ["-O0"]}
MODEL_FLAGS = ["-O2"]
SHARED_FLAGS = ["-fPIC", "-shared"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FLAGS = {
    "plain": [],
    "check": ["-g1", "-DDX_CHECK"],
    "asan": ["-g1", *SANITIZERS],
}
# The execution model is left uninstrumented: -fsanitize=thread is for the kernels alone.
CHECKED_FLAGS = [
    "-fsanitize=thread",
    "--param=tsan-instrument-func-entry-exit=0",
    "--param=tsan-distinguish-volatile=1",
]
MODEL_SOURCES = {
    "plain": ["execution_model.cpp", "entry.cpp"],
    "check": ["checker.cpp", "execution_model.cpp", "entry.cpp"],
    "asan": ["execution_model.cpp", "entry.cpp", "driver.cpp"],
}


# Kernels that load rows of shared memory together with their padding. The checker cannot know that the padding is not
# used; if it were, results would be NaN.
PADDED_ROWS = {"aggregate_posterior"}


class HostRunError(RuntimeError):
    """What the execution model, the checker or a sanitizer reported, or what an entry threw."""


class BuildError(RuntimeError):
    """g++ refused a source."""


@functools.cache
def compiler() -> str:
    return os.environ.get("DX_GXX", "g++")


@functools.cache
def version() -> bytes:
    return subprocess.run([compiler(), "--version"], capture_output=True).stdout


@functools.cache
def unavailable() -> str | None:
    """Why the kernels cannot run here, or None."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"host runs of the CUDA kernels need x86-64 Linux, this is {sys.platform} on {platform.machine()}"
    if shutil.which(compiler()) is None:
        return f"host runs of the CUDA kernels need {compiler()}"
    number = subprocess.run([compiler(), "-dumpversion"], capture_output=True, text=True).stdout.strip()
    if int(number.split(".")[0]) < OLDEST_GXX:
        return f"host runs of the CUDA kernels need g++ {OLDEST_GXX} or newer, {compiler()} is {number}"
    return None


# ---- building ----


def included(source: Path, csrc: Path) -> dict[str, bytes]:
    """The source and what it includes from csrc, transitively: path below csrc -> content."""
    contents: dict[str, bytes] = {}
    waiting = [source]
    while waiting:
        path = waiting.pop()
        name = str(path.relative_to(csrc))
        if name in contents:
            continue
        contents[name] = path.read_bytes()
        for include in re.findall(rb'^\s*#\s*include\s*"([^"]+)"', contents[name], re.MULTILINE):
            candidates = [csrc / include.decode(), path.parent / include.decode()]
            waiting += [c.resolve() for c in candidates if c.exists()][:1]
    return contents


def key(files: Sequence[Path], csrc: Path, flags: Sequence[str]) -> str:
    digest = hashlib.sha256(version() + "\0".join(flags).encode())
    for source in files:
        for name, content in sorted(included(source, csrc).items()):
            digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()[:20]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Processes that want the same file wait for the first of them."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def built(name: str, files: Sequence[Path], csrc: Path, flags: Sequence[str], inputs: Sequence[Path] = ()) -> Path:
    """The file that g++ makes of these, from the cache if they have not changed."""
    CACHE.mkdir(parents=True, exist_ok=True)
    target = CACHE / f"{name}-{key(files, csrc, [*flags, *map(str, inputs)])}"
    with locked(target.with_suffix(".lock")):
        if not target.exists():
            unfinished = target.with_suffix(".part")
            command = [compiler(), *flags, f"-I{csrc}", *map(str, inputs), *map(str, files), "-o", str(unfinished)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise BuildError(f"{name}: {' '.join(command)}\n{done.stderr[:6000]}")
            unfinished.replace(target)
    os.utime(target)
    return target


def forget_old_builds(days: float = 3) -> None:
    for path in CACHE.glob("*") if CACHE.exists() else []:
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - days * 86400:
                path.unlink()


def build(op: str, mode: str, csrc: Path = CSRC, kernel_flags: Sequence[str] = ()) -> Path:
    """A shared library in modes plain and check, an executable in mode asan."""
    source = csrc / "testing" / f"run_{op}.cpp"
    flags = [*COMMON_FLAGS, *FLAGS[mode]]
    position = [] if mode == "asan" else ["-fPIC"]
    model = [
        built(f"{Path(name).stem}-{mode}", [csrc / "testing" / name], csrc, [*flags, *MODEL_FLAGS, *position, "-c"])
        for name in MODEL_SOURCES[mode]
    ]
    flags += kernel_flags or KERNEL_FLAGS[mode]
    if mode == "check":
        flags += CHECKED_FLAGS
        program = built(f"{op}-{mode}-object", [source], csrc, [*flags, *position, "-c"])
        # Linked without -fsanitize=thread, which would pull in libtsan. The checker comes first, so that of a standard
        # library function that both contain the uninstrumented copy is taken.
        return built(f"{op}-{mode}", [], csrc, ["-shared"], [*model, program])
    return built(f"{op}-{mode}", [source], csrc, [*flags, *([] if mode == "asan" else SHARED_FLAGS)], model)


# ---- calling ----


class Argument(ctypes.Structure):
    """`Argument` of csrc/testing/entry.h."""

    _fields_ = (("kind", ctypes.c_int64), ("value", ctypes.c_int64), ("bytes", ctypes.c_int64))


INTEGER, REAL, BUFFER, NULL, SAME_AS = range(5)


def extent(tensor: torch.Tensor) -> int:
    """Bytes from a tensor's first element to the end of its last."""
    if tensor.numel() == 0:
        return 0
    return (sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride())) + 1) * tensor.element_size()


def argument(value: object) -> Argument:
    if value is None:
        return Argument(NULL, 0, 0)
    if isinstance(value, torch.Tensor):
        assert value.device.type == "cpu"
        return Argument(BUFFER, value.data_ptr(), extent(value))
    if isinstance(value, float):
        return Argument(REAL, struct.unpack("q", struct.pack("d", value))[0], 0)
    if isinstance(value, torch.dtype):
        return Argument(INTEGER, DTYPES[value], 0)
    if isinstance(value, int):
        return Argument(INTEGER, value, 0)
    raise TypeError(f"an entry takes tensors, dtypes, numbers and None, not {type(value).__name__}")


class InProcess:
    """Modes plain and check."""

    def __init__(self, path: Path, padded_rows: bool) -> None:
        library = ctypes.CDLL(str(path))
        library.dx_report_uninitialised(int(not padded_rows))
        self._call = library.dx_call
        self._call.restype = ctypes.c_char_p
        self._call.argtypes = [ctypes.c_char_p, ctypes.POINTER(Argument), ctypes.c_int64]

    def call(self, name: str, *values: object) -> None:
        arguments = (Argument * len(values))(*map(argument, values))
        error = self._call(name.encode(), arguments, len(values))
        if error is not None:
            raise HostRunError(error.decode())


class OwnProcess:
    """Mode asan: the sanitizers cannot be loaded into a running Python."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def call(self, name: str, *values: object) -> None:
        arguments = [argument(value) for value in values]
        request = [struct.pack("q", len(name)), name.encode(), struct.pack("q", len(arguments))]
        for i, a in enumerate(arguments):
            earlier = self._same(a, arguments[:i])
            if earlier is not None:
                request.append(bytes(Argument(SAME_AS, earlier, 0)))
            else:
                request += [bytes(a), ctypes.string_at(a.value, a.bytes) if a.kind == BUFFER else b""]
        environment = {
            **os.environ,
            "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        done = subprocess.run([str(self._path)], input=b"".join(request), capture_output=True, env=environment)
        if done.returncode:
            raise HostRunError(f"{name}: {done.stderr.decode(errors='replace')[:4000]}")
        self._receive(done.stdout, arguments)

    @staticmethod
    def _same(a: Argument, earlier: Sequence[Argument]) -> int | None:
        """The number of the argument that is the same buffer. Buffers that partly overlap cannot be sent."""
        for i, other in enumerate(earlier):
            if a.kind != BUFFER or other.kind != BUFFER or not a.bytes or not other.bytes:
                continue
            if (a.value, a.bytes) == (other.value, other.bytes):
                return i
            if a.value < other.value + other.bytes and other.value < a.value + a.bytes:
                raise TypeError(f"buffers {i} and {len(earlier)} overlap")
        return None

    @staticmethod
    def _receive(answer: bytes, arguments: Sequence[Argument]) -> None:
        (length,) = struct.unpack_from("q", answer)
        at = 8 + length
        if length:
            raise HostRunError(answer[8:at].decode())
        for a in arguments:
            if a.kind == BUFFER:
                ctypes.memmove(a.value, answer[at : at + a.bytes], a.bytes)
                at += a.bytes
        assert at == len(answer)


libraries: dict[tuple[str, str], InProcess | OwnProcess] = {}


def library(op: str, mode: str) -> InProcess | OwnProcess:
    """The entries of csrc/testing/run_OP.cpp."""
    if (op, mode) not in libraries:
        path = build(op, mode)
        libraries[op, mode] = OwnProcess(path) if mode == "asan" else InProcess(path, op in PADDED_ROWS)
    return libraries[op, mode]
