"""Heads as smooth unions of ellipsoids, and what a camera sees of them before there is light.

Coordinates: x to the right of the picture, y up, z towards the camera; the face looks along z at azimuth and elevation
0. A head is symmetric, so every point is looked at with abs(x), and one ellipsoid stands for both eyes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

IDENTITIES = 50
TRAITS = ("head_width", "head_height", "jaw_width", "chin", "nose_length", "nose_width", "eye_distance", "hairline")
SEED = 8

# Half of what the camera sees, and the height of what it looks at.
WINDOW = 1.2
CENTRE = -0.06
START = 1.3
# Ellipsoids closer than about this melt into each other.
SMOOTHNESS = 0.045
# Rays that graze the surface need most steps; the distance, inexact away from it, allows none of full length.
STEPS = 80
CAUTION = 0.8
SKIN, HAIR, EYE, IRIS, LIPS = 0.80, 0.22, 0.95, 0.10, 0.52


class Head(NamedTuple):
    """One identity: P ellipsoids and where its features are."""

    centres: Tensor
    """[P, 3]"""
    radii: Tensor
    """[P, 3]"""
    albedo: Tensor
    """[P]"""
    quadrics: Tensor
    """[2 P, 7]: k^2 of each ellipsoid, then m^2, as sums over x^2, y^2, z^2, x, y, z and 1; see _distance"""
    eye: Tensor
    """[2], x and y of the right eye"""
    hairline: Tensor
    """[]"""


def identities() -> Tensor:
    """The seeded table of traits, uniform in [-1, 1]: float32 [50, 8]."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.rand(IDENTITIES, len(TRAITS), generator=generator) * 2 - 1


def make_head(traits: Tensor) -> Head:
    """The head with the ``traits`` [8] of :data:`TRAITS`."""
    width, height, jaw, chin, nose, nostril, eyes, hairline = traits.tolist()
    wide, eye_x = 1 + 0.10 * width, 0.23 + 0.03 * eyes
    lift = 0.06 * height
    parts = [
        # centre, radii, albedo
        ((0.0, 0.24 + lift / 2, -0.10), (0.62 * wide, 0.70 + lift, 0.74), SKIN),  # skull
        ((0.0, -0.24, 0.10), (0.46 * wide + 0.06 * jaw, 0.56, 0.54), SKIN),  # face
        ((0.0, -0.64 - 0.06 * chin, 0.33 + 0.04 * chin), (0.21 + 0.05 * jaw, 0.17, 0.18), SKIN),  # chin
        ((0.27 + 0.05 * jaw, -0.50, 0.12), (0.16, 0.20, 0.26), SKIN),  # jaw
        ((0.0, 0.02, 0.63 + 0.03 * nose), (0.065 + 0.01 * nostril, 0.22, 0.10), SKIN),  # bridge of the nose
        ((0.0, -0.17, 0.70 + 0.07 * nose), (0.10 + 0.035 * nostril, 0.085, 0.11), SKIN),  # its tip
        ((eye_x, 0.19, 0.52), (0.16, 0.05, 0.10), (SKIN + HAIR) / 2),  # brow
        ((eye_x, 0.06, 0.535), (0.105, 0.065, 0.075), EYE),  # eye
        ((0.27, -0.18, 0.43), (0.17, 0.15, 0.15), SKIN),  # cheek
        ((0.0, -0.40, 0.595), (0.155, 0.04, 0.065), LIPS),  # upper lip
        ((0.0, -0.47, 0.585), (0.125, 0.045, 0.065), LIPS),  # lower lip
        ((0.63 * wide, 0.0, -0.08), (0.06, 0.18, 0.11), SKIN),  # ear
        ((0.0, -0.95, -0.18), (0.33, 0.72, 0.33), SKIN),  # neck
    ]
    centres, radii, albedo = (torch.tensor(column) for column in zip(*parts))
    quadrics = torch.cat([_quadrics(centres, radii), _quadrics(centres, radii.square())])
    return Head(centres, radii, albedo, quadrics, torch.tensor([eye_x, 0.06]), torch.tensor(0.50 + 0.10 * hairline))


def _quadrics(centres: Tensor, scales: Tensor) -> Tensor:
    """|(p - c) / s|^2 as coefficients [P, 7] of x^2, y^2, z^2, x, y, z and 1."""
    squares = scales.square().reciprocal()
    constant = (centres.square() * squares).sum(1, keepdim=True)
    return torch.cat([squares, -2 * centres * squares, constant], 1)


def look_at(head: Head, azimuth: Tensor, elevation: Tensor, size: int, *, samples: int = 1) -> Tensor:
    """What V cameras see: the normal in the camera's frame and the albedo of each pixel, uint8 [V, 4, size * size].

    A normal's components are stored as 128 + 127 n; the albedo, in 0..255, is 0 where there is no head, and fades over
    one pixel at the outline.

    Args:
        head: its tensors may lie on any device.
        azimuth, elevation: [V], radians: the head turns to the right of the picture, and looks up.
        size: side of the square picture.
        samples: rays along each side of a pixel. Normals are averaged in proportion to the albedo, which gives the
            mean light of the rays as long as all of them face the lamp.
    """
    normal, albedo = _cast(head, azimuth, elevation, size * samples)
    blocks = torch.cat([normal * albedo, albedo], 1).view(len(azimuth), 4, size, samples, size, samples)
    mean = blocks.mean((3, 5)).view(len(azimuth), 4, size * size)
    normals = 128 + 127 * mean[:, :3] / mean[:, 3:].clamp_min(1e-6)
    return torch.cat([normals, 255 * mean[:, 3:]], 1).round().to(torch.uint8)


def _cast(head: Head, azimuth: Tensor, elevation: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Unit normals [V, 3, size * size] and albedo [V, 1, size * size], both 0 where there is no head."""
    turn = _rotations(azimuth, elevation)
    places = ((torch.arange(size, device=azimuth.device) + 0.5) / size * 2 - 1) * WINDOW
    x, y = places.repeat(size), CENTRE - places.repeat_interleave(size)
    origins = torch.stack([x, y, torch.full_like(x, START)], 1) @ turn  # rows times R: R^T applied to each
    rays = -turn[:, 2:3, :].expand_as(origins)
    points, distance = _march(head, origins.reshape(-1, 3), rays.reshape(-1, 3))
    coverage = (1 - distance / (2 * WINDOW / size)).clamp(0, 1)
    seen = (coverage > 0).nonzero()[:, 0]
    normal, albedo = _surface(head, points[seen])
    view = torch.div(seen, size * size, rounding_mode="floor")
    picture = torch.zeros(len(points), 4, device=points.device)
    picture[seen, :3] = (turn[view] @ normal[:, :, None])[:, :, 0]
    picture[seen, 3] = albedo * coverage[seen]
    planes = picture.view(len(azimuth), size * size, 4).transpose(1, 2)
    return planes[:, :3], planes[:, 3:]


def _rotations(azimuth: Tensor, elevation: Tensor) -> Tensor:
    """[V, 3, 3], from the head's frame to the camera's: a turn about y, then one about x."""
    ca, sa, ce, se = azimuth.cos(), azimuth.sin(), elevation.cos(), elevation.sin()
    zero = torch.zeros_like(ca)
    rows = [ca, zero, sa, -se * sa, ce, se * ca, -ce * sa, -se, ce * ca]
    return torch.stack(rows, 1).view(-1, 3, 3)


def _march(head: Head, origins: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays [R, 3] come closest to the head, or meet it: points [R, 3] and distances there [R], 0 for a hit."""
    count = len(origins)
    best = torch.full((count,), math.inf, device=origins.device)
    best_t = torch.zeros(count, device=origins.device)
    t = torch.zeros(count, device=origins.device)
    alive = torch.arange(count, device=origins.device)
    for _ in range(STEPS):
        distance = _distance(head, origins[alive] + t[alive, None] * rays[alive])[0]
        closer = distance < best[alive]
        best[alive] = torch.where(closer, distance, best[alive])
        best_t[alive] = torch.where(closer, t[alive], best_t[alive])
        t[alive] += CAUTION * distance
        alive = alive[(distance > 1e-3) & (t[alive] < 2 * START)]
        if len(alive) == 0:
            break
    hit = best <= 2e-3
    return origins + best_t[:, None] * rays, torch.where(hit, 0.0, best)


def _distance(head: Head, points: Tensor) -> tuple[Tensor, Tensor]:
    """The smooth minimum of the distances to the ellipsoids [R], and their weights in it [P, R].

    An ellipsoid's distance is d = k (k - 1) / m, with k = |(p - c) / r| and m = |(p - c) / r^2|: exact on the surface,
    close to it near by. The smooth minimum is -s log sum exp(-d / s). Unscaled exponentials suffice: no point is
    further than 60 s from the nearest ellipsoid.
    """
    x, y, z = points.unbind(1)
    terms = torch.stack([x.square(), y.square(), z.square(), x.abs(), y, z, torch.ones_like(x)])
    k, m = (head.quadrics @ terms).clamp_min_(1e-8).sqrt_().chunk(2)
    weights = k.square().sub_(k).div_(m).mul_(-1 / SMOOTHNESS).exp_()
    total = weights.sum(0)
    return total.log().mul_(-SMOOTHNESS), weights.div_(total)


def _surface(head: Head, points: Tensor) -> tuple[Tensor, Tensor]:
    """Unit normals [R, 3] and albedo [R] at points near the surface.

    The gradient of the smooth minimum is the weighted mean of those of the distances, which near the surface are
    (p - c) / r^2, normalised.
    """
    weights = _distance(head, points)[1]
    mirrored = torch.cat([points[:, :1].abs(), points[:, 1:]], 1)
    gradients = (mirrored[None] - head.centres[:, None]) / head.radii[:, None].square()
    normal = (weights[:, :, None] * torch.nn.functional.normalize(gradients, dim=2)).sum(0)
    normal[:, 0] *= points[:, 0].sign()
    normal = torch.nn.functional.normalize(normal, dim=1)
    albedo = (weights * head.albedo[:, None]).sum(0)
    x, y, z = points[:, 0].abs(), points[:, 1], points[:, 2]
    iris = torch.hypot(x - head.eye[0], y - head.eye[1])
    in_front = z > 0.3
    albedo = torch.where(in_front, torch.lerp(albedo, torch.full_like(albedo, IRIS), _fade(0.05 - iris, 0.02)), albedo)
    hair = y - head.hairline + 1.1 * (0.30 - z).clamp_min(0)
    return normal, torch.lerp(albedo, torch.full_like(albedo, HAIR), _fade(hair, 0.04) * (y > -0.55))


def _fade(value: Tensor, width: float) -> Tensor:
    return (0.5 + value / width).clamp(0, 1)
