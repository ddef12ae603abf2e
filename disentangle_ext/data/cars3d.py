"""Cars3D, from its published archive."""

from __future__ import annotations

import io
import math
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from disentangle_ext._errors import MistakeError
from disentangle_ext._extras import require
from disentangle_ext.data.arrays import StoredData
from disentangle_ext.data.image_files import shrink
from disentangle_ext.data.official import converted, locate
from disentangle_ext.data.published import FILES, Source
from disentangle_ext.data.untrusted import check_array, listed, reading

__all__ = ["Cars3D"]

FACTORS = ("elevation", "azimuth", "object")
SIZES = (4, 24, 183)
MESH = (128, 128, 3, 24, 4)
SIDE = 64
(TAR,) = FILES["cars3d"]
LIST = "list.txt"


class Cars3D(StoredData):
    """Cars3D: 183 car models from 24 azimuths and 4 elevations, 17,568 images of 3 x 64 x 64.

    Read from the published archive, which is not unpacked for it, or from its folder ``data/cars``. Objects are in the
    order of list.txt; images are resized from 128 x 128 by Pillow's Lanczos filter, as in Locatello et al. 2019. On
    first use the result is written to the cache, 216 MB (:func:`disentangle_ext.data.cache.cache_folder`).

    Args:
        path: the archive, the folder that holds it, or the unpacked folder that holds list.txt; the cache by default.
        download: fetch the archive if it is missing.
        verify: compare the archive with its published checksum.
        device: where the pixels are kept.

    Raises:
        FileNotFoundError: if the archive is missing.
        OSError: if it cannot be downloaded.
        ValueError: for a file that is damaged or not the published one, named in the message.
        ImportError: without the ``data`` extra.

    Reed, Zhang, Zhang, Lee, "Deep Visual Analogy-Making", NeurIPS 2015.
    """

    periods: Mapping[str, int] = {"azimuth": 24}

    def __init__(
        self,
        path: Path | None = None,
        *,
        download: bool = False,
        verify: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        path = None if path is None else Path(path)
        if path is not None and (path / LIST).is_file():
            files = [(file, Source(file.name, ())) for file in (path / LIST, *sorted(path.glob("*.mat")))]
            cars = _read_folder
        else:
            files = [(locate("Cars3D", "cars3d", [TAR], path, fetch=download, verify=verify)[0], TAR)]
            cars = _read_archive
        rows = converted(
            "Cars3D",
            "cars3d",
            files,
            math.prod(SIZES),
            SIDE * SIDE * 3,
            lambda: _in_grid_order(cars(files[0][0])),
            verify=verify,
        )
        super().__init__("cars3d", FACTORS, SIZES, (3, SIDE, SIDE), rows, device=device)


def _in_grid_order(cars: Iterator[tuple[int, np.ndarray]]) -> Iterator[np.ndarray]:
    """The rows, from (object, uint8 [elevation, azimuth, row bytes]) in any order."""
    grid = np.empty((*SIZES, SIDE * SIDE * 3), np.uint8)
    for place, car in cars:
        grid[:, :, place] = car
    yield grid.reshape(math.prod(SIZES), -1)


def _read_folder(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    names = _names(path, path.read_bytes())
    for place, name in enumerate(names):
        file = path.parent / f"{name}.mat"
        with reading("Cars3D", file):
            content = file.read_bytes()
        yield place, _car(str(file), content)


def _read_archive(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    with reading("Cars3D", path):
        names = None
        for name, content in _members(path, lambda name: name.endswith(f"cars/{LIST}")):
            names = _names(f"{path}: {name}", content)
        if names is None:
            raise MistakeError(f"Cars3D: {path} must hold cars/{LIST}, it does not")
        places = {f"{name}.mat": place for place, name in enumerate(names)}
        for name, content in _members(path, lambda name: name.endswith(".mat") and "cars/" in name):
            place = places.pop(name.rpartition("/")[2], None)
            if place is not None:
                yield place, _car(f"{path}: {name}", content)
        if places:
            raise MistakeError(f"Cars3D: {path} must hold {next(iter(places))}, which its {LIST} names, it does not")


def _members(path: Path, wanted: Any) -> Iterator[tuple[str, bytes]]:
    """The names and contents of the wanted files of an archive; nothing is written, so a name is only a name."""
    limit = 2 * math.prod(MESH) * 8
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            if member.isfile() and wanted(member.name):
                if member.size > limit:
                    raise MistakeError(f"Cars3D: {path}: {member.name} has {member.size} bytes, too many for a car")
                stream = archive.extractfile(member)
                yield member.name, stream.read() if stream else b""


def _names(where: Any, content: bytes) -> list[str]:
    names = [line.strip().removesuffix(".mat") for line in content.decode("utf-8", "replace").splitlines()]
    names = [name for name in names if name]
    if len(names) != SIZES[2] or len(set(names)) != SIZES[2] or any("/" in name or "\\" in name for name in names):
        raise MistakeError(f"Cars3D: {where} must list {SIZES[2]} different names, it lists {len(names)}")
    return names


def _car(where: str, content: bytes) -> np.ndarray:
    """One car as uint8 [elevation, azimuth, row bytes]."""
    scipy_io = require("scipy.io", extra="data", what="Cars3D")
    try:
        heads = {name: (shape, kind) for name, shape, kind in scipy_io.whosmat(io.BytesIO(content))}
        if "im" not in heads:
            raise MistakeError(f"it must hold an array 'im', it holds {listed(heads)}")
        check_array("Cars3D", where, heads["im"][0], heads["im"][1], MESH, np.uint8)
        mesh = scipy_io.loadmat(io.BytesIO(content), variable_names=["im"])["im"]
    except Exception as error:  # whatever a reader of an old format makes of a damaged file
        text = str(error) or type(error).__name__
        raise MistakeError(text if where in text else f"Cars3D: {where} cannot be read: {text}") from None
    check_array("Cars3D", where, mesh.shape, mesh.dtype, MESH, np.uint8)
    images = mesh.transpose(4, 3, 0, 1, 2).reshape(-1, *MESH[:3])
    return shrink(np.ascontiguousarray(images), SIDE).reshape(SIZES[0], SIZES[1], -1)
