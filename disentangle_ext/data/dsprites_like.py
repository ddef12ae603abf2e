"""A procedural stand-in for dSprites: its factors and, to 0.2 % of the shapes' pixels, its images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from disentangle_ext._names import choose
from disentangle_ext.data.pixels import flatten_pixels, gather_pixels, pack_bits
from disentangle_ext.data.sprites import SpriteData

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DSpritesLike"]

SHAPES = ("square", "ellipse", "heart")
FACTORS = ("shape", "scale", "orientation", "position_x", "position_y")
VARIANTS = ("default", "official", "quick")

# Lengths are in pixels of the 64 x 64 frame. The constants were recovered from frames of dSprites, which were
# drawn without anti-aliasing: a pixel is on when its centre lies inside the outline.
FRAME = 64
SQUARE_HALF_SIDE = 9.6
ELLIPSE_RADII = (12.76, 7.22)
HEART_SCALE = (0.600, 0.665)
HEART_OFFSET = -1.4
# No outline reaches further than this from its centre: the corner of the square is at 9.6 * sqrt(2) = 13.58.
REACH = 13.6

# Images rendered at once: the float64 scratch of 32 sprites, 0.2 MB a buffer, stays in a core's cache, and is below the
# 32,768 elements from which torch divides an op among threads. On so little work, waiting for them costs more.
CHUNK = 32


class DSpritesLike(SpriteData):
    """White squares, ellipses and hearts on black, moved, turned and scaled: binary, without anti-aliasing.

    ======== ======================================================================== ============ =========
    variant  factors and classes                                                      image        images
    ======== ======================================================================== ============ =========
    default  shape 3, scale 6, orientation 40, position_x 32, position_y 32           1 x 64 x 64  737,280
    official the same                                                                 1 x 64 x 64  737,280
    quick    scale 6, position_x 16, position_y 16                                    1 x 32 x 32  1,536
    ======== ======================================================================== ============ =========

    Scale runs over [0.5, 1] and the centre over 32 pixels each way. Orientation:

    - ``default`` divides the circle into 40 equal steps, so its 40 classes are 40 angles.
    - ``official`` has the closed grid of dSprites, linspace(0, 2 pi, 40): classes 0 and 39 are the same
      images, so no code can tell all classes apart, which caps every orientation score. Use it to compare
      with published numbers. (In both, the square repeats every quarter turn and the ellipse every half
      turn.)

    ``quick`` trains in half a minute on one CPU core. It is the same frame at half the resolution, with the
    ellipse alone, lying flat. Its centre runs over all 32 pixels in x but over the middle 12 in y: a VAE
    aligns its latents with the directions of unequal variance, and with equal ranges it settles on an
    arbitrary rotation of x and y. The ellipse is the shape whose 1,536 images all differ (the square has 972,
    the heart 1,512), and its point symmetry makes the change by scale orthogonal to both movements.

    Images are rendered from the factors when they are asked for, and nothing is stored, except that ``quick``
    keeps its 1.5 MB of pixels. :meth:`preload` keeps the full set in memory, one bit a pixel. The same row
    gives the same bits alone, in any batch, and on any device: rendering is in float64, and no pixel centre
    comes closer to an outline than 1e-10 pixels, far above its rounding.

    Args:
        variant: "default", "official" or "quick".
        effect: "none", "color", "noisy" or "texture".
        texture: an image file for effect "texture"; one drawn by formula without it.
        device: where images are rendered and kept. (Apple's mps has no float64: there they are rendered on
            the CPU.)

    Attributes:
        variant: as given.
        factor_values: for each factor, also those the variant holds constant, the value of each class. Shape:
            0 square, 1 ellipse, 2 heart. Orientation in radians, anticlockwise. Positions of the centre in
            pixels of the 64 x 64 frame, from the left and from the top.

    Raises:
        ValueError: for an unknown variant or effect, or an image that cannot serve as texture.

    Shapes and factors: Matthey, Higgins, Hassabis, Lerchner, "dSprites: Disentanglement testing Sprites
    dataset", 2017.
    """

    def __init__(
        self,
        variant: str = "default",
        *,
        effect: str = "none",
        texture: Path | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.variant = choose("DSpritesLike: variant", variant, VARIANTS)
        self.factor_values = _factor_values(self.variant)
        varying = [name for name in FACTORS if len(self.factor_values[name]) > 1]
        size = 32 if self.variant == "quick" else FRAME
        name = "dsprites_like" if self.variant == "default" else f"dsprites_like ({self.variant})"
        sizes = [len(self.factor_values[name]) for name in varying]
        super().__init__(name, varying, sizes, (size, size), effect=effect, texture=texture, device=device)
        if "orientation" in varying:
            self.periods = {"orientation": _turn(variant)}
        self._tables = self._make_tables()
        self._stored: Tensor | None = None
        if self.variant == "quick":
            everything = torch.arange(len(self), device=self.device)
            self._stored = flatten_pixels(self._render(everything))

    def to(self, device: torch.device | str) -> Self:
        other = super().to(device)
        other._tables = other._make_tables()
        return other

    def preload(self) -> Self:
        """Renders the whole set into memory on its device, one bit a pixel (377 MB; about 30 s on one core).

        A batch is then one gather and one unpacking. Returns the set. Nothing is left to do for ``quick``.
        """
        if self._stored is None:
            row_bytes = math.prod(self.sprite_shape) // 8
            packed = torch.empty(len(self), row_bytes, dtype=torch.uint8, device=self.device)
            for rows in torch.arange(len(self), device=self.device).split(4096):
                packed[rows] = pack_bits(self._render(rows))
            self._stored = packed
        return self

    def _sprites(self, index: Tensor) -> Tensor:
        if self._stored is not None:
            return gather_pixels(self._stored, index, self.sprite_shape)
        return self._render(index)

    def _render(self, index: Tensor) -> Tensor:
        classes = dict(zip(self.factor_names, self._classes(index).unbind(1)))
        constant = torch.zeros_like(index)
        values = []
        for name, table in self._tables.items():
            values.append(table[classes.get(name, constant).to(table.device)])
        chunks = zip(*(value.split(CHUNK) for value in values))
        size = self.sprite_shape[1]
        return torch.cat([_render_sprites(*chunk, size=size) for chunk in chunks]).to(self.device)

    def _make_tables(self) -> dict[str, Tensor]:
        device = torch.device("cpu") if self.device.type == "mps" else self.device
        return {name: torch.tensor(self.factor_values[name], dtype=torch.float64, device=device) for name in FACTORS}


def _turn(variant: str) -> int:
    """How many classes of orientation make a turn."""
    return 39 if variant == "official" else 40


def _factor_values(variant: str) -> dict[str, tuple[float, ...]]:
    scale = tuple(0.5 + 0.5 * k / 5 for k in range(6))
    if variant == "quick":
        return {
            "shape": (float(SHAPES.index("ellipse")),),
            "scale": scale,
            "orientation": (0.0,),
            "position_x": tuple(16 + 32 * k / 15 for k in range(16)),
            "position_y": tuple(26 + 12 * k / 15 for k in range(16)),
        }
    last = _turn(variant)
    position = tuple(16 + 32 * k / 31 for k in range(32))
    return {
        "shape": (0.0, 1.0, 2.0),
        "scale": scale,
        "orientation": tuple(2 * math.pi * k / last for k in range(40)),
        "position_x": position,
        "position_y": position,
    }


def _render_sprites(shape: Tensor, scale: Tensor, angle: Tensor, x: Tensor, y: Tensor, *, size: int) -> Tensor:
    """Sprites as uint8 [n, 1, size, size] in {0, 255}, from float64 values [n].

    Only the square patch that the outline can reach is evaluated, then put in its place; the patch lies
    inside the frame as long as x and y are in [16, 48].
    """
    pitch = FRAME / size
    patch = math.floor(2 * REACH / pitch) + 2
    first_x, first_y = ((centre - REACH).div(pitch).floor().to(torch.int64) for centre in (x, y))
    offset = torch.arange(patch, device=x.device)
    column, row = first_x[:, None] + offset, first_y[:, None] + offset
    dx = ((column + 0.5) * pitch - x[:, None]) / scale[:, None]
    dy = ((row + 0.5) * pitch - y[:, None]) / scale[:, None]
    cosine, sine = angle.cos()[:, None], angle.sin()[:, None]
    u = (cosine * dx)[:, None, :] - (sine * dy)[:, :, None]
    v = (sine * dx)[:, None, :] + (cosine * dy)[:, :, None]
    kind = shape[:, None, None]
    inside = torch.where(kind == 1, _in_ellipse(u, v), _in_heart(u, v))
    inside = torch.where(kind == 0, _in_square(u, v), inside)
    image = torch.zeros(len(x), size * size, dtype=torch.uint8, device=x.device)
    place = (row * size)[:, :, None] + column[:, None, :]
    image.scatter_(1, place.flatten(1), inside.flatten(1).to(torch.uint8) * 255)
    return image.view(-1, 1, size, size)


def _in_square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) <= SQUARE_HALF_SIDE


def _in_ellipse(u: Tensor, v: Tensor) -> Tensor:
    return (u / ELLIPSE_RADII[0]).square() + (v / ELLIPSE_RADII[1]).square() <= 1


def _in_heart(u: Tensor, v: Tensor) -> Tensor:
    """Inside x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t.

    In powers of c = cos t, y = 4 - 2 c^2 - 8 c^4 + c (19 - 8 c^2), where c^2 = 1 - (abs(x) / 16)^(2/3). So
    the curve has two points at every abs(x) <= 16, one for either sign of c, and the inside is what lies
    between them.
    """
    x = u.abs() / HEART_SCALE[0]
    y = (HEART_OFFSET - v) / HEART_SCALE[1]
    c2 = 1 - (x / 16).log2().mul_(2 / 3).exp2_()  # half the time of pow
    middle = 4 - 2 * c2 - 8 * c2.square()
    half_height = c2.clamp_min(0).sqrt() * (19 - 8 * c2)
    return (c2 >= 0) & ((y - middle).abs() <= half_height)
