"""SmallNORB, from its published files."""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from disentangle_ext._errors import MistakeError
from disentangle_ext.data.arrays import StoredData
from disentangle_ext.data.image_files import shrink
from disentangle_ext.data.official import converted, locate
from disentangle_ext.data.published import FILES
from disentangle_ext.data.untrusted import reading

__all__ = ["SmallNORB"]

FACTORS = ("category", "elevation", "azimuth", "lighting")
SIZES = (5, 9, 18, 6)
INSTANCES = 10
SIDE, SMALL = 96, 64
SOURCES = FILES["smallnorb"]
# The first word of a file says what its numbers are.
_MAGIC = {507333717: np.dtype("u1"), 507333716: np.dtype("<i4")}


class SmallNORB(StoredData):
    """SmallNORB: toys of five categories, 48,600 images of 1 x 64 x 64.

    Factors: category 5, elevation 9, azimuth 18, lighting 6.
    Training and test files together, the left of the two cameras, resized from 96 x 96 by Pillow's Lanczos filter, as
    in Locatello et al. 2019. The 10 instances of a category are no factor: row r shows instance r % 10 of combination
    r // 10 of the factors; :meth:`index` gives the row of instance 0, :meth:`sample_index` draws an instance.
    On first use the result is written to the cache, 199 MB (:func:`disentangle_ext.data.cache.cache_folder`).

    Args:
        path: the folder that holds the six files, packed (.mat.gz) or not (.mat); the cache by default.
        download: fetch the files that are missing.
        verify: compare packed files with their published checksums.
        device: where the pixels are kept.

    Raises:
        FileNotFoundError: if a file is missing.
        OSError: if one cannot be downloaded.
        ValueError: for a file that is damaged or not the published one, named in the message.
        ImportError: without the ``data`` extra.

    LeCun, Huang, Bottou, "Learning Methods for Generic Object Recognition with Invariance to Pose and Lighting", CVPR
    2004.
    """

    periods: Mapping[str, int] = {"azimuth": 18}

    def __init__(
        self,
        path: Path | None = None,
        *,
        download: bool = False,
        verify: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        path = None if path is None else Path(path)
        files = locate("SmallNORB", "smallnorb", SOURCES, path, fetch=download, verify=verify)
        rows = converted(
            "SmallNORB",
            "smallnorb",
            list(zip(files, SOURCES)),
            math.prod(SIZES) * INSTANCES,
            SMALL * SMALL,
            lambda: _read(files),
            verify=verify,
        )
        super().__init__("smallnorb", FACTORS, SIZES, (1, SMALL, SMALL), rows, device=device)

    def _classes(self, index: Tensor) -> Tensor:
        return super()._classes(index // INSTANCES)

    def _rows(self, factors: Tensor) -> Tensor:
        return super()._rows(factors) * INSTANCES

    def _sample_rows(self, factors: Tensor, generator: torch.Generator | None) -> Tensor:
        where = generator.device if generator is not None else torch.device("cpu")
        instance = torch.randint(INSTANCES, (len(factors),), generator=generator, device=where)
        return self._rows(factors) + instance.to(self.device)


def _read(files: list[Path]) -> Iterator[np.ndarray]:
    rows = math.prod(SIZES) * INSTANCES
    half = rows // 2
    grid = np.empty((rows, SMALL * SMALL), np.uint8)
    seen = np.zeros(rows, bool)
    for dat, cat, info in (files[:3], files[3:]):
        category = np.concatenate(list(_pieces(cat, (half,), np.dtype("<i4")))).astype(np.int64)
        about = np.concatenate(list(_pieces(info, (half, 4), np.dtype("<i4")))).astype(np.int64)
        place = _places(info, category, about)
        seen[place] = True
        first = 0
        for pairs in _pieces(dat, (half, 2, SIDE, SIDE), np.dtype("u1")):
            small = shrink(pairs[:, 0], SMALL)
            grid[place[first : first + len(small)]] = small.reshape(len(small), -1)
            first += len(small)
    if not seen.all():
        raise MistakeError(f"SmallNORB: {files[2]} and {files[5]} must list every combination of the factors once")
    yield grid


def _places(info: Path, category: np.ndarray, about: np.ndarray) -> np.ndarray:
    """The rows of images, from their categories [n] and their instance, elevation, azimuth and lighting [n, 4]."""
    instance, elevation, azimuth, lighting = about.T
    # Azimuth is stored in units of 10 degrees, 0 to 34.
    columns = (category, elevation, azimuth // 2, lighting, instance)
    try:
        return np.ravel_multi_index(columns, (*SIZES, INSTANCES))
    except ValueError:
        raise MistakeError(f"SmallNORB: {info} or its cat file has a factor out of range") from None


def _pieces(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[np.ndarray]:
    """The array in a file, some hundred rows at a time. The format: magic, number of dimensions, dimensions, data."""
    with reading("SmallNORB", path), _open(path) as stream:
        magic, dims = struct.unpack("<2i", stream.read(8))
        kind = _MAGIC.get(magic)
        if kind is None or not 0 < dims <= 4:
            raise MistakeError(f"SmallNORB: {path} is not in the format of NORB: it begins with {magic}, {dims}")
        sizes = struct.unpack(f"<{max(3, dims)}i", stream.read(4 * max(3, dims)))[:dims]
        if sizes != shape or kind != dtype:
            raise MistakeError(f"SmallNORB: {path} must be {list(shape)} of {dtype}, got {list(sizes)} of {kind}")
        row_bytes = math.prod(shape[1:]) * dtype.itemsize
        step = 512
        for first in range(0, shape[0], step):
            count = min(step, shape[0] - first)
            content = stream.read(count * row_bytes)
            if len(content) != count * row_bytes:
                raise EOFError(f"it ends in row {first + len(content) // row_bytes} of {shape[0]}")
            yield np.frombuffer(content, dtype).reshape(count, *shape[1:])
        if stream.read(1):
            raise MistakeError(f"SmallNORB: {path} must end after {shape[0]} rows, it does not")


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
