"""Heads against a scalar statement of their geometry, light against its formula, and the cache."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from disentangle_ext.data import FacesLike, faces_like, head


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A tenth of its views."""
    rows, (azimuths, elevations, lights), size, samples = faces_like.VARIANTS["quick"]
    few = (rows[:2], (azimuths // 3, elevations - 2, lights), size, samples)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISENTANGLE_EXT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setitem(faces_like.VARIANTS, "quick", few)
        return FacesLike("quick")


@pytest.fixture
def small(monkeypatch):
    """The 64 x 64 form with few views."""
    few = {name: (rows[:2], (3, 3, 5), 64, 1) for name, (rows, _, _, _) in faces_like.VARIANTS.items()}
    monkeypatch.setattr(faces_like, "VARIANTS", few)


def test_counts_names_and_values(monkeypatch):
    rows = torch.zeros(1, 4 * 32 * 32, dtype=torch.uint8)
    monkeypatch.setattr(faces_like, "cached_rows", lambda *arguments, **options: rows)
    quick = FacesLike("quick")
    assert quick.factor_names == ("identity", "azimuth", "elevation", "light")
    assert (quick.factor_sizes, len(quick), quick.image_shape) == ((4, 15, 5, 15), 4500, (1, 32, 32))
    for name, limit in (("azimuth", 75), ("elevation", 30), ("light", 80)):
        values = np.rad2deg(quick.factor_values[name])
        np.testing.assert_allclose(values, np.linspace(-limit, limit, len(values)), atol=1e-9)
    sizes = {name: (len(rows), *counts, side) for name, (rows, counts, side, _) in faces_like.VARIANTS.items()}
    assert sizes["default"] == (40, 15, 11, 15, 64)
    assert sizes["held_out"] == (10, 15, 11, 15, 64)
    for name in ("default", "quick"):
        held_out = {"default": "held_out", "quick": "quick_held_out"}[name]
        assert sizes[held_out][1:] == sizes[name][1:]
        assert not set(faces_like.VARIANTS[name][0]) & set(faces_like.VARIANTS[held_out][0])


@pytest.mark.parametrize("variant", ["default", "quick"])
def test_held_out_heads_have_the_same_poses_and_light(small, tmp_path, monkeypatch, variant):
    monkeypatch.setenv("DISENTANGLE_EXT_CACHE", str(tmp_path))
    data = FacesLike(variant)
    other = data.held_out()
    assert other is not None
    assert other.factor_names == data.factor_names
    for name in ("azimuth", "elevation", "light"):
        assert other.factor_values[name] == data.factor_values[name]
    assert not set(other.factor_values["identity"]) & set(data.factor_values["identity"])
    assert (other.images([7]) != data.images([7])).any()
    assert other.held_out() is None


def smooth_distance(one, point):
    total = 0.0
    for centre, radii in zip(one.centres.tolist(), one.radii.tolist()):
        offset = [abs(point[0]) - centre[0], point[1] - centre[1], point[2] - centre[2]]
        k = math.sqrt(sum((o / r) ** 2 for o, r in zip(offset, radii)))
        m = math.sqrt(sum((o / r**2) ** 2 for o, r in zip(offset, radii)))
        total += math.exp(-k * (k - 1) / m / head.SMOOTHNESS)
    return -head.SMOOTHNESS * math.log(total)


def test_distances_follow_the_formula():
    one = head.make_head(head.identities()[3])
    points = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * 0.7
    distances, weights = head._distance(one, points)
    expected = [smooth_distance(one, point) for point in points.tolist()]
    np.testing.assert_allclose(distances, expected, atol=2e-4)
    torch.testing.assert_close(weights.sum(0), torch.ones(200))


def test_rays_end_on_the_surface_or_closest_to_it_and_normals_are_gradients():
    one = head.make_head(head.identities()[5])
    azimuth, elevation = torch.tensor([0.6]), torch.tensor([-0.3])
    turn = head._rotations(azimuth, elevation)
    torch.testing.assert_close(turn[0] @ turn[0].T, torch.eye(3))
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(1))
    x, y = torch.cartesian_prod(torch.linspace(-1.1, 1.1, 24), torch.linspace(-1.1, 1.1, 24)).T
    origins = torch.stack([x, y, torch.full_like(x, head.START)], 1) @ turn[0]
    rays = -turn[0, 2].expand_as(origins)
    points, distance = head._march(one, origins, rays)
    walk = torch.linspace(0, 2 * head.START, 700)
    along = [head._distance(one, o + walk[:, None] * r)[0] for o, r in zip(origins, rays)]
    nearest = torch.stack([each.min() for each in along])
    assert not ((nearest < -0.01) & (distance > 0)).any()
    assert not ((nearest > 0.02) & (distance == 0)).any()
    hit = distance == 0
    assert 0.2 < hit.float().mean() < 0.6
    assert head._distance(one, points[hit])[0].abs().max() < 3e-3
    first = torch.stack([walk[(each < 0).nonzero()[0, 0]] for each, inside in zip(along, nearest < -0.01) if inside])
    reached = ((points - origins) * rays).sum(1)[nearest < -0.01]
    assert ((first - reached).abs() > 0.02).sum() <= 2  # a ray may end at what it grazes before
    normal, albedo = head._surface(one, points[hit])
    step = 1e-3
    numeric = torch.stack(
        [
            head._distance(one, points[hit] + step * axis)[0] - head._distance(one, points[hit] - step * axis)[0]
            for axis in torch.eye(3)
        ],
        1,
    )
    cosine = (torch.nn.functional.normalize(numeric, dim=1) * normal).sum(1)
    assert cosine.median() > 0.999
    assert (cosine > 0.95).double().mean() > 0.97  # near a crease the gradients of two parts are far apart
    assert (albedo >= head.IRIS - 1e-6).all()
    assert (albedo <= head.EYE + 1e-6).all()


def test_light_is_albedo_times_ambient_and_cosine(quick):
    rows = torch.arange(0, len(quick), 11)
    images = quick.images(rows).flatten(1).double()
    views = quick._views[rows // 15].view(len(rows), 4, -1).double()
    angle = torch.tensor(quick.factor_values["light"], dtype=torch.float64)[rows % 15]
    up = math.radians(20)
    light = torch.stack(
        [angle.sin() * math.cos(up), torch.full_like(angle, math.sin(up)), angle.cos() * math.cos(up)], 1
    )
    cosine = torch.einsum("nc,ncp->np", light, (views[:, :3] - 128) / 127).clamp_min(0)
    expected = views[:, 3] * (faces_like.AMBIENT + (1 - faces_like.AMBIENT) * cosine).clamp_max(1)
    assert (images - expected).abs().max() < 2.5


def brightness_centre(images):
    places = torch.linspace(-1, 1, images.shape[-1])
    columns = images[:, :, : images.shape[-1] * 3 // 4].float().sum((1, 2))
    return (columns * places).sum(1) / columns.sum(1)


def test_factors_move_what_they_should(small):
    data = FacesLike()
    lights = data.sample_images([[0, 1, 1, k] for k in range(5)])
    centres = brightness_centre(lights)
    assert (centres.diff() > 0.02).all()  # a lamp on the right lights the right half
    mirrored = data.sample_images([[1, 0, 1, 0], [1, 2, 1, 4]]).int()
    assert (mirrored[0] - mirrored[1].flip(2)).abs().float().mean() < 1.0
    turned = brightness_centre(data.sample_images([[0, k, 1, 2] for k in range(3)]))
    assert turned[0] < turned[1] < turned[2]  # the face, brighter than the hair, follows the azimuth
    frontal = data.sample_images([[0, 1, k, 2] for k in range(3)])[:, 0].float()
    hair = (frontal[:, :22] > 0).sum((1, 2)) - (frontal[:, :22] > 90).sum((1, 2))
    assert hair[0] > hair[2]  # looking down shows more of the hair
    assert (data.sample_images([[0, 1, 1, 2]]).int() - data.sample_images([[1, 1, 1, 2]]).int()).abs().max() > 50
    others = FacesLike("held_out")
    assert not torch.equal(others.sample_images([[0, 1, 1, 2]]), data.sample_images([[0, 1, 1, 2]]))


def test_rows_do_not_depend_on_their_batch_or_on_autocast(quick):
    index = torch.randint(len(quick), (150,), generator=torch.Generator().manual_seed(0))
    images = quick.images(index)
    assert torch.equal(quick.images(index.flip(0)).flip(0), images)
    assert torch.equal(torch.cat([quick.images(part) for part in index.split(7)]), images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quick.images(index), images)
    assert quick.images([]).shape == (0, 1, 32, 32)


def test_views_are_marched_once(small, cache, monkeypatch):
    images = FacesLike().images(range(90))
    (file,) = (cache / "faces_like").iterdir()
    assert file.name.startswith("default-")
    assert np.load(file).shape == (18, 4 * 64 * 64)
    monkeypatch.setattr(head, "_march", None)
    assert torch.equal(FacesLike().images(range(90)), images)


def test_an_interrupted_march_leaves_nothing(small, cache, monkeypatch):
    whole = head.look_at
    calls = []

    def fails(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    monkeypatch.setattr(head, "look_at", fails)
    with pytest.raises(KeyboardInterrupt):
        FacesLike()
    assert not list((cache / "faces_like").iterdir())
    assert len(FacesLike().images(range(90)).flatten(1).unique(dim=0)) == 90


def test_an_unknown_variant_is_named():
    with pytest.raises(ValueError, match="FacesLike: unknown variant 'heldout': did you mean 'held_out'"):
        FacesLike("heldout")
