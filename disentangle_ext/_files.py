"""Writing files so that a full disk, a power cut or a killed process costs nothing that was there before."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["WriteError", "append_line", "is_partial", "remove", "remove_partial_files", "replacing", "write_atomically"]

_PARTIAL = ".partial"


class WriteError(OSError):
    """A file could not be written: it is as it was before, or, if only the folder's entry failed, complete.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, cause: OSError) -> None:
        super().__init__(cause.errno, cause.strerror or str(cause))
        self.path = path

    def __str__(self) -> str:
        return f"cannot write {self.path}: {self.strerror}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Make an empty file to write to that becomes ``path`` at the end of the block, or vanishes with an error in it.

    Its name cannot be foretold, so two processes do not write into one file, and nobody can have put a link in its
    place. The content is on the disk before the name is: otherwise a power cut could leave the name with an empty file.
    The folder is synchronised after it, so that what is removed in the belief that the new file is there stays until it
    is.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_PARTIAL}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        try:
            yield temporary
            os.fsync(descriptor)  # of the file, through whichever descriptor it was written
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    finally:
        remove(temporary)
    _synchronise(path.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that ``path`` holds the old content or the new, whatever happens on the way.

    Raises:
        WriteError: if the disk is full, the folder cannot be written, and so on.
    """
    try:
        with replacing(path) as temporary, temporary.open("r+b", buffering=0) as file:
            _write_all(file.fileno(), content)
    except OSError as error:
        raise WriteError(path, error) from error


def remove_partial_files(folder: Path) -> None:
    """Remove what processes that were killed while they wrote have left in ``folder``."""
    for path in folder.glob(f".*{_PARTIAL}"):
        remove(path)


def is_partial(path: Path) -> bool:
    """Whether a process that was killed while it wrote has left this file."""
    return path.name.startswith(".") and path.name.endswith(_PARTIAL)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file, all of it or nothing.

    Raises:
        WriteError: as :func:`write_atomically`.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, (line + "\n").encode())
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise WriteError(path, error) from error


def remove(path: Path) -> None:
    """Remove a file if it is there, and leave it where that cannot be done: it is of no more use.

    A file system that copies on write can be too full to remove a file; cutting the file short first makes room.
    """
    for attempt in (path.unlink, lambda: os.truncate(path, 0), path.unlink):
        try:
            attempt()
        except FileNotFoundError:
            return
        except OSError:
            continue
        if not os.path.lexists(path):
            return


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _synchronise(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of file systems that synchronise no folders
            raise
    finally:
        os.close(descriptor)
