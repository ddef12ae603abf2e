"""Data order and noise follow from (seed, step) alone."""

from __future__ import annotations

import pytest
import torch

from disentangle_ext._seeds import mix
from disentangle_ext.engine.batches import BatchOrder
from disentangle_ext.engine.randomness import NOISE_STREAMS, noise_key, seeded_initialisation


def test_every_epoch_is_a_permutation() -> None:
    order = BatchOrder(12, 4, seed=0)
    epochs = [torch.cat([order.index(step) for step in range(first, first + 3)]) for first in (0, 3, 6)]
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(12))
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 3


def test_a_rest_is_left_out_of_its_epoch_and_comes_back() -> None:
    order = BatchOrder(10, 4, seed=0)
    assert order.steps_per_epoch == 2
    epochs = [torch.cat([order.index(2 * e), order.index(2 * e + 1)]).tolist() for e in range(30)]
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert {row for epoch in epochs for row in epoch} == set(range(10))


def test_order_does_not_depend_on_what_was_asked_before() -> None:
    order = BatchOrder(100, 8, seed=3)
    forward = [order.index(step) for step in range(40)]
    for step in reversed(range(40)):
        assert torch.equal(BatchOrder(100, 8, seed=3).index(step), forward[step])
        assert torch.equal(order.index(step), forward[step])


def test_seeds_and_epochs_do_not_share_orders() -> None:
    orders = {tuple(BatchOrder(50, 50, seed).index(epoch).tolist()) for seed in range(6) for epoch in range(6)}
    assert len(orders) == 36


@pytest.mark.parametrize("batch_size", [0, 11])
def test_batch_size_must_fit(batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size must be from 1 to the 10 images there are, got {batch_size}"):
        BatchOrder(10, batch_size, seed=0)


def test_mix_is_a_usable_seed_and_separates_neighbours() -> None:
    values = {mix(seed, a, b) for seed in range(8) for a in range(8) for b in range(8)}
    assert len(values) == 512
    assert all(0 <= value < 2**63 for value in values)
    assert mix(2**63 - 1, -1) >= 0


def test_noise_keys_are_distinct_over_steps_and_streams() -> None:
    keys = {
        tuple(noise_key(seed, step, stream=stream).tolist())
        for seed in range(3)
        for step in range(20)
        for stream in range(NOISE_STREAMS)
    }
    assert len(keys) == 3 * 20 * NOISE_STREAMS
    assert noise_key(1, 2).dtype == torch.int64


def test_initialisation_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    want = torch.rand(3)
    torch.manual_seed(1)
    with seeded_initialisation(7):
        first = torch.rand(2)
    assert torch.equal(torch.rand(3), want)
    with seeded_initialisation(7):
        assert torch.equal(torch.rand(2), first)
    with seeded_initialisation(8):
        assert not torch.equal(torch.rand(2), first)
