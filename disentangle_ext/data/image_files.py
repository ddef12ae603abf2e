"""Image files through Pillow."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from disentangle_ext._errors import MistakeError
from disentangle_ext._extras import require

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""The formats that are read unless others are asked for, by Pillow's names. Others start an interpreter (EPS), or
scale to any size (WMF)."""
_MODES = {1: "L", 3: "RGB"}


def read_image(path: Path, channels: int, size: int | None = None, formats: Sequence[str] = FORMATS) -> Tensor:
    """Read an image file as uint8 [channels, H, W], upright.

    16 bits a channel are rounded to 8. The orientation that a camera noted is followed. Of an animation it is the first
    picture.

    Args:
        path: the file; what it holds decides how it is read, not its name.
        channels: 1 for grey, 3 for RGB.
        size: cut the largest square out of the middle and resize it to this side; None: as it is.
        formats: the formats it may be in, by Pillow's names.

    Raises:
        ValueError: for a file that is missing, damaged, in another format, transparent, or of numbers whose range is
            not known, named in the message.
        ImportError: without the ``data`` extra.
    """
    pillow = require("PIL.Image", extra="data", what="read_image")
    upright = require("PIL.ImageOps", extra="data", what="read_image").exif_transpose
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            with pillow.open(path, formats=formats) as image:
                picture, kind = upright(image), image.format
    except FileNotFoundError:
        raise MistakeError(f"read_image: there is no file {path}") from None
    except Exception as error:  # whatever a decoder makes of a damaged file
        known = " or ".join(filter(None, (", ".join(formats[:-1]), formats[-1])))
        text = str(error) or type(error).__name__
        raise MistakeError(f"read_image: {path} cannot be read as {known}: {text}") from None
    picture = _eight_bits(path, picture, kind).convert(_MODES[channels])
    if size is not None:
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        picture = picture.resize((size, size), pillow.Resampling.LANCZOS, (left, top, left + side, top + side))
    return torch.from_numpy(np.array(picture)).view(picture.height, picture.width, channels).permute(2, 0, 1)


def _eight_bits(path: Path, picture: Any, kind: str) -> Any:
    """The opaque picture in bytes; Pillow's own conversion drops alpha, and clips what is above 255."""
    # Pillow stretches a .pgm of more than 8 bits to the range of 16.
    wide = picture.mode.startswith("I;16") or (picture.mode == "I" and kind == "PPM")
    if picture.mode in ("I", "F") and not wide:
        numbers = "floating-point" if picture.mode == "F" else "32-bit"
        raise MistakeError(
            f"read_image: {path} has {numbers} pixels, whose range is not known: write it with 8 or 16 bits a channel"
        )
    if picture.has_transparency_data and (wide or picture.convert("RGBA").getchannel("A").getextrema()[0] < 255):
        raise MistakeError(f"read_image: {path} has transparent pixels and no background: flatten it onto one first")
    if not wide:
        return picture
    pillow = require("PIL.Image", extra="data", what="read_image")
    return pillow.fromarray(((np.asarray(picture).astype(np.uint32) + 128) // 257).astype(np.uint8))


def shrink(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 images [n, H, W] or [n, H, W, 3] resized to ``size`` by Pillow's Lanczos filter, as in the large study."""
    pillow: Any = require("PIL.Image", extra="data", what="shrink")
    small = np.empty((len(images), size, size, *images.shape[3:]), np.uint8)
    for k, image in enumerate(images):
        small[k] = np.asarray(pillow.fromarray(image).resize((size, size), pillow.Resampling.LANCZOS))
    return small
