"""Data sets whose ground-truth factors are known."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from disentangle_ext._names import choose
from disentangle_ext.data.arrays import ArrayData, StoredData, arrays
from disentangle_ext.data.base import GroundTruthData
from disentangle_ext.data.cars3d import Cars3D
from disentangle_ext.data.digits import digits
from disentangle_ext.data.dsprites import DSprites
from disentangle_ext.data.dsprites_like import DSpritesLike
from disentangle_ext.data.faces_like import FacesLike
from disentangle_ext.data.grouped import GroupedBatch, GroupedSampler
from disentangle_ext.data.image_folder import ImageFolder
from disentangle_ext.data.mpi3d import MPI3D
from disentangle_ext.data.shapes3d import Shapes3D
from disentangle_ext.data.shapes3d_like import Shapes3DLike
from disentangle_ext.data.smallnorb import SmallNORB
from disentangle_ext.data.torus_like import TorusLike

__all__ = [
    "DATASETS",
    "MPI3D",
    "ArrayData",
    "Cars3D",
    "DSprites",
    "DSpritesLike",
    "FacesLike",
    "GroundTruthData",
    "GroupedBatch",
    "GroupedSampler",
    "ImageFolder",
    "Shapes3D",
    "Shapes3DLike",
    "SmallNORB",
    "StoredData",
    "TorusLike",
    "arrays",
    "digits",
    "load_data",
]

# By the name that --data takes.
DATASETS: dict[str, Callable[..., GroundTruthData]] = {
    "dsprites_like": DSpritesLike,
    "shapes3d_like": Shapes3DLike,
    "faces_like": FacesLike,
    "torus_like": TorusLike,
    "dsprites": DSprites,
    "shapes3d": Shapes3D,
    "cars3d": Cars3D,
    "smallnorb": SmallNORB,
    "mpi3d": MPI3D,
    "digits": digits,
    "image_folder": ImageFolder,
    "arrays": arrays,
}


def load_data(name: str, **options: Any) -> GroundTruthData:
    """The data set called ``name`` in :data:`DATASETS`, made with ``options``.

    >>> load_data("dsprites_like", variant="quick")
    DSpritesLike(dsprites_like (quick): 1,536 images of 1x32x32; scale 6, position_x 16, position_y 16)

    Raises:
        ValueError: for an unknown name or option; the nearest known one is suggested.
    """
    make = DATASETS[choose("load_data: data set", name, DATASETS)]
    for option in options:
        choose(f"load_data: option of {name}", option, inspect.signature(make).parameters)
    return make(**options)
