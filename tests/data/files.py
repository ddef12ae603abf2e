"""Small files in the layouts of the published ones, and what can be wrong with them."""

from __future__ import annotations

import math
import os

import h5py
import numpy as np

RNG = np.random.default_rng(0)


def grid(*sizes):
    """The factor classes of a full grid in C order: [n, K]."""
    return np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes), 1)


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, where):
        self.where = str(where)

    def __reduce__(self):
        return os.mkdir, (self.where,)


def save_npz(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def save_hdf5(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return path


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def damage(path, how):
    content = path.read_bytes()
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = b""
    elif how == "a page":
        content = b"<!DOCTYPE html><html>404</html>" * 100
    elif how == "a flipped byte":
        middle = len(content) // 2
        content = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    path.write_bytes(content)
