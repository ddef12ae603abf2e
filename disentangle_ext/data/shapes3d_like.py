"""A procedural stand-in for 3D Shapes: the same factors and classes, drawn by casting rays."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from disentangle_ext._names import choose
from disentangle_ext.data.base import GroundTruthData

__all__ = ["Shapes3DLike"]

FACTORS = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "azimuth")
SHAPES = ("cube", "cylinder", "sphere", "capsule")
VARIANTS = ("default", "quick")

# The room, in units of the half side of a cube of scale 1: a square floor around the object at the origin, walls on
# its four sides. The camera stands inside, azimuth turns the room before it.
ROOM = 4.6
EYE, TARGET = (0.0, 3.4, 5.9), (0.0, 1.15, 0.0)
FIELD_OF_VIEW = math.radians(50)
# Towards the light, in the frame of the camera: turning the room changes what is lit, as it does with a real lamp.
LIGHT = (-0.45, 0.75, 0.48)
AMBIENT = 0.45
SUPERSAMPLING = 3
# Saturation and value of the colours of floor, walls and object.
TINTS = ((0.75, 0.95), (0.6, 1.0), (0.9, 1.0))
# Images put together at once: their scratch stays in a core's cache.
CHUNK = 32


class Hit(NamedTuple):
    """Where rays [n, 3] first meet a surface."""

    distance: Tensor
    """[n], infinite where they meet none"""
    normal: Tensor
    """[n, 3]"""


class Shapes3DLike(GroundTruthData):
    """A shape in the corner of a room, lit by one lamp.

    ======= ================================================================================= =========== =======
    variant factors and classes                                                               image       images
    ======= ================================================================================= =========== =======
    default floor_hue 10, wall_hue 10, object_hue 10, scale 8, shape 4, azimuth 15            3 x 64 x 64 480,000
    quick   floor_hue 10, object_hue 10, azimuth 15; the middle scale of a sphere             3 x 32 x 32 1,500
    ======= ================================================================================= =========== =======

    Factors, classes and the order of rows are those of 3D Shapes; the images are not. Hues are the ten of
    linspace(0, .9), scales linspace(.75, 1.25), azimuths linspace(-30, 30) degrees; shapes are cube, cylinder, sphere
    and capsule.

    Where floor, walls and object lie, and how brightly they are lit, depends on the last three factors alone: 480
    views, drawn once when the set is made. An image is one gather and a sum of three colours, in integers, so that a
    row has the same bits in every batch and on every device.

    Args:
        variant: "default" or "quick".
        device: where images are put together.

    Attributes:
        variant: as given.
        factor_values: for each factor, also those the variant holds constant, the value of each class; azimuth in
            radians.

    Raises:
        ValueError: for an unknown variant.

    Factors: Burgess and Kim, "3D Shapes Dataset", 2018.
    """

    def __init__(self, variant: str = "default", *, device: torch.device | str = "cpu") -> None:
        self.variant = choose("Shapes3DLike: variant", variant, VARIANTS)
        self.factor_values = _factor_values(variant)
        varying = [name for name in FACTORS if len(self.factor_values[name]) > 1]
        sizes = [len(self.factor_values[name]) for name in varying]
        size = 32 if variant == "quick" else 64
        name = "shapes3d_like" if variant == "default" else f"shapes3d_like ({variant})"
        super().__init__(name, varying, sizes, (3, size, size), device=device)
        self.periods = {name: len(self.factor_values[name]) for name in varying if name.endswith("_hue")}
        self._views = _draw_views(self.factor_values, size).to(self.device)
        colors = [_colors(self.factor_values[name], *tint) for name, tint in zip(FACTORS, TINTS)]
        self._colors = torch.nn.utils.rnn.pad_sequence(colors, batch_first=True).to(self.device)

    def _pixels(self, index: Tensor) -> Tensor:
        if len(index) == 0:
            return torch.empty((0, *self.image_shape), dtype=torch.uint8, device=self.device)
        parts = [self._paint(part) for part in index.split(CHUNK)]
        return torch.cat(parts).view(len(index), *self.image_shape[1:], 3).permute(0, 3, 1, 2)

    def _paint(self, index: Tensor) -> Tensor:
        """uint8 [n, H * W, 3]."""
        classes = dict(zip(self.factor_names, self._classes(index).unbind(1)))
        constant = torch.zeros_like(index)
        view = constant
        for name in ("scale", "shape", "azimuth"):
            view = view * len(self.factor_values[name]) + classes.get(name, constant)
        names = ("floor_hue", "wall_hue", "object_hue")
        colors = [self._colors[k, classes.get(name, constant)] for k, name in enumerate(names)]
        # Products and sums of small integers, exact in float32 whatever their order. The half keeps quotients away
        # from whole numbers, where a device that multiplies by 1 / 255 would round the other way.
        with torch.autocast(index.device.type, enabled=False):
            image = torch.bmm(torch.stack(colors, 2), self._views[view].float())
        return image.add_(127.5).div_(255).to(torch.uint8).transpose(1, 2).contiguous()


def _factor_values(variant: str) -> dict[str, tuple[float, ...]]:
    hues = tuple(k / 10 for k in range(10))
    azimuths = tuple(math.radians(-30 + 60 * k / 14) for k in range(15))
    if variant == "quick":
        return {
            "floor_hue": hues,
            "wall_hue": (0.6,),
            "object_hue": hues,
            "scale": (1.0,),
            "shape": (float(SHAPES.index("sphere")),),
            "azimuth": azimuths,
        }
    return {
        "floor_hue": hues,
        "wall_hue": hues,
        "object_hue": hues,
        "scale": tuple(0.75 + 0.5 * k / 7 for k in range(8)),
        "shape": (0.0, 1.0, 2.0, 3.0),
        "azimuth": azimuths,
    }


def _colors(hues: tuple[float, ...], saturation: float, value: float) -> Tensor:
    """Whole numbers in 0..255: float32 [n, 3]."""
    rgb = [colorsys.hsv_to_rgb(hue, saturation, value) for hue in hues]
    return torch.tensor([[round(255 * channel) for channel in color] for color in rgb], dtype=torch.float32)


def _draw_views(values: dict[str, tuple[float, ...]], size: int) -> Tensor:
    """How much of the floor's, the walls' and the object's colour each pixel of each view holds: uint8 [V, 3, H * W].

    The views are in C order of scale, shape and azimuth. Always on the CPU, whose bits then serve every device.
    """
    kinds = [SHAPES[int(shape)] for shape in values["shape"]]
    views = [
        torch.stack([_draw_view(scene, _INTERSECT[kind], scale) for scale in values["scale"] for kind in kinds])
        for scene in (_empty_room(azimuth, size) for azimuth in values["azimuth"])
    ]
    return torch.stack(views, 1).flatten(0, 1).transpose(1, 2).contiguous()


class Scene(NamedTuple):
    """The room without its object, as R rays see it."""

    eye: Tensor
    """[3]"""
    rays: Tensor
    """[R, 3], of length 1"""
    light: Tensor
    """[3], of length 1: towards the lamp"""
    distance: Tensor
    """[R], to the room"""
    lit: Tensor
    """[R], how much of the lamp's light arrives"""
    material: Tensor
    """[R], 0 floor, 1 wall"""


def _empty_room(azimuth: float, size: int) -> Scene:
    eye, rays = _camera(azimuth, size * SUPERSAMPLING)
    light = _turn(torch.nn.functional.normalize(torch.tensor(LIGHT), dim=0), azimuth)
    surface, material = _meet_room(eye, rays)
    return Scene(eye, rays, light, surface.distance, (surface.normal @ light).clamp_min(0), material)


def _draw_view(scene: Scene, meet: Callable[[Tensor, Tensor], Hit], scale: float) -> Tensor:
    """The colours' shares in the pixels of one view: uint8 [H * W, 3]."""
    # Shapes have a fixed size: everything else is divided by the scale.
    start = (scene.eye / scale).expand_as(scene.rays)
    body = meet(start, scene.rays)
    behind = scene.distance / scale
    on_object = body.distance < behind
    room = (~on_object).nonzero()[:, 0]
    points = start[room] + behind[room, None] * scene.rays[room]
    # Where a step towards the lamp meets the object, floor and walls are in its shadow.
    in_shadow = meet(points, scene.light.expand_as(points)).distance.isfinite()
    lit = torch.where(on_object, (body.normal @ scene.light).clamp_min(0), scene.lit)
    lit[room] = torch.where(in_shadow, 0.0, lit[room])
    material = torch.where(on_object, 2, scene.material)
    shares = torch.nn.functional.one_hot(material, 3) * (AMBIENT + (1 - AMBIENT) * lit)[:, None]
    size = math.isqrt(len(shares)) // SUPERSAMPLING
    blocks = shares.view(size, SUPERSAMPLING, size, SUPERSAMPLING, 3).mean((1, 3))
    return (255 * blocks).round().to(torch.uint8).view(size * size, 3)


def _turn(vector: Tensor, azimuth: float) -> Tensor:
    """Vectors [..., 3] turned about the vertical."""
    c, s = math.cos(azimuth), math.sin(azimuth)
    x, y, z = vector.unbind(-1)
    return torch.stack([c * x + s * z, y, c * z - s * x], -1)


def _camera(azimuth: float, size: int) -> tuple[Tensor, Tensor]:
    """The eye [3] and unit rays [size * size, 3] through the pixels, row by row from the top left."""
    eye, target = torch.tensor(EYE), torch.tensor(TARGET)
    forward = (target - eye) / (target - eye).norm()
    right = torch.linalg.cross(forward, torch.tensor([0.0, 1.0, 0.0]))
    right = right / right.norm()
    up = torch.linalg.cross(right, forward)
    places = ((torch.arange(size) + 0.5) / size * 2 - 1) * math.tan(FIELD_OF_VIEW / 2)
    rays = forward + places[None, :, None] * right - places[:, None, None] * up
    rays = rays / rays.norm(dim=-1, keepdim=True)
    return _turn(eye, azimuth), _turn(rays.view(-1, 3), azimuth)


def _meet_room(eye: Tensor, rays: Tensor) -> tuple[Hit, Tensor]:
    """Where rays from inside meet the nearest of floor and walls [n], and which it is, 0 floor or 1 wall [n]."""
    distances = ((ROOM * rays.sign()) - eye) / rays
    distances[:, 1] = torch.where(rays[:, 1] < 0, -eye[1] / rays[:, 1], math.inf)
    distance, axis = distances.min(1)
    normal = torch.nn.functional.one_hot(axis, 3) * -rays.sign()
    return Hit(distance, normal), (axis != 1).long()


def _nearest(*hits: Hit) -> Hit:
    distance, normal = hits[0]
    for other in hits[1:]:
        closer = other.distance < distance
        normal = torch.where(closer[:, None], other.normal, normal)
        distance = torch.where(closer, other.distance, distance)
    return Hit(distance, normal)


def _first(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The smaller root of a t^2 + 2 b t + c = 0 where it is real and ahead, else infinity: entering from outside."""
    discriminant = b * b - a * c
    t = (-b - discriminant.clamp_min(0).sqrt()) / a
    return torch.where((discriminant > 0) & (t > 1e-4), t, math.inf)


def _meet_ball(start: Tensor, rays: Tensor, height: float, radius: float) -> Hit:
    from_centre = start - torch.tensor([0.0, height, 0.0])
    t = _first((rays * rays).sum(1), (from_centre * rays).sum(1), (from_centre * from_centre).sum(1) - radius**2)
    return Hit(t, (from_centre + _finite(t)[:, None] * rays) / radius)


def _meet_tube(start: Tensor, rays: Tensor, low: float, high: float, radius: float) -> Hit:
    """The side of an upright cylinder, without its ends."""
    flat = torch.tensor([1.0, 0.0, 1.0])
    p, d = start * flat, rays * flat
    t = _first((d * d).sum(1).clamp_min(1e-12), (p * d).sum(1), (p * p).sum(1) - radius**2)
    height = start[:, 1] + _finite(t) * rays[:, 1]
    t = torch.where((height >= low) & (height <= high), t, math.inf)
    return Hit(t, (p + _finite(t)[:, None] * d) / radius)


def _meet_disc(start: Tensor, rays: Tensor, height: float, radius: float) -> Hit:
    """The upper end of an upright cylinder, seen from above."""
    t = (height - start[:, 1]) / rays[:, 1]
    place = start + t[:, None] * rays
    on = (rays[:, 1] < 0) & (t > 1e-4) & (place[:, 0] ** 2 + place[:, 2] ** 2 <= radius**2)
    return Hit(torch.where(on, t, math.inf), torch.tensor([0.0, 1.0, 0.0]).expand_as(rays))


def _meet_cube(start: Tensor, rays: Tensor) -> Hit:
    """The cube on [-1, 1] x [0, 2] x [-1, 1], by slabs."""
    centre = torch.tensor([0.0, 1.0, 0.0])
    near = (centre - rays.sign() - start) / rays
    far = (centre + rays.sign() - start) / rays
    entry, axis = near.max(1)
    hit = (entry < far.min(1).values) & (entry > 1e-4)
    normal = torch.nn.functional.one_hot(axis, 3) * -rays.sign()
    return Hit(torch.where(hit, entry, math.inf), normal)


def _meet_cylinder(start: Tensor, rays: Tensor) -> Hit:
    return _nearest(_meet_tube(start, rays, 0.0, 2.0, 1.0), _meet_disc(start, rays, 2.0, 1.0))


def _meet_sphere(start: Tensor, rays: Tensor) -> Hit:
    return _meet_ball(start, rays, 1.1, 1.1)


def _meet_capsule(start: Tensor, rays: Tensor) -> Hit:
    ends = [_meet_ball(start, rays, height, 0.75) for height in (0.75, 1.95)]
    return _nearest(_meet_tube(start, rays, 0.75, 1.95, 0.75), *ends)


def _finite(t: Tensor) -> Tensor:
    return torch.where(t.isfinite(), t, 0.0)


_INTERSECT: dict[str, Callable[[Tensor, Tensor], Hit]] = {
    "cube": _meet_cube,
    "cylinder": _meet_cylinder,
    "sphere": _meet_sphere,
    "capsule": _meet_capsule,
}
