"""A folder of image files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from disentangle_ext.data.arrays import StoredData
from disentangle_ext.data.cache import cached_rows
from disentangle_ext.data.image_files import read_image
from disentangle_ext.data.pixels import flatten_pixels

__all__ = ["ImageFolder"]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


class ImageFolder(StoredData):
    """The images in a folder and the folders below it, in the order of their paths, without factors.

    A model can be trained on them, but not scored against ground truth. Each is cut to the largest square in its
    middle, resized, and written to the cache (:func:`disentangle_ext.data.cache.cache_folder`) on first use.

    Args:
        path: the folder. Files that end in .png, .jpg, .jpeg, .bmp, .gif, .webp, .ppm, .pgm or .tif(f) are taken.
        size: side of the square images.
        channels: 3 for colour, 1 for grey.
        device: where the pixels are kept.

    Attributes:
        files: the file of each row.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: for a folder without images, a file that is none, or numbers out of range.
        ImportError: without the ``data`` extra.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        size: int = 64,
        channels: int = 3,
        device: torch.device | str = "cpu",
    ) -> None:
        if path is None:
            raise ValueError("ImageFolder: path is not given: the folder that holds the images")
        if channels not in (1, 3):
            raise ValueError(f"ImageFolder: channels must be 1 or 3, got {channels}")
        if size < 1:
            raise ValueError(f"ImageFolder: size must be at least 1, got {size}")
        path = Path(path)
        if not path.is_dir():
            raise FileNotFoundError(f"ImageFolder: there is no folder {path}")
        self.files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not self.files:
            raise ValueError(f"ImageFolder: {path} holds no images: no file there ends in {', '.join(SUFFIXES)}")
        state = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in self.files]
        key = hashlib.sha256(repr((size, channels, state)).encode()).hexdigest()[:16]

        def read() -> Iterator[np.ndarray]:
            for file in self.files:
                yield flatten_pixels(read_image(file, channels, size)[None]).numpy()

        row_bytes = size * size * channels
        what = f"{path.resolve().name}: reading {len(self.files):,} images"
        rows = cached_rows(f"image_folder/{key}.npy", len(self.files), row_bytes, read, what=what)
        super().__init__(path.name, (), (), (channels, size, size), rows, device=device)
