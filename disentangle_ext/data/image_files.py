"""Image files through Pillow."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from disentangle_ext._extras import require

_MODES = {1: "L", 3: "RGB"}


def read_image(path: Path, channels: int, size: int | None = None) -> Tensor:
    """The image file as uint8 [channels, H, W].

    Args:
        path: a file that Pillow reads.
        channels: 1 for grey, 3 for RGB.
        size: cut the largest square out of the middle and resize it to this side; None: as it is.

    Raises:
        ValueError: for a file that is missing, damaged or no image, named in the message.
        ImportError: without the ``data`` extra.
    """
    pillow = require("PIL.Image", extra="data", what="read_image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            with pillow.open(path) as image:
                picture = image.convert(_MODES[channels])
    except FileNotFoundError:
        raise ValueError(f"read_image: there is no file {path}") from None
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        raise ValueError(f"read_image: {path} cannot be read as an image: {error}") from None
    if size is not None:
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        picture = picture.resize((size, size), pillow.Resampling.LANCZOS, (left, top, left + side, top + side))
    return torch.from_numpy(np.array(picture)).view(picture.height, picture.width, channels).permute(2, 0, 1)


def shrink(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 images [n, H, W] or [n, H, W, 3] resized to ``size`` by Pillow's Lanczos filter, as in the large study."""
    pillow: Any = require("PIL.Image", extra="data", what="shrink")
    small = np.empty((len(images), size, size, *images.shape[3:]), np.uint8)
    for k, image in enumerate(images):
        small[k] = np.asarray(pillow.fromarray(image).resize((size, size), pillow.Resampling.LANCZOS))
    return small
