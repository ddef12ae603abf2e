"""A sprite on a torus: cyclic factors and the group that acts on them, for the symmetry-based definition."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from disentangle_ext._errors import MistakeError
from disentangle_ext.data.base import GroundTruthData

__all__ = ["TorusLike", "Transitions"]

FACTORS = ("position_x", "position_y", "hue", "orientation")

# Lengths are fractions of the frame. The sprite is an isosceles triangle, which no turn maps onto itself: the
# half-planes (normal, distance from the centre) that it is the intersection of.
_TIP, _BASE, _HALF_BASE = 0.22, 0.14, 0.13
_SLANT = math.hypot(_HALF_BASE, _TIP + _BASE)
_SIDE = ((_TIP + _BASE) / _SLANT, _HALF_BASE / _SLANT, _TIP * _HALF_BASE / _SLANT)
# Images rendered at once: their scratch stays in a core's cache.
_CHUNK = 32


class Transitions(NamedTuple):
    """Rows before and after the action of group elements."""

    before: Tensor
    """[n], rows"""
    g: Tensor
    """[n, K], steps along each factor"""
    after: Tensor
    """[n], rows: ``act(before, g)``"""


class TorusLike(GroundTruthData):
    """A triangle that leaves the frame on one side and enters it on the other, in 2 to 4 cyclic factors.

    Every factor is Z / n with n = ``classes``: position_x, position_y, then hue, then orientation. So the group
    G = (Z / n)^K acts on the set by :meth:`act`, freely and transitively, and a representation f(x) is disentangled
    with respect to it (Higgins et al. 2018) if G acts linearly on codes, each factor on a subspace of its own:

        f(act(x, g)) = rho(g) f(x),    rho(g) = diag(R(2 pi g_1 / n), ..., R(2 pi g_K / n)).

    :meth:`exact_code` is such a code. Images are anti-aliased over one pixel, and in colour if hue is a factor. A step
    of position moves the sprite by ``size / n`` pixels: where that is a whole number, it rolls the image exactly.

    Args:
        factors: how many of the cyclic factors there are, 2, 3 or 4.
        classes: the n of each factor, at least 2.
        size: side of the square image in pixels.
        device: where images are rendered.

    Raises:
        ValueError: for numbers outside of these ranges.

    Higgins, Amos, Pfau, Racaniere, Matthey, Rezende, Lerchner, "Towards a Definition of Disentangled
    Representations", 2018 (arXiv 1812.02230).
    """

    def __init__(
        self, *, factors: int = 3, classes: int = 32, size: int = 64, device: torch.device | str = "cpu"
    ) -> None:
        if factors not in (2, 3, 4):
            raise MistakeError(f"TorusLike: factors must be 2, 3 or 4, got {factors}")
        if not 2 <= classes <= 256:
            raise MistakeError(f"TorusLike: classes must be in 2..256, got {classes}")
        if not 8 <= size <= 1024:
            raise MistakeError(f"TorusLike: size must be in 8..1024, got {size}")
        shape = (3 if factors > 2 else 1, size, size)
        super().__init__("torus_like", FACTORS[:factors], [classes] * factors, shape, device=device)
        self.periods = dict.fromkeys(self.factor_names, classes)
        self._classes_each = classes
        # Tables made on the CPU: what is left are sums and products, which every device rounds alike.
        self._fractions = (torch.arange(classes) / classes).to(self.device)
        self._places = ((torch.arange(size) + 0.5) / size).to(self.device)
        angles = torch.arange(classes, dtype=torch.float64) * (2 * math.pi / classes)
        self._turns = torch.stack([angles.cos(), angles.sin()], -1).float().to(self.device)
        self._colors = _hues(self._fractions.cpu()).to(self.device)

    def act(self, index: Any, g: Any) -> Tensor:
        """The rows that the group elements ``g`` take the rows ``index`` to: int64 [n].

        Args:
            index: [n] rows.
            g: [n, K] or [K], integers of either sign: steps along each factor, modulo n.

        Raises:
            ValueError: for a wrong shape.
            TypeError: for anything but integers.
        """
        index = self._check_index(index, "act")
        steps = torch.as_tensor(g, device=self.device)
        if steps.is_floating_point() or steps.is_complex() or steps.dtype == torch.bool:
            raise TypeError(f"TorusLike.act: g must hold integers, got {steps.dtype}")
        count = len(self.factor_names)
        if tuple(steps.shape) not in ((count,), (len(index), count)):
            names = ", ".join(self.factor_names)
            raise MistakeError(
                f"TorusLike.act: g must have shape [{len(index)}, {count}] or [{count}] ({names}), "
                f"got {list(steps.shape)}"
            )
        return self._rows((self._classes(index) + steps) % self._classes_each)

    def transitions(
        self, n: int, *, max_step: int | None = None, generator: torch.Generator | None = None
    ) -> Transitions:
        """``n`` rows drawn uniformly, group elements drawn uniformly, and the rows these lead to.

        Args:
            n: how many.
            max_step: draw each step from -max_step..max_step; from the whole group without it.
            generator: as for :meth:`sample_factors`.

        Raises:
            ValueError: for a negative ``n`` or a ``max_step`` below 1.
        """
        if max_step is not None and max_step < 1:
            raise MistakeError(f"TorusLike.transitions: max_step must be at least 1, got {max_step}")
        index = self._rows(self.sample_factors(n, generator=generator))
        low, high = (0, self._classes_each) if max_step is None else (-max_step, max_step + 1)
        where = generator.device if generator is not None else torch.device("cpu")
        g = torch.randint(low, high, (n, len(self.factor_names)), generator=generator, device=where).to(self.device)
        return Transitions(index, g, self.act(index, g))

    def exact_code(self, index: Any) -> Tensor:
        """(cos, sin) of every factor's angle 2 pi class / n, on which G acts by rotations: float32 [n, 2 K]."""
        return self._turns[self.factors(index)].flatten(1)

    def _pixels(self, index: Tensor) -> Tensor:
        if len(index) == 0:
            return torch.empty((0, *self.image_shape), dtype=torch.uint8, device=self.device)
        parts = [self._render(part) for part in self._classes(index).split(_CHUNK)]
        return torch.cat(parts).contiguous(memory_format=torch.channels_last)

    def _render(self, classes: Tensor) -> Tensor:
        """uint8 [n, C, H, W] of factor classes [n, K]."""
        size = self.image_shape[1]
        # Offsets from the centre, the short way around the torus: in [-1/2, 1/2).
        centre = self._fractions[classes[:, :2]]
        dx, dy = ((self._places - centre[:, :, None] + 0.5).remainder(1.0) - 0.5).unbind(1)
        if classes.shape[1] > 3:
            cosine, sine = self._turns[classes[:, 3]].unsqueeze(-1).unbind(1)
            u = (cosine * dx)[:, None, :] - (sine * dy)[:, :, None]
            v = (sine * dx)[:, None, :] + (cosine * dy)[:, :, None]
        else:
            u, v = dx[:, None, :], dy[:, :, None]
        outside = torch.maximum(u.abs() * _SIDE[0] - v * _SIDE[1] - _SIDE[2], v - _BASE)
        coverage = (0.5 - outside * size).clamp(0, 1)[:, None] * 255
        if classes.shape[1] > 2:
            coverage = coverage * self._colors[classes[:, 2], :, None, None]
        return coverage.round().to(torch.uint8)


def _hues(fraction: Tensor) -> Tensor:
    """The fully saturated colours of hues [n] in [0, 1): [n, 3] in [.15, 1]."""
    thirds = torch.arange(3, device=fraction.device) / 3
    distance = (fraction[:, None] - thirds + 0.5).remainder(1.0) - 0.5
    return 0.15 + 0.85 * (2 - 6 * distance.abs()).clamp(0, 1)
