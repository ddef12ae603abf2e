"""Published files on this machine: finding or fetching them, telling whether they are intact, converting them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from disentangle_ext._errors import MistakeError
from disentangle_ext.data.cache import cache_folder, cached_rows, progress
from disentangle_ext.data.download import download
from disentangle_ext.data.published import FILES, Source
from disentangle_ext.data.untrusted import PIECE


def locate(
    owner: str, name: str, sources: Sequence[Source], path: Path | None, *, fetch: bool, verify: bool
) -> list[Path]:
    """The files of a data set on this machine, downloaded first if that is asked for.

    Args:
        owner: begins an error.
        name: the name of the data set: without ``path`` its files lie in a folder of this name in the cache.
        sources: the files. One that ends in .gz may also lie there without that ending.
        path: the folder that holds them; or the file, where there is one.
        fetch: download those that are missing.
        verify: compare what is downloaded with its published checksum.

    Raises:
        FileNotFoundError: if a file is missing.
        OSError: if a download fails, or has another checksum.
    """
    if path is not None and path.is_file():
        if len(sources) > 1:
            raise MistakeError(f"{owner}: path must be the folder of the {len(sources)} files, got the file {path}")
        return [path]
    folder = cache_folder() / name if path is None else path
    found = []
    for source in sources:
        there = find(folder, source)
        if there is None and not (fetch and source.mirrors):
            remedy = "give path, or download=True (--data-path and --data-download on the command line)"
            if not source.mirrors:
                remedy = f"fetch it by hand from {source.page} and give path (--data-path on the command line)"
            raise FileNotFoundError(f"{owner}: there is no {source.file} in {folder}: {remedy}")
        found.append(there or download(owner, source, folder, verify=verify))
    return found


def find(folder: Path, source: Source) -> Path | None:
    """The file in a folder, packed or unpacked, if it is there."""
    names = dict.fromkeys([source.file, source.file.removesuffix(".gz")])
    return next((folder / each for each in names if (folder / each).is_file()), None)


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
    if is_checkable(path, source):
        problem = problem_of(path, source, remedy="; verify=False reads it all the same")
        if problem:
            raise MistakeError(f"{owner}: {path} {problem}")


def is_checkable(path: Path, source: Source) -> bool:
    """Whether a checksum is published for the file, and not for the packed one that it came out of."""
    return source.checksum is not None and (path.suffix == ".gz" or not source.file.endswith(".gz"))


def problem_of(path: Path, source: Source, *, remedy: str = "") -> str:
    """What is wrong with a file whose checksum is published: that it is another published one, or damaged; or nothing.

    Args:
        path: the file.
        source: what it should be.
        remedy: what can be done with one that is damaged; ends the sentence.
    """
    kind, expected = str(source.checksum).split(":")
    found = {kind: _digest(path, kind)}
    if found[kind] == expected:
        return ""
    known = {each.checksum: each.file for sources in FILES.values() for each in sources}
    for other in ("md5", "sha256"):
        found.setdefault(other, _digest(path, other))
    is_other = next((known[f"{kind}:{digest}"] for kind, digest in found.items() if f"{kind}:{digest}" in known), "")
    return (
        f"has {kind.upper()} {found[kind]}, expected {expected}: it is "
        f"{is_other or f'damaged, incomplete or not the published file{remedy}'}"
    )


def _digest(path: Path, kind: str) -> str:
    digest = hashlib.new(kind)
    with path.open("rb") as file, progress(f"{path.name}: checking", path.stat().st_size) as advance:
        while piece := file.read(PIECE):
            digest.update(piece)
            advance(len(piece))
    return digest.hexdigest()


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
