"""The room against a scalar ray caster, and each factor against what it should change."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from disentangle_ext.data import Shapes3DLike, shapes3d_like


@pytest.fixture(scope="module")
def full():
    return Shapes3DLike()


@pytest.fixture(scope="module")
def quick():
    return Shapes3DLike("quick")


def test_counts_names_and_order(full, quick):
    assert full.factor_names == ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "azimuth")
    assert full.factor_sizes == (10, 10, 10, 8, 4, 15)
    assert (len(full), full.image_shape) == (480_000, (3, 64, 64))
    assert full.factors([15 * 4 * 8 * 7 + 15 * 4 * 3 + 15 * 2 + 1]).tolist() == [[0, 0, 7, 3, 2, 1]]
    assert (quick.factor_names, quick.factor_sizes) == (("floor_hue", "object_hue", "azimuth"), (10, 10, 15))
    assert (len(quick), quick.image_shape) == (1500, (3, 32, 32))


# Whether a point lies in the shape, and where a ray first comes to such a point, by walking along it.
INSIDE = {
    "cube": lambda x, y, z: np.maximum(np.maximum(abs(x), abs(z)), abs(y - 1)) <= 1,
    "cylinder": lambda x, y, z: (x * x + z * z <= 1) & (abs(y - 1) <= 1),
    "sphere": lambda x, y, z: x * x + (y - 1.1) ** 2 + z * z <= 1.1**2,
    "capsule": lambda x, y, z: x * x + (y - np.clip(y, 0.75, 1.95)) ** 2 + z * z <= 0.75**2,
}


@pytest.mark.parametrize("shape", INSIDE)
def test_rays_meet_the_shapes_where_their_points_begin(shape):
    origin, rays = shapes3d_like._camera(0.4, 48)
    hit = shapes3d_like._INTERSECT[shape](origin.expand_as(rays), rays)
    steps = np.arange(3, 12, 0.002)
    for k in range(0, len(rays), 7):
        points = origin.numpy()[:, None] + rays[k].numpy()[:, None] * steps
        inside = np.flatnonzero(INSIDE[shape](*points))
        if len(inside):
            assert float(hit.distance[k]) == pytest.approx(steps[inside[0]], abs=0.004), k
        elif math.isfinite(hit.distance[k]):  # a ray that grazes the shape between two steps
            past = origin.numpy() + rays[k].numpy() * (float(hit.distance[k]) + 0.001)
            assert INSIDE[shape](*(past * 0.999 + 0.001 * np.array([0, 1, 0])))
    met = hit.distance.isfinite()
    assert 0.05 < met.float().mean() < 0.5
    torch.testing.assert_close(hit.normal[met].norm(dim=1), torch.ones(int(met.sum())), atol=1e-3, rtol=0)
    assert ((hit.normal[met] * rays[met]).sum(1) < 1e-3).all()  # they look towards the eye


def test_hues_color_their_own_part_alone(full):
    base = torch.tensor([[0, 3, 6, 5, 1, 4]])
    images = [full.sample_images(base).int()]
    parts = []
    for factor in range(3):
        other = base.clone()
        other[:, factor] = 8
        parts.append((full.sample_images(other).int() - images[0]).abs().amax((0, 1)) > 0)
    assert torch.stack(parts).any(0).all()
    pure = torch.stack(parts).sum(0) == 1
    assert pure.float().mean() > 0.9  # the rest are pixels on an edge
    assert [bool(part[row, column]) for part, (row, column) in zip(parts, ((60, 30), (5, 30), (36, 32)))] == [True] * 3


def test_scale_shape_and_azimuth_change_the_view(full):
    def on_object(factors):
        dull, bright = ([*factors[:2], hue, *factors[3:]] for hue in (0, 5))
        return (full.sample_images([dull, bright]).int().diff(dim=0).abs().amax((0, 1)) > 60).float().sum()

    areas = [float(on_object([0, 5, 0, scale, 2, 7])) for scale in range(8)]
    assert areas == sorted(set(areas))
    views = full.sample_images(torch.cartesian_prod(*map(torch.arange, (1, 1, 1, 8, 4, 15))))
    assert len(views.flatten(1).unique(dim=0)) == 480
    left, right = full.sample_images([[0, 5, 0, 3, 2, 0], [0, 5, 0, 3, 2, 14]]).float()
    assert (left - right).abs().mean() > 5


def test_rows_do_not_depend_on_their_batch_or_on_autocast(full):
    index = torch.randint(len(full), (100,), generator=torch.Generator().manual_seed(0))
    images = full.images(index)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(full.images(index.flip(0)).flip(0), images)
    assert torch.equal(torch.cat([full.images(part) for part in index.split(3)]), images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(full.images(index), images)
    assert full.images([]).shape == (0, 3, 64, 64)


def test_colours_are_weighted_sums(quick):
    classes = quick.factors([777])
    view = quick._views[int(classes[0, 2])].T.double()
    colors = [quick._colors[0, classes[0, 0]], quick._colors[1, 0], quick._colors[2, classes[0, 1]]]
    expected = (view @ torch.stack(colors).double() / 255).round().view(32, 32, 3).permute(2, 0, 1)
    assert (quick.images([777])[0].double() - expected).abs().max() == 0
    assert (quick._views.sum(1, dtype=torch.int) <= 256).all()


def test_an_unknown_variant_is_named():
    with pytest.raises(ValueError, match="Shapes3DLike: unknown variant 'quik': did you mean 'quick'"):
        Shapes3DLike("quik")
