"""MPI3D, from its published files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from disentangle_ext._names import choose
from disentangle_ext.data.arrays import StoredData
from disentangle_ext.data.npy import npz_pieces
from disentangle_ext.data.official import converted, locate
from disentangle_ext.data.published import FILES

__all__ = ["MPI3D"]

FACTORS = ("color", "shape", "size", "camera", "background", "horizontal", "vertical")
SIZES = {
    "toy": (6, 6, 2, 3, 3, 40, 40),
    "realistic": (6, 6, 2, 3, 3, 40, 40),
    "real": (6, 6, 2, 3, 3, 40, 40),
    "real_complex": (4, 4, 2, 3, 3, 40, 40),
}
SHAPE = (64, 64, 3)
SOURCES = dict(zip(SIZES, FILES["mpi3d"]))


class MPI3D(StoredData):
    """MPI3D: a robot arm that holds an object, 3 x 64 x 64, drawn or photographed.

    ============ ====================================================================================== =========
    variant      factors and classes                                                                    images
    ============ ====================================================================================== =========
    toy          color 6, shape 6, size 2, camera 3, background 3, horizontal 40, vertical 40; drawn    1,036,800
    realistic    the same, drawn realistically                                                          1,036,800
    real         the same, photographed                                                                 1,036,800
    real_complex color 4, shape 4 (everyday objects), and the rest as above; photographed, no checksum  460,800
    ============ ====================================================================================== =========

    The file of real_complex, real3d_complicated_shapes_ordered.npz, has to be fetched by hand from Google Drive.
    An .npz cannot be mapped into memory: on first use it is checked and converted to plain pixels, 12.7 GB in the cache
    (:func:`disentangle_ext.data.cache.cache_folder`), which are mapped from then on.

    Args:
        path: the file, or the folder that holds it; the cache by default.
        variant: "toy", "realistic", "real" or "real_complex".
        download: fetch the file if it is missing, all but that of real_complex.
        verify: compare the file with its published checksum.
        device: where the pixels are kept.

    Raises:
        FileNotFoundError: if the file is missing.
        OSError: if it cannot be downloaded.
        ValueError: for an unknown variant, or a file that is damaged or not the published one.

    Gondal et al., "On the Transfer of Inductive Bias from Simulation to the Real World: a New Disentanglement
    Dataset", NeurIPS 2019 (arXiv 1906.03292).
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        variant: str = "toy",
        download: bool = False,
        verify: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        self.variant = choose("MPI3D: variant", variant, SIZES)
        source, sizes = SOURCES[variant], SIZES[variant]
        path = None if path is None else Path(path)
        (file,) = locate("MPI3D", "mpi3d", [source], path, fetch=download, verify=verify)
        rows = converted(
            "MPI3D",
            "mpi3d",
            [(file, source)],
            math.prod(sizes),
            math.prod(SHAPE),
            lambda: _read(file, math.prod(sizes)),
            verify=verify,
        )
        super().__init__(f"mpi3d ({variant})", FACTORS, sizes, (SHAPE[2], *SHAPE[:2]), rows, device=device)


def _read(path: Path, rows: int) -> Iterator[np.ndarray]:
    for piece in npz_pieces("MPI3D", path, "images", (rows, *SHAPE), np.uint8):
        yield piece.reshape(len(piece), -1)
