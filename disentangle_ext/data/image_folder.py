"""A folder of image files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from disentangle_ext._errors import MistakeError
from disentangle_ext._extras import require
from disentangle_ext._names import choose
from disentangle_ext.data.arrays import StoredData
from disentangle_ext.data.cache import cached_rows
from disentangle_ext.data.image_files import FORMATS, read_image
from disentangle_ext.data.pixels import flatten_pixels

__all__ = ["ImageFolder"]

# Part of the name in the cache: counts the changes in what becomes of a file.
_READING = 2


class ImageFolder(StoredData):
    """The images in a folder and the folders below it, in the order of their paths, without factors.

    A model can be trained on them, but not scored against ground truth. Each is cut to the largest square in its
    middle, resized, and written to the cache (:func:`disentangle_ext.data.cache.cache_folder`) on first use. Images of
    16 bits are rounded to 8, and the orientation that a camera noted is followed.

    Args:
        path: the folder. Files with an ending of one of the formats are taken.
        size: side of the square images.
        channels: 3 for colour, 1 for grey.
        formats: the formats that are read, by Pillow's names.
        device: where the pixels are kept.

    Attributes:
        files: the file of each row.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: for a folder without images, numbers out of range, or a file that cannot be read: damaged, in
            another format, with transparent pixels, or with pixels whose range is not known.
        ImportError: without the ``data`` extra.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        size: int = 64,
        channels: int = 3,
        formats: tuple[str, ...] = FORMATS,
        device: torch.device | str = "cpu",
    ) -> None:
        if path is None:
            raise MistakeError("ImageFolder: path is not given: the folder that holds the images")
        if channels not in (1, 3):
            raise MistakeError(f"ImageFolder: channels must be 1 or 3, got {channels}")
        if size < 1:
            raise MistakeError(f"ImageFolder: size must be at least 1, got {size}")
        path = Path(path)
        if not path.is_dir():
            raise FileNotFoundError(f"ImageFolder: there is no folder {path}")
        endings = _endings(formats)
        self.files = sorted(file for file in path.rglob("*") if file.suffix.lower() in endings and file.is_file())
        if not self.files:
            raise MistakeError(f"ImageFolder: {path} holds no images: no file there ends in {', '.join(endings)}")
        state = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in self.files]
        key = hashlib.sha256(repr((_READING, size, channels, formats, state)).encode()).hexdigest()[:16]

        def read() -> Iterator[np.ndarray]:
            for file in self.files:
                yield flatten_pixels(read_image(file, channels, size, formats)[None]).numpy()

        row_bytes = size * size * channels
        what = f"{path.resolve().name}: reading {len(self.files):,} images"
        rows = cached_rows(f"image_folder/{key}.npy", len(self.files), row_bytes, read, what=what)
        super().__init__(path.name, (), (), (channels, size, size), rows, device=device)


def _endings(formats: tuple[str, ...]) -> list[str]:
    """The endings of file names that Pillow knows for the formats."""
    pillow = require("PIL.Image", extra="data", what="ImageFolder")
    if not formats:
        raise MistakeError("ImageFolder: formats must name at least one format, got ()")
    endings = pillow.registered_extensions()
    for name in formats:
        choose("ImageFolder: format", name, pillow.OPEN)
    return sorted(ending for ending, name in endings.items() if name in formats)
