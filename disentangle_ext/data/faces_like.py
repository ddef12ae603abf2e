"""Shaded heads in every pose and light: a procedural stand-in for the faces that DC-IGN was trained on."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from disentangle_ext._names import choose
from disentangle_ext.data import head
from disentangle_ext.data.base import GroundTruthData
from disentangle_ext.data.cache import cached_rows

__all__ = ["FacesLike"]

FACTORS = ("identity", "azimuth", "elevation", "light")
# Identities, sizes of the other factors, side of the images, and rays along each side of a pixel.
VARIANTS = {
    "default": (range(40), (15, 11, 15), 64, 1),
    "held_out": (range(40, 50), (15, 11, 15), 64, 1),
    "quick": (range(4), (15, 5, 15), 32, 2),
    "quick_held_out": (range(40, 44), (15, 5, 15), 32, 2),
}
RANGES = (75.0, 30.0, 80.0)
LIGHT_HEIGHT = math.radians(20)
AMBIENT = 0.12
# Images lit at once: their scratch stays in a core's cache.
CHUNK = 64


class FacesLike(GroundTruthData):
    """Heads of ellipsoids that melt into each other, in grey, lit by one lamp.

    ============== ========================================================= =========== =======
    variant        factors and classes                                       image       images
    ============== ========================================================= =========== =======
    default        identity 40, azimuth 15, elevation 11, light 15           1 x 64 x 64 99,000
    held_out       identity 10 (others), azimuth 15, elevation 11, light 15  1 x 64 x 64 24,750
    quick          identity 4, azimuth 15, elevation 5, light 15             1 x 32 x 32 4,500
    quick_held_out identity 4 (others), azimuth 15, elevation 5, light 15    1 x 32 x 32 4,500
    ============== ========================================================= =========== =======

    An identity is eight traits from a seeded table: widths and heights of head, jaw, chin and nose, distance of the
    eyes, hairline. Azimuth runs over [-75, 75] degrees, elevation over [-30, 30], and the lamp's azimuth, about the
    camera and not the head, over [-80, 80].

    These are the factors of Kulkarni et al. (2015). Their faces come from a morphable model whose licence forbids
    passing them on; these heads share nothing with them but the factors.

    What a camera sees of a head does not depend on the lamp: it is found once by marching rays, on first use, and
    written to the cache (:func:`disentangle_ext.data.cache.cache_folder`; 108 MB for ``default``). An image is one
    gather and one product with the direction of the light.

    Args:
        variant: "default", "held_out", "quick" or "quick_held_out".
        device: where rays are marched, and images lit.

    Attributes:
        variant: as given.
        factor_values: for each factor the value of each class: the row of the table of identities, and angles in
            radians.

    Raises:
        ValueError: for an unknown variant.

    Kulkarni, Whitney, Kohli, Tenenbaum, "Deep Convolutional Inverse Graphics Network", NeurIPS 2015 (arXiv
    1503.03167).
    """

    def __init__(self, variant: str = "default", *, device: torch.device | str = "cpu") -> None:
        self.variant = choose("FacesLike: variant", variant, VARIANTS)
        rows, counts, size, self._samples = VARIANTS[variant]
        angles = [
            tuple(math.radians(limit * (2 * k / (count - 1) - 1)) for k in range(count))
            for limit, count in zip(RANGES, counts)
        ]
        self.factor_values = dict(zip(FACTORS, (tuple(map(float, rows)), *angles)))
        name = "faces_like" if variant == "default" else f"faces_like ({variant})"
        super().__init__(name, FACTORS, (len(rows), *counts), (1, size, size), device=device)
        code = hashlib.sha256(inspect.getsource(head).encode()).hexdigest()[:12]
        views = len(self) // counts[2]
        self._views = cached_rows(
            f"faces_like/{variant}-{code}.npy", views, 4 * size * size, self._march, what=f"{name}: drawing"
        ).to(self.device)
        # Whole numbers, as the normals: their products are exact, and the same on every device.
        lights = [
            (math.sin(a) * math.cos(LIGHT_HEIGHT), math.sin(LIGHT_HEIGHT), math.cos(a) * math.cos(LIGHT_HEIGHT))
            for a in self.factor_values["light"]
        ]
        self._lights = (torch.tensor(lights) * 127).round().to(self.device)

    def held_out(self) -> FacesLike | None:
        """Heads that are not in this set, in the same poses and light; None if this set holds those already."""
        other = {"default": "held_out", "quick": "quick_held_out"}.get(self.variant)
        return None if other is None else FacesLike(other, device=self.device)

    def _march(self) -> Iterator[np.ndarray]:
        """The views in C order of identity, azimuth and elevation."""
        size = self.image_shape[1]
        angles = [torch.tensor(self.factor_values[name], device=self.device) for name in ("azimuth", "elevation")]
        poses = torch.cartesian_prod(*angles)
        for traits in head.identities()[[int(row) for row in self.factor_values["identity"]]]:
            one = head.Head(*(tensor.to(self.device) for tensor in head.make_head(traits)))
            # A few thousand rays at once: more do not fit into a core's cache.
            for some in poses.split(max(1, 16384 // (size * self._samples) ** 2)):
                views = head.look_at(one, some[:, 0], some[:, 1], size, samples=self._samples)
                yield views.flatten(1).cpu().numpy()

    def _pixels(self, index: Tensor) -> Tensor:
        if len(index) == 0:
            return torch.empty((0, *self.image_shape), dtype=torch.uint8, device=self.device)
        lit = torch.cat([self._light(part) for part in index.split(CHUNK)])
        return lit.view(len(index), *self.image_shape[1:], 1).permute(0, 3, 1, 2)

    def _light(self, index: Tensor) -> Tensor:
        """uint8 [n, H * W]: albedo (ambient + (1 - ambient) max(0, normal . light))."""
        lamps = self.factor_sizes[3]
        seen = self._views.index_select(0, torch.div(index, lamps, rounding_mode="floor"))
        seen = seen.view(len(index), 4, -1).float()
        light = self._lights[index % lamps]
        with torch.autocast(index.device.type, enabled=False):
            cosine = torch.bmm(light[:, None], seen[:, :3])[:, 0] - 128 * light.sum(1, keepdim=True)
        shade = cosine.clamp_min_(0).mul_((1 - AMBIENT) / 127**2).add_(AMBIENT).clamp_max_(1)
        return shade.mul_(seen[:, 3]).round_().to(torch.uint8)
