"""Scikit-learn's handwritten digits: real images that need no download."""

from __future__ import annotations

import numpy as np
import torch

from disentangle_ext._extras import require
from disentangle_ext.data.arrays import ArrayData

__all__ = ["digits"]


def digits(*, device: torch.device | str = "cpu") -> ArrayData:
    """1,797 handwritten digits as 1 x 32 x 32, with the digit as the only factor.

    They have 8 x 8 pixels of 17 greys; each pixel is drawn as 4 x 4, so that the convolutional networks take them. For
    smoke tests: one label is no ground truth to score a representation by.

    Args:
        device: where the pixels are kept.

    Raises:
        ImportError: without the ``data`` extra.

    Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
    """
    bunch = require("sklearn.datasets", extra="data", what="digits").load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    return ArrayData(pixels, bunch.target[:, None], ["digit"], name="digits", device=device)
