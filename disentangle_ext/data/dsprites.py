"""dSprites, from its published file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from disentangle_ext._errors import MistakeError
from disentangle_ext.data.dsprites_like import FACTORS
from disentangle_ext.data.hdf5 import hdf5_dataset, hdf5_pieces, open_hdf5
from disentangle_ext.data.npy import npz_pieces
from disentangle_ext.data.official import check_grid, converted, locate
from disentangle_ext.data.pixels import gather_pixels
from disentangle_ext.data.published import FILES
from disentangle_ext.data.sprites import SpriteData

__all__ = ["DSprites"]

SIZES = (3, 6, 40, 32, 32)
FRAME = 64
NPZ, HDF5 = FILES["dsprites"]


class DSprites(SpriteData):
    """dSprites: 737,280 binary images of 64 x 64, factors shape 3, scale 6, orientation 40, position 32 x 32.

    Read from the published .npz or .hdf5. On first use the file is checked and converted to one bit a pixel, 377 MB in
    the cache (:func:`disentangle_ext.data.cache.cache_folder`), which is mapped into memory from then on. The pickled
    metadata in the .npz is never read. Orientation classes 0 and 39 are the same images, as in the file.

    Args:
        path: the file, or the folder that holds it; the cache by default.
        download: fetch the file if it is missing.
        verify: compare the file with its published checksum.
        effect: "none", "color", "noisy" or "texture".
        texture: an image file for effect "texture"; one drawn by formula without it.
        device: where the pixels are kept.

    Raises:
        FileNotFoundError: if the file is missing.
        OSError: if it cannot be downloaded.
        ValueError: for a file that is damaged or not the published one, named in the message.

    Matthey, Higgins, Hassabis, Lerchner, "dSprites: Disentanglement testing Sprites dataset", 2017.
    """

    periods: Mapping[str, int] = {"orientation": 39}  # classes 0 and 39 are the same images

    def __init__(
        self,
        path: Path | None = None,
        *,
        download: bool = False,
        verify: bool = True,
        effect: str = "none",
        texture: Path | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        size = (FRAME, FRAME)
        super().__init__("dsprites", FACTORS, SIZES, size, effect=effect, texture=texture, device=device)
        path = None if path is None else Path(path)
        is_hdf5 = path is not None and (path.suffix == ".hdf5" or (path / HDF5.file).is_file())
        source, read = (HDF5, _from_hdf5) if is_hdf5 else (NPZ, _from_npz)
        (file,) = locate("DSprites", "dsprites", [source], path, fetch=download, verify=verify)
        rows, row_bytes = math.prod(SIZES), FRAME * FRAME // 8
        stored = converted("DSprites", "dsprites", [(file, source)], rows, row_bytes, lambda: read(file), verify=verify)
        self._stored = stored.to(self.device)

    def _sprites(self, index: Tensor) -> Tensor:
        return gather_pixels(self._stored, index, self.sprite_shape)


def _from_npz(path: Path) -> Iterator[np.ndarray]:
    rows = math.prod(SIZES)
    first = 0
    for classes in npz_pieces("DSprites", path, "latents_classes", (rows, 1 + len(SIZES)), np.int64):
        check_grid("DSprites", f"{path}: latents_classes", first, classes, (1, *SIZES))
        first += len(classes)
    for images in npz_pieces("DSprites", path, "imgs", (rows, FRAME, FRAME), np.uint8):
        yield _packed(path, images)


def _from_hdf5(path: Path) -> Iterator[np.ndarray]:
    rows = math.prod(SIZES)
    with open_hdf5("DSprites", path) as file:
        classes = hdf5_dataset("DSprites", path, file, "latents/classes", (rows, 1 + len(SIZES)), np.int64)
        images = hdf5_dataset("DSprites", path, file, "imgs", (rows, FRAME, FRAME), np.uint8)
        first = 0
        for piece in hdf5_pieces("DSprites", path, classes):
            check_grid("DSprites", f"{path}: latents/classes", first, piece, (1, *SIZES))
            first += len(piece)
        for piece in hdf5_pieces("DSprites", path, images):
            yield _packed(path, piece)


def _packed(path: Path, images: np.ndarray) -> np.ndarray:
    if images.max(initial=0) > 1:
        raise MistakeError(f"DSprites: {path}: imgs must be 0 or 1, got {images.max()}")
    return np.packbits(images.reshape(len(images), -1), axis=1)
