"""How images lie in memory: a row of bytes each, channels last, or of bits where every pixel is black or white."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def flatten_pixels(images: Tensor) -> Tensor:
    """uint8 [N, C, H, W] -> rows [N, H * W * C], channels last: gathering an image is one memcpy."""
    return images.permute(0, 2, 3, 1).contiguous().view(len(images), -1)


def gather_pixels(stored: Tensor, index: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """Rows of :func:`flatten_pixels` or :func:`pack_bits` as uint8 [n, C, H, W] in channels-last memory order."""
    channels, height, width = image_shape
    rows = stored.index_select(0, index)
    if rows.shape[1] * 8 == math.prod(image_shape):
        return _unpack_bits(rows, image_shape)
    return rows.view(len(index), height, width, channels).permute(0, 3, 1, 2)


def pack_bits(images: Tensor) -> Tensor:
    """uint8 [n, 1, H, W] in {0, 255} -> uint8 [n, H * W / 8], the first pixel in the highest bit."""
    return ((images.reshape(len(images), -1, 8) & 1) << _bit_places(images.device)).sum(-1, dtype=torch.uint8)


def _unpack_bits(packed: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    bits = (packed[:, :, None] >> _bit_places(packed.device)) & 1
    return bits.mul_(255).view(-1, *image_shape)


def _bit_places(device: torch.device) -> Tensor:
    return torch.arange(7, -1, -1, dtype=torch.uint8, device=device)
