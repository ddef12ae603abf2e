"""The group acts as a group, on images and on the exact code."""

from __future__ import annotations

import math

import pytest
import torch

from disentangle_ext.data import TorusLike


def some(data, n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    index = data.index(data.sample_factors(n, generator=generator))
    g, h = torch.randint(-50, 50, (2, n, len(data.factor_names)), generator=generator)
    return index, g, h


@pytest.mark.parametrize("factors", [2, 3, 4])
def test_the_action_is_that_of_a_group(factors):
    data = TorusLike(factors=factors, classes=7)
    index, g, h = some(data, 200)
    assert torch.equal(data.act(data.act(index, g), h), data.act(index, g + h))
    assert torch.equal(data.act(index, torch.zeros_like(g)), index)
    assert torch.equal(data.act(data.act(index, g), -g), index)
    assert torch.equal(data.act(index, g % 7), data.act(index, g))
    assert torch.equal(data.act(index, g[0]), data.act(index, g[:1].expand_as(g)))


def test_the_action_is_free_and_transitive():
    data = TorusLike(factors=2, classes=5)
    g = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    for row in (0, 13):
        assert sorted(data.act(torch.full((25,), row), g).tolist()) == list(range(25))


@pytest.mark.parametrize("factors", [2, 4])
def test_the_exact_code_is_equivariant(factors):
    data = TorusLike(factors=factors, classes=9)
    index, g, _ = some(data, 300)
    before = data.exact_code(index).view(300, factors, 2)
    angle = 2 * math.pi / 9 * g.double()
    turned = torch.stack(
        [
            angle.cos() * before[..., 0] - angle.sin() * before[..., 1],
            angle.sin() * before[..., 0] + angle.cos() * before[..., 1],
        ],
        -1,
    )
    torch.testing.assert_close(data.exact_code(data.act(index, g)).double(), turned.flatten(1), atol=1e-6, rtol=0)
    assert len(data.exact_code(range(81)).unique(dim=0)) == 81


def test_a_step_of_position_rolls_the_image():
    data = TorusLike(factors=4, classes=16, size=32)
    index, g, _ = some(data, 20)
    g[:, 2:] = 0
    for before, after, (x, y, _, _) in zip(data.images(index), data.images(data.act(index, g)), g.tolist()):
        assert torch.equal(before.roll((2 * y, 2 * x), (1, 2)), after)


def test_hue_and_orientation_change_what_they_should():
    data = TorusLike(factors=4, classes=12)
    here = torch.tensor([[6, 6, hue, 0] for hue in range(12)])
    images = data.sample_images(here)
    assert len(images.flatten(1).unique(dim=0)) == 12
    assert torch.equal((images > 20).any(1), (images[:1] > 20).any(1).expand(12, -1, -1))
    assert images[0, :, 32, 32].tolist() == [255, 38, 38]
    turned = data.sample_images(torch.tensor([[6, 6, 0, k] for k in range(12)]))
    assert len(turned.flatten(1).unique(dim=0)) == 12
    for quarter in range(4):  # anticlockwise as seen
        difference = turned[3 * quarter].int() - torch.rot90(turned[0], quarter, (1, 2)).int()
        assert difference.abs().max() <= 1


@pytest.mark.parametrize(("factors", "classes"), [(2, 16), (3, 6), (4, 4)])
def test_every_row_is_another_image_and_no_batch_changes_it(factors, classes):
    data = TorusLike(factors=factors, classes=classes, size=32)
    rows = torch.arange(len(data))
    images = data.images(rows)
    assert len(images.flatten(1).unique(dim=0)) == len(data) == classes**factors
    assert images.shape[1] == (1 if factors == 2 else 3)
    assert torch.equal(data.images(rows[:77].flip(0)), images[:77].flip(0))
    assert data.images([]).shape == (0, *data.image_shape)


def test_transitions_are_uniform_and_lead_to_their_targets():
    data = TorusLike(factors=2, classes=8)
    index, g, target = data.transitions(4000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(data.act(index, g), target)
    for values, size in ((index, 64), (g[:, 0], 8), (g[:, 1], 8)):
        counts = torch.bincount(values, minlength=size)
        assert ((counts - 4000 / size).abs() < 5 * (4000 / size) ** 0.5).all()
    small = data.transitions(500, max_step=1, generator=torch.Generator().manual_seed(1))
    assert small.g.unique().tolist() == [-1, 0, 1]
    assert torch.equal(data.act(small.before, small.g), small.after)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: TorusLike(factors=5), ValueError, "TorusLike: factors must be 2, 3 or 4, got 5"),
        (lambda: TorusLike(classes=1), ValueError, "TorusLike: classes must be in 2..256, got 1"),
        (lambda: TorusLike(size=7), ValueError, "TorusLike: size must be in 8..1024, got 7"),
        (lambda: TorusLike().act([0], [[1, 1]]), ValueError, r"act: g must have shape \[1, 3\] or \[3\] .*\[1, 2\]"),
        (lambda: TorusLike().act([0], [0.5, 0, 0]), TypeError, "act: g must hold integers, got torch.float32"),
        (lambda: TorusLike().act([32**3], [0, 0, 0]), IndexError, r"act: index must be in 0\.\.32767, got 32768"),
        (lambda: TorusLike().transitions(1, max_step=0), ValueError, "max_step must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
