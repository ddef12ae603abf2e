"""HDF5 files, read without following a reference out of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext._extras import require
from disentangle_ext.data.untrusted import PIECE, check_array, listed, reading

# What h5py raises for a file that is not whole.
_DAMAGE = (KeyError, TypeError, ValueError)


def open_hdf5(owner: str, path: Path) -> Any:
    """An h5py.File, with an error that names the file where it is none."""
    h5py = require("h5py", extra="data", what=owner)
    with reading(owner, path, *_DAMAGE):
        return h5py.File(path, "r")


def hdf5_dataset(owner: str, path: Path, file: Any, key: str, shape: tuple[int, ...], dtype: type[np.generic]) -> Any:
    """The dataset ``key``, whose bytes lie in the file itself.

    Raises:
        ValueError: if it is missing, not as expected, or refers to another file.
    """
    with reading(owner, path, *_DAMAGE):
        link = file.get(key, getlink=True)
        kind = type(link).__name__
        dataset = file[key] if kind == "HardLink" else None
        if dataset is None or not hasattr(dataset, "shape"):
            raise MistakeError(f"{owner}: {path} must hold a dataset {key!r}, it holds {listed(file)}")
        # The last too: a group on the way to it may be a link to another file.
        if dataset.external is not None or dataset.is_virtual or dataset.file.filename != file.filename:
            raise MistakeError(f"{owner}: {path}: {key} must lie in this file, it refers to another")
        if dataset.shape is None:
            raise MistakeError(f"{owner}: {path}: {key} must be {list(shape)} of {np.dtype(dtype)}, it is empty")
        check_array(owner, f"{path}: {key}", dataset.shape, dataset.dtype, shape, dtype)
        return dataset


def hdf5_pieces(owner: str, path: Path, dataset: Any) -> Iterator[np.ndarray]:
    """The rows of a dataset, a few megabytes at a time."""
    step = max(1, PIECE // max(1, int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize))
    for first in range(0, dataset.shape[0], step):
        with reading(owner, path, *_DAMAGE):
            piece = dataset[first : first + step]
        yield piece
