"""Pixels that are expensive to make, kept on disk: made once, then mapped into memory."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from disentangle_ext._errors import MistakeError
from disentangle_ext._files import replacing

__all__ = ["cache_folder", "cached_rows", "progress"]

VARIABLE = "DISENTANGLE_EXT_CACHE"


def cache_folder() -> Path:
    """The folder of downloads and cached pixels; everything in it can be deleted at any time.

    ``DISENTANGLE_EXT_CACHE``, or else ``disentangle_ext`` in ``XDG_CACHE_HOME`` or ``~/.cache``.
    """
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "disentangle_ext"


def cached_rows(file: str, rows: int, row_bytes: int, make: Callable[[], Iterable[np.ndarray]], *, what: str) -> Tensor:
    """Map a file of the cache as uint8 [rows, row_bytes]; it is written first if it is not there.

    The file is mapped into memory, so that only what is used is read, and processes share it.

    Args:
        file: its name in :func:`cache_folder`, ending in .npy; it must state all that the rows depend on.
        rows, row_bytes: its shape.
        make: yields the rows in order, in pieces [n, row_bytes]. Its errors pass through, and leave no file.
        what: names the work in the progress, for example "dsprites: converting".

    Raises:
        OSError: without enough space, or where the folder cannot be written.
        ValueError: if the file in the cache is damaged.
    """
    path = cache_folder() / file
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        need, free = rows * row_bytes, shutil.disk_usage(path.parent).free
        if need > free:
            raise OSError(
                f"{what} needs {need / 1e9:.1f} GB in {path.parent}, which has {free / 1e9:.1f} GB free: make room, or "
                f"set {VARIABLE} to another folder"
            )
        with replacing(path) as temporary, temporary.open("r+b") as out, progress(what, rows) as advance:
            header = {"descr": "|u1", "fortran_order": False, "shape": (rows, row_bytes)}
            np.lib.format.write_array_header_1_0(out, header)
            begin = out.tell()
            for piece in make():
                out.write(np.ascontiguousarray(piece).data)
                advance(len(piece))
            if out.tell() - begin != need:
                raise MistakeError(f"{what}: {need} bytes of pixels were expected, {out.tell() - begin} were made")
    try:
        # Copy on write: torch takes no read-only memory, and nothing is ever written.
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise MistakeError(f"{what}: the cached file {path} is damaged ({error}): delete it") from None
    if array.shape != (rows, row_bytes) or array.dtype != np.uint8:
        raise MistakeError(
            f"{what}: the cached file {path} is not [{rows}, {row_bytes}] of uint8, but {list(array.shape)} of "
            f"{array.dtype}: delete it"
        )
    return torch.from_numpy(array)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far slow work is, on stderr: a line that is rewritten on a terminal, a line each 10 s elsewhere.

    Nothing is printed about work that takes less than a second.

    Args:
        what: names the work.
        total: how much of it there is, in the unit that the function in the block is called with.
    """
    terminal = sys.stderr.isatty()
    begun = time.monotonic()
    said = begun + 1.0
    done, shown = 0, False

    def say(end: str) -> None:
        nonlocal shown
        shown = True
        share = done / max(total, 1)
        left = (time.monotonic() - begun) * (1 - share) / max(share, 1e-9)
        text = f"{what}: {100 * share:3.0f} %" + (f", {left:.0f} s left " if done < total else " " * 12)
        print(f"\r{text}" if terminal else text.rstrip(), end=end, file=sys.stderr, flush=True)

    def advance(amount: int) -> None:
        nonlocal done, said
        done += amount
        now = time.monotonic()
        if now >= said and done < total:
            said = now + (0.2 if terminal else 10.0)
            say("" if terminal else "\n")

    try:
        yield advance
    finally:
        if shown:
            say("\n")
