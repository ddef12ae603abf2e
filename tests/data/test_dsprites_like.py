"""The sprites against a scalar statement of their geometry, and against what each factor should change."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib.path import Path as Outline

from disentangle_ext.data import DSpritesLike, dsprites_like

SCALES = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
SHAPES = ["square", "ellipse", "heart"]


@pytest.fixture(scope="module")
def full():
    return DSpritesLike()


@pytest.fixture(scope="module")
def quick():
    return DSpritesLike("quick")


def heart_xy(t):
    x = 16 * math.sin(t) ** 3
    y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
    return 0.600 * x, -0.665 * y - 1.4


def in_heart(u, v):
    """Between the two points of the curve whose horizontal distance is that of u, found by bisection."""
    if abs(u) > 0.600 * 16:
        return False
    low, high = 0.0, math.pi / 2
    while high - low > 1e-15 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if heart_xy(middle)[0] < abs(u) else (low, middle)
    return heart_xy(low)[1] <= v <= heart_xy(math.pi - low)[1]


def is_on(shape, scale, theta, x, y, column, row, pitch=1):
    dx, dy = (column + 0.5) * pitch - x, (row + 0.5) * pitch - y
    c, s = math.cos(theta), math.sin(theta)
    u, v = (c * dx - s * dy) / scale, (s * dx + c * dy) / scale
    if shape == "square":
        return abs(u) <= 9.6 and abs(v) <= 9.6
    if shape == "ellipse":
        return (u / 12.76) ** 2 + (v / 7.22) ** 2 <= 1
    return in_heart(u, v)


def picture(*sprite, size=64):
    on = [[is_on(*sprite, column, row, 64 // size) for column in range(size)] for row in range(size)]
    return torch.tensor(on, dtype=torch.uint8)[None] * 255


@pytest.mark.parametrize("variant", ["default", "official"])
@pytest.mark.parametrize("shape", range(3))
def test_images_follow_the_geometry(variant, shape):
    data = DSpritesLike(variant)
    drawn = data.sample_factors(4 if shape == 2 else 11, generator=torch.Generator().manual_seed(shape))
    corners = torch.tensor([[0, 0, 0, 0, 0], [0, 5, 39, 31, 31], [0, 5, 10, 31, 0], [0, 0, 20, 0, 31]])
    factors = torch.cat([drawn, corners])
    factors[:, 0] = shape
    for classes, image in zip(factors.tolist(), data.images(data.index(factors))):
        _, scale, orientation, x, y = classes
        theta = 2 * math.pi * orientation / (39 if variant == "official" else 40)
        expected = picture(SHAPES[shape], SCALES[scale], theta, 16 + 32 * x / 31, 16 + 32 * y / 31)
        assert torch.equal(image, expected), classes


def test_the_whole_quick_set_follows_the_geometry(quick):
    images = quick.images(torch.arange(len(quick))).view(6, 16, 16, 1, 32, 32)
    for scale in range(6):
        for x in range(0, 16, 3):
            for y in range(0, 16, 3):
                sprite = ("ellipse", SCALES[scale], 0.0, 16 + 32 * x / 15, 26 + 12 * y / 15)
                assert torch.equal(images[scale, x, y], picture(*sprite, size=32)), (scale, x, y)


def test_no_corner_is_cut_off(full):
    """The square on its corner reaches furthest: at every position all of it is drawn."""
    for x, y in [(15, k) for k in range(32)] + [(k, 15) for k in range(32)]:
        image = full.sample_images([[0, 5, 5, x, y]])[0]
        assert torch.equal(image, picture("square", 1.0, math.pi / 4, 16 + 32 * x / 31, 16 + 32 * y / 31))


def test_the_closed_form_of_the_heart_is_its_curve():
    outline = Outline([heart_xy(2 * math.pi * k / 20_000) for k in range(20_000)], closed=False)
    points = np.random.default_rng(0).uniform([-10.5, -10.5], [10.5, 11], (4000, 2))
    inside = dsprites_like._in_heart(*torch.from_numpy(points.T)).numpy()
    assert 0.2 < inside.mean() < 0.8
    np.testing.assert_array_equal(inside, outline.contains_points(points))


def test_counts_names_and_order():
    for variant in ("default", "official"):
        data = DSpritesLike(variant)
        assert data.factor_names == ("shape", "scale", "orientation", "position_x", "position_y")
        assert data.factor_sizes == (3, 6, 40, 32, 32)
        assert len(data) == 737_280
        assert data.image_shape == (1, 64, 64)
        rows = torch.arange(len(data))
        assert torch.equal(data.index(data.factors(rows)), rows)
    assert data.factors([40_960 * 6 + 1024 * 3 + 32 * 2 + 1]).tolist() == [[1, 0, 3, 2, 1]]


def test_the_quick_variant_lists_only_what_varies(quick):
    assert quick.factor_names == ("scale", "position_x", "position_y")
    assert quick.factor_sizes == (6, 16, 16)
    assert len(quick) == 1536
    assert quick.image_shape == (1, 32, 32)
    assert quick.factor_values["shape"] == (1.0,)
    assert quick.factor_values["orientation"] == (0.0,)
    assert quick.factor_values["position_x"][::15] == (16, 48)
    assert quick.factor_values["position_y"][::15] == (26, 38)
    images = quick.images(range(1536))
    assert len(images.flatten(1).unique(dim=0)) == 1536


def test_official_orientations_0_and_39_coincide_and_the_default_ones_do_not():
    official, default = DSpritesLike("official"), DSpritesLike()
    classes = torch.cartesian_prod(
        torch.arange(3),
        torch.arange(6),
        torch.tensor([0, 39]),
        torch.tensor([0, 13, 31]),
        torch.tensor([0, 14, 31]),
    )
    first, last = (classes[classes[:, 2] == orientation] for orientation in (0, 39))
    assert torch.equal(official.sample_images(first), official.sample_images(last))
    differ = (default.sample_images(first) != default.sample_images(last)).flatten(1).any(1)
    assert differ.all()
    assert torch.equal(official.sample_images(first), default.sample_images(first))


def test_images_do_not_depend_on_their_batch(full):
    index = torch.randint(len(full), (200,), generator=torch.Generator().manual_seed(0))
    together = full.images(index)
    assert torch.equal(full.images(index.flip(0)), together.flip(0))
    assert full.images([]).shape == (0, 1, 64, 64)
    for size in (1, 3, 64, 65):
        assert torch.equal(torch.cat([full.images(part) for part in index.split(size)]), together)


@pytest.mark.parametrize("variant", ["default", "official"])
@pytest.mark.parametrize("inside", [dsprites_like._in_square, dsprites_like._in_ellipse, dsprites_like._in_heart])
def test_no_pixel_centre_lies_close_enough_to_an_outline_for_rounding_to_matter(inside, variant):
    values = dsprites_like._factor_values(variant)
    centres = torch.tensor(values["position_x"], dtype=torch.float64)
    offsets = ((torch.arange(64) + 0.5)[None] - centres[:, None]).unique()
    offsets = offsets[offsets.abs() < 14]
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        scale = SCALES[int(torch.randint(6, (), generator=generator))]
        theta = values["orientation"][int(torch.randint(40, (), generator=generator))]
        c, s = math.cos(theta), math.sin(theta)
        u = (c * offsets[None, :] - s * offsets[:, None]) / scale
        v = (s * offsets[None, :] + c * offsets[:, None]) / scale
        for du, dv in ((1e-9, 1e-9), (1e-9, -1e-9), (-1e-9, 1e-9), (-1e-9, -1e-9)):
            assert torch.equal(inside(u + du, v + dv), inside(u, v))


def sweep(data, **changes):
    """Images along one factor, the others at (shape 1, scale 5, orientation 0, position 15, 15)."""
    base = {"shape": 1, "scale": 5, "orientation": 0, "position_x": 15, "position_y": 15} | changes
    (name,) = (name for name, value in base.items() if value is None)
    size = data.factor_sizes[data.factor_names.index(name)]
    rows = [[k if value is None else value for value in base.values()] for k in range(size)]
    return data.sample_images(rows).double().flatten(2).squeeze(1).view(size, 64, 64) / 255


def moments(images):
    """Area, centre (x, y) and the angle of the longest axis, counted anticlockwise as seen."""
    places = torch.arange(64, dtype=torch.float64) + 0.5
    area = images.sum((1, 2))
    x, y = (images.sum(1) * places).sum(1) / area, (images.sum(2) * places).sum(1) / area
    dx, dy = places[None] - x[:, None], places[None] - y[:, None]
    xx, yy = (images.sum(1) * dx**2).sum(1), (images.sum(2) * dy**2).sum(1)
    xy = torch.einsum("nij,nj,ni->n", images, dx, dy)
    return area, x, y, -0.5 * torch.atan2(2 * xy, xx - yy)


AREAS = [(0, 19.2**2), (1, math.pi * 12.76 * 7.22), (2, 0.6 * 0.665 * 180 * math.pi)]


@pytest.mark.parametrize(("shape", "area"), AREAS)
def test_shape_and_scale_set_the_area(full, shape, area):
    areas, x, y, _ = moments(sweep(full, shape=shape, orientation=3, scale=None))
    np.testing.assert_allclose(areas, area * np.square(SCALES), rtol=0.07)
    assert (x - x.mean()).abs().max() < 0.3
    assert (y - y.mean()).abs().max() < 0.7


@pytest.mark.parametrize("shape", range(3))
def test_position_moves_the_centre_and_nothing_else(full, shape):
    for name, other in (("position_x", "position_y"), ("position_y", "position_x")):
        area, x, y, _ = moments(sweep(full, shape=shape, **{name: None}))
        moved, still = (x, y) if name == "position_x" else (y, x)
        np.testing.assert_allclose(moved - moved[0], np.arange(32) * 32 / 31, atol=0.6)
        assert (still - still[0]).abs().max() < 0.2, other
        assert (area / area.mean() - 1).abs().max() < 0.06


def test_orientation_turns_the_ellipse_anticlockwise(full):
    area, x, y, angle = moments(sweep(full, orientation=None))
    expected = torch.arange(40, dtype=torch.float64) * 2 * math.pi / 40
    assert torch.sin(angle - expected).abs().max() < 0.03
    assert (area / area.mean() - 1).abs().max() < 0.03
    assert (x - x.mean()).abs().max() < 0.3
    assert (y - y.mean()).abs().max() < 0.3


def test_the_heart_at_orientation_0_stands_on_its_tip(full):
    heart = full.sample_images([[2, 5, 0, 15, 15]])[0, 0].bool()
    rows = heart.any(1).nonzero().flatten()
    assert heart[rows[0]].sum() > heart[rows[-1]].sum()
    assert heart[rows[-4:]].sum() < heart[rows[:4]].sum() / 2


@pytest.mark.parametrize("variant", ["default", "quick"])
def test_preloading_changes_no_image(variant, monkeypatch):
    values = dsprites_like._factor_values(variant)
    few = {name: table if len(table) <= 6 else table[::7] for name, table in values.items()}
    monkeypatch.setattr(dsprites_like, "_factor_values", lambda variant: few)
    data = DSpritesLike(variant)
    rows = torch.arange(len(data))
    images, batch = data.images(rows), data.batch(rows)
    assert data.preload() is data
    if variant == "default":
        assert data._stored.shape == (len(data), 512)
        monkeypatch.setattr(data, "_render", None)
    assert torch.equal(data.images(rows), images)
    assert torch.equal(data.batch(rows.flip(0)), batch.flip(0))
    assert images.any()


def test_repr_says_what_it_is(quick):
    assert repr(quick) == (
        "DSpritesLike(dsprites_like (quick): 1,536 images of 1x32x32; scale 6, position_x 16, position_y 16)"
    )
