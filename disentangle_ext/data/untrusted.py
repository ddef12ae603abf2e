"""What every reader of a file from elsewhere does: say in one line what is wrong with it, and believe nothing."""

from __future__ import annotations

import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from disentangle_ext._errors import MistakeError

PIECE = 1 << 24
"""About how many bytes are read at a time."""
# What the standard library raises for a file that is not whole, or encrypted.
_DAMAGE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    RuntimeError,
    UnicodeDecodeError,
    zlib.error,
    struct.error,
    zipfile.BadZipFile,
    tarfile.TarError,
)


@contextmanager
def reading(owner: str, path: Path, *more: type[Exception]) -> Iterator[None]:
    """Turns what a damaged file makes its reader raise into one error that names the file.

    Args:
        owner: begins the error.
        path: the file.
        more: what this reader raises beside the errors of the standard library.

    Raises:
        ValueError: for a damaged file.
    """
    try:
        yield
    except MistakeError:
        raise
    except _DAMAGE + more as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise MistakeError(f"{owner}: {path} is truncated, damaged or of another format: {text}") from None


def check_array(
    owner: str, where: str, got_shape: Sequence[int], got_dtype: Any, shape: Sequence[int], dtype: type[np.generic]
) -> None:
    """Compare an array's shape and type with what is expected.

    Raises:
        ValueError: if they differ.
    """
    if tuple(got_shape) != tuple(shape) or np.dtype(got_dtype) != np.dtype(dtype):
        raise MistakeError(
            f"{owner}: {where} must be {list(shape)} of {np.dtype(dtype)}, got {list(got_shape)} of {got_dtype}"
        )


def listed(names: Iterable[str | bytes]) -> str:
    """The names that a file holds, for an error: on one line, whatever they are."""
    shown = [str(name) if str(name).isprintable() else repr(name) for name in names]
    more = f" and {len(shown) - 10} more" if len(shown) > 10 else ""
    return ", ".join(name[:80] for name in shown[:10]) + more or "nothing"
