"""Batches in which one group varies: which, how often, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from disentangle_ext.data import ArrayData, DSpritesLike, GroupedSampler, TorusLike, digits

GROUPS = {"azimuth": ["position_x"], "light": ["position_y"], "intrinsic": ["hue", "orientation"]}


@pytest.fixture(scope="module")
def data():
    return TorusLike(factors=4, classes=8)


def test_one_group_varies_and_the_others_stand_still(data):
    sampler = GroupedSampler(data, GROUPS)
    generator = torch.Generator().manual_seed(0)
    for group, factors in GROUPS.items():
        for _ in range(5):
            name, rows = sampler.draw(64, group=group, generator=generator)
            assert name == group
            classes = data.factors(rows)
            distinct = {factor: len(classes[:, k].unique()) for k, factor in enumerate(data.factor_names)}
            assert all((count >= 7) == (factor in factors) for factor, count in distinct.items()), distinct
            assert all(count == 1 for factor, count in distinct.items() if factor not in factors)


def test_groups_come_in_the_ratio_of_their_weights(data):
    sampler = GroupedSampler(data, GROUPS, weights={"intrinsic": 10})
    generator = torch.Generator().manual_seed(1)
    drawn = [sampler.draw(1, generator=generator).group for _ in range(2000)]
    for group, share in (("azimuth", 1 / 12), ("light", 1 / 12), ("intrinsic", 10 / 12)):
        assert drawn.count(group) == pytest.approx(2000 * share, abs=5 * (2000 * share * (1 - share)) ** 0.5)


def test_what_varies_and_what_stands_still_is_uniform(data):
    sampler = GroupedSampler(data, GROUPS)
    generator = torch.Generator().manual_seed(2)
    batches = [data.factors(sampler.draw(2, group="azimuth", generator=generator).rows) for _ in range(2000)]
    first = torch.stack([batch[0] for batch in batches])
    for k in range(4):
        counts = torch.bincount(first[:, k], minlength=8)
        assert ((counts - 250).abs() < 5 * 250**0.5).all()
    pairs = torch.stack([batch[:, 0] for batch in batches]).double()
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.1


def test_a_seed_decides_and_a_given_group_changes_nothing_else(data):
    sampler = GroupedSampler(data, GROUPS)
    for seed in range(8):
        group, rows = sampler.draw(9, generator=torch.Generator().manual_seed(seed))
        again = sampler.draw(9, group=group, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(rows, again.rows)
    state = torch.get_rng_state()
    sampler.draw(3, generator=torch.Generator())
    assert torch.equal(torch.get_rng_state(), state)
    assert sampler.draw(0).rows.shape == (0,)


def test_factors_in_no_group_stand_still():
    data = DSpritesLike("quick")
    rows = GroupedSampler(data, {"x": ["position_x"]}).draw(50).rows
    classes = data.factors(rows)
    assert (classes[:, [0, 2]] == classes[:1, [0, 2]]).all()


def test_arrays_serve_if_they_form_a_grid():
    grid = np.stack(np.unravel_index(np.arange(12), (3, 4)), 1)[::-1]
    images = np.arange(12, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
    sampler = GroupedSampler(ArrayData(images, grid, ["a", "b"]), {"a": ["a"]})
    assert len(sampler.draw(60).rows.unique()) == 3
    with pytest.raises(ValueError, match="GroupedSampler: data must be a full grid of factors, arrays is not"):
        GroupedSampler(ArrayData(images[1:], grid[1:], ["a", "b"]), {"a": ["a"]})
    with pytest.raises(ValueError, match="data must be a full grid of factors, arrays is not"):
        GroupedSampler(ArrayData(images), {"a": ["a"]})
    assert digits().is_grid


@pytest.mark.parametrize(
    ("groups", "weights", "message"),
    [
        ({}, None, "groups must name at least one group, got none"),
        ({"a": []}, None, r"group 'a' must be a list of factors, got \[\]"),
        ({"a": "hue"}, None, "group 'a' must be a list of factors, got 'hue'"),
        ({"a": ["hu"]}, None, "group 'a': unknown factor 'hu': did you mean 'hue'"),
        ({"a": ["hue"], "b": ["hue"]}, None, "groups must share no factor, 'hue' is named twice"),
        ({"a": ["hue"]}, {"b": 1}, "weights: unknown group 'b'"),
        ({"a": ["hue"]}, {"a": 0}, "weights must be greater than 0 and finite, 'a' has 0.0"),
    ],
)
def test_wrong_groups_are_named(data, groups, weights, message):
    with pytest.raises(ValueError, match=f"GroupedSampler: {message}"):
        GroupedSampler(data, groups, weights=weights)


def test_wrong_draws_are_named(data):
    with pytest.raises(ValueError, match="GroupedSampler.draw: n must be at least 0, got -1"):
        GroupedSampler(data, GROUPS).draw(-1)
    with pytest.raises(ValueError, match="GroupedSampler.draw: unknown group 'ligth': did you mean 'light'"):
        GroupedSampler(data, GROUPS).draw(1, group="ligth")
