"""3D Shapes, from its published file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from disentangle_ext.data.arrays import StoredData
from disentangle_ext.data.hdf5 import hdf5_dataset, hdf5_pieces, open_hdf5
from disentangle_ext.data.official import check_grid, converted, locate
from disentangle_ext.data.published import FILES
from disentangle_ext.data.shapes3d_like import FACTORS

__all__ = ["Shapes3D"]

SIZES = (10, 10, 10, 8, 4, 15)
SHAPE = (64, 64, 3)
(HDF5,) = FILES["shapes3d"]


class Shapes3D(StoredData):
    """3D Shapes: 480,000 images of 3 x 64 x 64.

    Factors: hues of floor, wall and object, 10 each; scale 8, shape 4, azimuth 15.
    On first use the file is checked and converted to plain pixels, 5.9 GB in the cache
    (:func:`disentangle_ext.data.cache.cache_folder`), which are mapped into memory from then on.

    Args:
        path: 3dshapes.h5, or the folder that holds it; the cache by default.
        download: fetch the file if it is missing.
        verify: compare the file with its published checksum.
        device: where the pixels are kept.

    Raises:
        FileNotFoundError: if the file is missing.
        OSError: if it cannot be downloaded.
        ValueError: for a file that is damaged or not the published one, named in the message.
        ImportError: without the ``data`` extra.

    Burgess and Kim, "3D Shapes Dataset", 2018.
    """

    periods: Mapping[str, int] = {"floor_hue": 10, "wall_hue": 10, "object_hue": 10}

    def __init__(
        self,
        path: Path | None = None,
        *,
        download: bool = False,
        verify: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        path = None if path is None else Path(path)
        (file,) = locate("Shapes3D", "shapes3d", [HDF5], path, fetch=download, verify=verify)
        rows = converted(
            "Shapes3D",
            "shapes3d",
            [(file, HDF5)],
            math.prod(SIZES),
            math.prod(SHAPE),
            lambda: _read(file),
            verify=verify,
        )
        super().__init__("shapes3d", FACTORS, SIZES, (SHAPE[2], *SHAPE[:2]), rows, device=device)


def _read(path: Path) -> Iterator[np.ndarray]:
    rows = math.prod(SIZES)
    with open_hdf5("Shapes3D", path) as file:
        images = hdf5_dataset("Shapes3D", path, file, "images", (rows, *SHAPE), np.uint8)
        labels = hdf5_dataset("Shapes3D", path, file, "labels", (rows, len(SIZES)), np.float64)
        values = np.concatenate(list(hdf5_pieces("Shapes3D", path, labels)))
        columns = [np.unique(column, return_inverse=True)[1].reshape(-1) for column in values.T]
        check_grid("Shapes3D", f"{path}: labels", 0, np.stack(columns, 1), SIZES)
        for piece in hdf5_pieces("Shapes3D", path, images):
            yield piece.reshape(len(piece), -1)
