"""Published files: where they are, whether they are intact, and reading them without trusting them."""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from disentangle_ext._errors import MistakeError
from disentangle_ext.data.cache import cache_folder, cached_rows, progress, replacing
from disentangle_ext.data.untrusted import PIECE


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
            raise MistakeError(f"{owner}: path must be the folder of the {len(sources)} files, got the file {path}")
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
        raise MistakeError(
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


def check_grid(owner: str, where: str, first: int, classes: np.ndarray, sizes: Sequence[int]) -> None:
    """Compare the factor classes [n, K] of the rows from ``first`` on with the grid in C order.

    Raises:
        ValueError: if they differ.
    """
    rows = np.arange(first, first + len(classes))
    wrong = (np.stack(np.unravel_index(rows, tuple(sizes)), 1) != classes).any(1)
    if wrong.any():
        row = int(rows[wrong][0])
        raise MistakeError(
            f"{owner}: {where} must list the factors in C order of their grid {list(sizes)}; row {row} has "
            f"{classes[wrong][0].tolist()}"
        )
