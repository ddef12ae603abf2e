"""Binary sprites, and what the large study does to them: colour, noise, a textured background."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from disentangle_ext._errors import MistakeError
from disentangle_ext._names import choose
from disentangle_ext.data.base import GroundTruthData
from disentangle_ext.data.image_files import read_image

__all__ = ["SpriteData"]

EFFECTS = ("none", "color", "noisy", "texture")


class SpriteData(GroundTruthData):
    """White sprites on black, with an effect of Locatello et al. (2019).

    ======= ======================================================================================== ========
    effect  image x, from the sprite s in {0, 1}                                                      channels
    ======= ======================================================================================== ========
    none    s                                                                                         1
    color   s c, with c ~ U(.5, 1) for each channel of an image                                       3
    noisy   min(s + u, 1), with u ~ U(0, 1) for each pixel and channel                                3
    texture b, and 1 - b under the sprite: b = (crop + c) / 2, a random crop of one image and
            c ~ U(0, 1) for each channel; the study's "scream" with the painting of that name         3
    ======= ======================================================================================== ========

    What is random is a function of the row in :meth:`images` and :meth:`batch`, so that the set is one fixed set and a
    row has the same bits in every batch and on every device. :meth:`sample_images` draws it anew, as the study does
    for every image.

    Args:
        name, factor_names, factor_sizes: see :class:`GroundTruthData`.
        size: (H, W).
        effect: as above.
        texture: an image file, at least as large as a sprite's image, for effect "texture".
        device: where images come from.
    """

    def __init__(
        self,
        name: str,
        factor_names: Sequence[str],
        factor_sizes: Sequence[int],
        size: tuple[int, int],
        *,
        effect: str,
        texture: Path | None,
        device: torch.device | str,
    ) -> None:
        owner = type(self).__name__
        self.effect = choose(f"{owner}: effect", effect, EFFECTS)
        self.sprite_shape = (1, *size)
        if texture is not None and effect != "texture":
            raise MistakeError(f"{owner}: texture is for effect 'texture', got effect {effect!r}")
        if effect != "none":
            name = f"{name} ({effect})" if not name.endswith(")") else f"{name[:-1]}, {effect})"
        channels = 1 if effect == "none" else 3
        super().__init__(name, factor_names, factor_sizes, (channels, *size), device=device)
        if effect == "texture":
            pixels = default_texture() if texture is None else read_image(Path(texture), 3)
            if pixels.shape[1] < size[0] or pixels.shape[2] < size[1]:
                raise MistakeError(
                    f"{owner}: texture must be at least {size[0]} x {size[1]} pixels, {texture} is "
                    f"{pixels.shape[1]} x {pixels.shape[2]}"
                )
            self._texture = pixels.to(self.device)

    @abc.abstractmethod
    def _sprites(self, index: Tensor) -> Tensor:
        """uint8 [n, 1, H, W] in {0, 255} for a checked index."""

    def _pixels(self, index: Tensor) -> Tensor:
        return self._with_effect(self._sprites(index), index)

    def _draw(self, index: Tensor, generator: torch.Generator | None) -> Tensor:
        where = generator.device if generator is not None else torch.device("cpu")
        salt = torch.randint(1 << 31, (len(index),), generator=generator, device=where)
        return self._with_effect(self._sprites(index), salt.to(self.device))

    def _with_effect(self, sprites: Tensor, salt: Tensor) -> Tensor:
        """The effect, from one number per image that decides what is random about it."""
        if self.effect == "none":
            return sprites
        if self.effect == "color":
            image = sprites & (_bytes(salt, 1)[:, :, None, None] >> 1 | 128)
        elif self.effect == "noisy":
            noise = _bytes(salt, math.prod(self.sprite_shape)).view(-1, 3, *self.sprite_shape[1:])
            image = torch.maximum(sprites, noise)  # a sprite is 0 or 255: what min(s + u, 1) comes to
        else:
            image = self._background(salt) ^ sprites  # 255 - b is b with every bit turned
        return image.contiguous(memory_format=torch.channels_last)

    def _background(self, salt: Tensor) -> Tensor:
        height, width = self.sprite_shape[1:]
        numbers = [_hash(salt, 1 + k) & 0x7FFFFFFF for k in range(2)]
        top, left = (n % (side - span + 1) for n, side, span in zip(numbers, self._texture.shape[1:], (height, width)))
        rows = top[:, None] + torch.arange(height, device=salt.device)
        columns = left[:, None] + torch.arange(width, device=salt.device)
        places = rows[:, :, None] * self._texture.shape[2] + columns[:, None, :]
        crop = self._texture.flatten(1).index_select(1, places.flatten()).view(3, *places.shape).transpose(0, 1)
        return (crop.to(torch.int16) + _bytes(salt, 1)[:, :, None, None] >> 1).to(torch.uint8)


def _bytes(salt: Tensor, count: int) -> Tensor:
    """Uniform bytes, uint8 [n, 3, count] or [n, 3] for a count of 1, that follow from ``salt`` [n]."""
    number = _hash(salt[:, None], torch.arange(count, dtype=torch.int32, device=salt.device))
    parts = torch.stack([number >> shift & 255 for shift in (0, 8, 16)], 1).to(torch.uint8)
    return parts[:, :, 0] if count == 1 else parts


def _hash(salt: Tensor, place: Tensor | int) -> Tensor:
    """32 mixed bits of two integers, the same on every device: the finalizer "lowbias32" of C. Wellons, twice."""
    return _mix(_mix(salt.to(torch.int32)) + place)


def _mix(x: Tensor) -> Tensor:
    # int32 wraps as uint32 does, but shifts the sign in, hence the masks.
    x = (x ^ (x >> 16 & 0xFFFF)) * 0x7FEB352D
    x = (x ^ (x >> 15 & 0x1FFFF)) * (0x846CA68B - (1 << 32))
    return x ^ (x >> 16 & 0xFFFF)


def default_texture() -> Tensor:
    """uint8 [3, 256, 256]: swirls of five waves, each bent by the one before."""
    places = torch.arange(256, dtype=torch.float64) * (2 * math.pi / 256)
    y, x = places[:, None], places[None, :]
    bend = torch.zeros(256, 256, dtype=torch.float64)
    for kx, ky, strength in ((1, 2, 1.5), (3, -1, 1.2), (-2, 5, 1.0), (7, 3, 0.8), (-5, 9, 0.7)):
        bend = strength * torch.sin(kx * x + ky * y + bend) + 0.5 * bend
    channels = [torch.sin(3 * bend + phase) for phase in (0.0, 1.0, 2.5)]
    return (127.5 + 127.5 * torch.stack(channels)).round().to(torch.uint8)
