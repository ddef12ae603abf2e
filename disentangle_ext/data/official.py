"""Published files: where they are, whether they are intact, and reading them without trusting them."""

from __future__ import annotations

import hashlib
import struct
import tarfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from torch import Tensor

from disentangle_ext._extras import require
from disentangle_ext.data.cache import cache_folder, cached_rows, progress, replacing

PIECE = 1 << 24
"""About how many bytes are read at a time."""


@dataclass(frozen=True)
class Source:
    """A published file."""

    file: str
    """its name"""
    url: str
    """where it is published"""
    checksum: str | None
    """"md5:..." or "sha256:...", None where none is published"""


def locate(
    owner: str, name: str, sources: Sequence[Source], path: Path | None, *, download: bool, verify: bool
) -> list[Path]:
    """The files of a data set on this machine, downloaded first if that is asked for.

    Args:
        owner: begins an error.
        name: of the data set: without ``path`` its files lie in a folder of this name in the cache.
        sources: the files. One that ends in .gz may also lie there without that ending.
        path: the folder that holds them; or the file, where there is one.
        download: fetch those that are missing.
        verify: check what is downloaded against its published checksum.

    Raises:
        FileNotFoundError: if a file is missing.
        OSError: if a download fails.
        ValueError: if a download has another checksum.
    """
    if path is not None and path.is_file():
        if len(sources) > 1:
            raise ValueError(f"{owner}: path must be the folder of the {len(sources)} files, got the file {path}")
        return [path]
    folder = cache_folder() / name if path is None else path
    found = []
    for source in sources:
        names = dict.fromkeys([source.file, source.file.removesuffix(".gz")])
        there = [folder / each for each in names if (folder / each).is_file()]
        if not there and not download:
            raise FileNotFoundError(
                f"{owner}: there is no {source.file} in {folder}: give path, or download=True (--data-path and "
                "--data-download on the command line)"
            )
        if not there:
            there = [folder / source.file]
            _download(owner, source, there[0], verify)
        found.append(there[0])
    return found


def converted(
    owner: str,
    name: str,
    files: Sequence[tuple[Path, Source]],
    rows: int,
    row_bytes: int,
    make: Callable[[], Iterable[np.ndarray]],
    *,
    verify: bool,
) -> Tensor:
    """The pixels of published files as uint8 [rows, row_bytes], converted on first use; see :func:`cached_rows`.

    Checksums are compared before a conversion, not on every use of its result.
    """
    state = [name, verify, rows, row_bytes]
    for path, _ in files:
        status = path.stat()
        state += [str(path.resolve()), status.st_size, status.st_mtime_ns]
    key = hashlib.sha256(repr(state).encode()).hexdigest()[:16]

    def checked() -> Iterable[np.ndarray]:
        for path, source in files:
            if verify:
                check(owner, path, source)
        yield from make()

    return cached_rows(f"{name}/{key}.npy", rows, row_bytes, checked, what=f"{name}: converting {files[0][0].name}")


def check(owner: str, path: Path, source: Source) -> None:
    """Compare a file with its published checksum; one that was unpacked, or has none published, is taken as it is.

    Raises:
        ValueError: if they differ.
    """
    if source.checksum is None or (source.file.endswith(".gz") and path.suffix != ".gz"):
        return
    kind, expected = source.checksum.split(":")
    digest = hashlib.new(kind)
    with path.open("rb") as file, progress(f"{path.name}: checking", path.stat().st_size) as advance:
        while piece := file.read(PIECE):
            digest.update(piece)
            advance(len(piece))
    if digest.hexdigest() != expected:
        raise ValueError(
            f"{owner}: {path} has {kind.upper()} {digest.hexdigest()}, expected {expected}: it is damaged, incomplete "
            "or not the published file; verify=False reads it all the same"
        )


def _download(owner: str, source: Source, path: Path, verify: bool) -> None:
    with replacing(path) as temporary:
        try:
            with urllib.request.urlopen(source.url, timeout=60) as answer, temporary.open("wb") as out:
                size = int(answer.headers.get("Content-Length") or 0)
                with progress(f"{source.file}: downloading", size) as advance:
                    while piece := answer.read(1 << 20):
                        out.write(piece)
                        advance(len(piece))
        except OSError as error:
            raise OSError(f"{owner}: cannot download {source.url}: {error}") from None
        if size and temporary.stat().st_size != size:
            raise OSError(f"{owner}: {source.url} ended after {temporary.stat().st_size} of {size} bytes")
        if verify:
            check(owner, temporary, Source(temporary.name, source.url, source.checksum))


@contextmanager
def reading(owner: str, path: Path) -> Iterator[None]:
    """Turns what a damaged file makes its reader raise into one error that names the file."""
    damage = (OSError, EOFError, zlib.error, struct.error, zipfile.BadZipFile, tarfile.TarError, NotImplementedError)
    try:
        yield
    except damage as error:
        text = str(error) or type(error).__name__
        raise ValueError(f"{owner}: {path} is truncated, damaged or of another format: {text}") from None


def npz_pieces(
    owner: str, path: Path, key: str, shape: tuple[int, ...], dtype: type[np.generic]
) -> Iterator[np.ndarray]:
    """The array ``key`` of an .npz file, a few megabytes of rows at a time, without unpickling anything.

    Raises:
        ValueError: for an array that is missing or not as expected, and for a damaged file.
    """
    row_bytes = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
    step = max(1, PIECE // row_bytes)
    with reading(owner, path), zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if key not in names:
            raise ValueError(f"{owner}: {path} must hold an array {key!r}, it holds {', '.join(names) or 'nothing'}")
        with archive.open(f"{key}.npy") as stream:
            _check_npy_header(owner, f"{path}: {key}", stream, shape, dtype)
            for first in range(0, shape[0], step):
                count = min(step, shape[0] - first)
                content = stream.read(count * row_bytes)
                if len(content) != count * row_bytes:
                    raise EOFError(f"{key} ends early")
                yield np.frombuffer(content, dtype).reshape(count, *shape[1:])
            stream.read(1)  # reaches the end, where zipfile compares the CRC


def _check_npy_header(
    owner: str, where: str, stream: IO[bytes], shape: tuple[int, ...], dtype: type[np.generic]
) -> None:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        got_shape, fortran, got_dtype = read(stream)
    except (ValueError, SyntaxError, TypeError) as error:
        raise ValueError(f"{owner}: {where} is no array of NumPy's format: {error}") from None
    if got_dtype.hasobject:
        raise ValueError(f"{owner}: {where} is a pickled array, which is never read; expected {np.dtype(dtype)}")
    check_array(owner, where, got_shape, got_dtype, shape, dtype)
    if fortran:
        raise ValueError(f"{owner}: {where} must be in C order, got Fortran order")


def check_array(
    owner: str, where: str, got_shape: Sequence[int], got_dtype: Any, shape: Sequence[int], dtype: type[np.generic]
) -> None:
    """Compare an array's shape and type with what is expected.

    Raises:
        ValueError: if they differ.
    """
    if tuple(got_shape) != tuple(shape) or np.dtype(got_dtype) != np.dtype(dtype):
        raise ValueError(
            f"{owner}: {where} must be {list(shape)} of {np.dtype(dtype)}, got {list(got_shape)} of {got_dtype}"
        )


def check_grid(owner: str, where: str, first: int, classes: np.ndarray, sizes: Sequence[int]) -> None:
    """Compare the factor classes [n, K] of the rows from ``first`` on with the grid in C order.

    Raises:
        ValueError: if they differ.
    """
    rows = np.arange(first, first + len(classes))
    wrong = (np.stack(np.unravel_index(rows, tuple(sizes)), 1) != classes).any(1)
    if wrong.any():
        row = int(rows[wrong][0])
        raise ValueError(
            f"{owner}: {where} must list the factors in C order of their grid {list(sizes)}; row {row} has "
            f"{classes[wrong][0].tolist()}"
        )


def open_hdf5(owner: str, path: Path) -> Any:
    """An h5py.File, with an error that names the file where it is none."""
    h5py = require("h5py", extra="data", what=owner)
    with reading(owner, path):
        return h5py.File(path, "r")


def hdf5_dataset(
    owner: str, path: Path, file: Any, key: str, shape: tuple[int, ...], dtype: type[np.generic]
) -> Any:
    """The dataset ``key``, whose bytes lie in the file itself.

    Raises:
        ValueError: if it is missing, not as expected, or refers to another file.
    """
    with reading(owner, path):
        link = file.get(key, getlink=True)
        kind = type(link).__name__
        dataset = file[key] if kind == "HardLink" else None
        if dataset is None or not hasattr(dataset, "shape"):
            raise ValueError(f"{owner}: {path} must hold a dataset {key!r}, it holds {', '.join(file) or 'nothing'}")
        # The last too: a group on the way to it may be a link to another file.
        if dataset.external is not None or dataset.is_virtual or dataset.file.filename != file.filename:
            raise ValueError(f"{owner}: {path}: {key} must lie in this file, it refers to another")
        check_array(owner, f"{path}: {key}", dataset.shape, dataset.dtype, shape, dtype)
        return dataset


def hdf5_pieces(owner: str, path: Path, dataset: Any) -> Iterator[np.ndarray]:
    """The rows of a dataset, a few megabytes at a time."""
    step = max(1, PIECE // max(1, int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize))
    for first in range(0, dataset.shape[0], step):
        with reading(owner, path):
            piece = dataset[first : first + step]
        yield piece
