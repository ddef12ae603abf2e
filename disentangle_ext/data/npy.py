"""NumPy's files, read without unpickling anything, and without believing what a header says."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext.data.untrusted import PIECE, check_array, listed, reading


def read_arrays(owner: str, path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the arrays of these names from an .npz file, or, under the first of them, the array of an .npy file.

    What else there is in an .npz is not unpacked.

    Args:
        owner: begins an error.
        path: the file.
        names: the names of the arrays. The first must be there.

    Raises:
        ValueError: for a file that is damaged, lacks the first array, or holds less than its header says.
    """
    with reading(owner, path), path.open("rb") as file:
        is_archive = file.read(2) == b"PK"
        file.seek(0)
        if not is_archive:
            return {names[0]: _read_array(owner, str(path), file, path.stat().st_size)}
        with zipfile.ZipFile(file) as archive:
            members = _members(owner, path, archive, names[0])
            found = {}
            for name in names:
                if name in members:
                    with archive.open(members[name]) as stream:
                        found[name] = _read_array(owner, f"{path}: {name}", stream, members[name].file_size)
            return found


def npz_pieces(
    owner: str, path: Path, key: str, shape: tuple[int, ...], dtype: type[np.generic]
) -> Iterator[np.ndarray]:
    """Read the array ``key`` of an .npz file, a few megabytes of rows at a time, without unpickling anything.

    Raises:
        ValueError: for an array that is missing or not as expected, and for a damaged file.
    """
    row_bytes = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
    step = max(1, PIECE // row_bytes)
    with ExitStack() as stack:
        stack.enter_context(reading(owner, path))
        archive = stack.enter_context(zipfile.ZipFile(path))
        stream = stack.enter_context(archive.open(_members(owner, path, archive, key)[key]))
        where = f"{path}: {key}"
        got_shape, fortran, got_dtype = _read_header(owner, where, stream)
        check_array(owner, where, got_shape, got_dtype, shape, dtype)
        if fortran:
            raise MistakeError(f"{owner}: {where} must be in C order, got Fortran order")
        for first in range(0, shape[0], step):
            count = min(step, shape[0] - first)
            content = stream.read(count * row_bytes)
            if len(content) != count * row_bytes:
                raise EOFError(f"{key} ends early")
            yield np.frombuffer(content, dtype).reshape(count, *shape[1:])
        stream.read(1)  # reaches the end, where zipfile compares the CRC


def _members(owner: str, path: Path, archive: zipfile.ZipFile, needed: str) -> dict[str, zipfile.ZipInfo]:
    members = {
        each.filename.removesuffix(".npy"): each for each in archive.infolist() if each.filename.endswith(".npy")
    }
    if needed not in members:
        raise MistakeError(f"{owner}: {path} must hold an array {needed!r}, it holds {listed(members)}")
    return members


def _read_array(owner: str, where: str, stream: IO[bytes], size: int) -> np.ndarray:
    """Read the array in a stream of ``size`` bytes; memory is taken only for what can be there."""
    shape, fortran, dtype = _read_header(owner, where, stream)
    need, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if need != held:
        raise MistakeError(f"{owner}: {where} says {list(shape)} of {dtype}, {need} bytes, but holds {held} bytes")
    try:
        content = np.empty(need, np.uint8)
    except MemoryError:
        raise MistakeError(f"{owner}: {where} needs {need / 1e9:.1f} GB of memory, which there is not") from None
    for first in range(0, need, PIECE):
        piece = stream.read(min(PIECE, need - first))
        content[first : first + len(piece)] = np.frombuffer(piece, np.uint8)
        if len(piece) < min(PIECE, need - first):
            raise EOFError(f"it ends after {first + len(piece)} of {need} bytes")
    return np.ndarray(shape, dtype, content.data, order="F" if fortran else "C")


def _read_header(owner: str, where: str, stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        if any(isinstance(side, bool) or side < 0 for side in shape):
            raise ValueError(f"shape is not valid: {shape}")
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile):
        raise
    except Exception as error:  # the header is an expression in Python: whatever becomes of evaluating it
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise MistakeError(f"{owner}: {where} is no array of NumPy's format: {text}") from None
    if dtype.hasobject:
        raise MistakeError(f"{owner}: {where} is a pickled array, which is never read")
    return shape, fortran, dtype
