"""Pairs and groups of images by (seed, step)."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from disentangle_ext.data import ArrayData, GroupedSampler, load_data
from disentangle_ext.engine.batches import BatchOrder, GroupOrder, PairOrder, batch_order
from disentangle_ext.objectives import DCIGN, WAEMMD, AdaGVAE, BetaTCVAE, FactorVAE, InfoVAE, PlainVAE

DATA = ArrayData(
    torch.randint(256, (120, 1, 4, 4), dtype=torch.uint8), list(product(range(2), range(3), range(4), range(5)))
)


@pytest.mark.parametrize(("changes", "most"), [("one", 1), ("random", 3)])
def test_pairs_share_all_factors_but_some(changes: str, most: int) -> None:
    order = PairOrder(DATA, 400, 0, changes=changes)
    first, second = DATA.factors(order.index(0)).chunk(2)
    differing = (first != second).sum(1)
    assert differing.max() == most
    assert (first != second).any(0).all()
    for column, size in enumerate(DATA.factor_sizes):
        assert set(first[:, column].tolist()) == set(second[:, column].tolist()) == set(range(size))
    # Each factor is drawn anew in 1 of 4 pairs, or 2 of 4 on average; a new class is another one in 1 - 1/size.
    often = {"one": 0.25, "random": 0.5}[changes]
    rows = torch.cat([(a != b).double() for a, b in (DATA.factors(order.index(s)).chunk(2) for s in range(30))])
    for share, size in zip(rows.mean(0).tolist(), DATA.factor_sizes):
        assert share == pytest.approx(often * (1 - 1 / size), abs=0.03)


def test_steps_and_seeds_decide() -> None:
    groups = {"a": ["factor_0", "factor_1"], "b": ["factor_3"]}

    def orders(seed: int) -> tuple[PairOrder, GroupOrder]:
        return PairOrder(DATA, 8, seed, changes="one"), GroupOrder(GroupedSampler(DATA, groups), 8, seed)

    for one, again, other in zip(orders(0), orders(0), orders(1)):
        wanted = [one.index(step).tolist() for step in range(4)]
        assert [again.index(step).tolist() for step in (3, 2, 1, 0)] == wanted[::-1]
        assert wanted[0] not in (wanted[1], other.index(0).tolist())


def test_one_group_varies() -> None:
    groups = {"a": ["factor_0", "factor_1"], "b": ["factor_3"]}
    order = GroupOrder(GroupedSampler(DATA, groups, weights={"b": 3}), 40, 0)
    seen = []
    for step in range(200):
        varying = (DATA.factors(order.index(step)) != DATA.factors(order.index(step))[:1]).any(0).tolist()
        assert varying == [[True, True, False, False], [False, False, False, True]][order.group(step)]
        seen.append(order.group(step))
    assert sum(seen) / 200 == pytest.approx(0.75, abs=0.1)


def test_the_objective_chooses() -> None:
    data = load_data("dsprites_like", variant="quick")
    assert isinstance(batch_order(PlainVAE(), data, 8, 0), BatchOrder)
    assert batch_order(PlainVAE(), data, 8, 0).group(0) is None
    assert batch_order(AdaGVAE(changes="random"), data, 8, 0).most == 2
    groups = batch_order(DCIGN(latent_dim=6, factor_names=data.factor_names), data, 8, 0)
    assert groups.sampler.groups == data.factor_names


def test_a_batch_too_small_to_mean_something() -> None:
    for objective in (BetaTCVAE(dataset_size=120), FactorVAE(latent_dim=2, discriminator_width=2), WAEMMD()):
        with pytest.raises(ValueError, match=f"{type(objective).__name__}: batch_size must be at least 2, got 1"):
            batch_order(objective, DATA, 1, 0)
        assert batch_order(objective, DATA, 2, 0).index(0).shape == (2,)
    assert batch_order(InfoVAE(), DATA, 1, 0).index(0).shape == (1,)
    with pytest.raises(ValueError, match="InfoVAE: batch_size must be at least 2, got 1"):
        batch_order(InfoVAE(convention="wae"), DATA, 1, 0)


def test_errors() -> None:
    with pytest.raises(ValueError, match="batch_size must be even, for pairs of images, got 7"):
        PairOrder(DATA, 7, 0, changes="one")
    with pytest.raises(ValueError, match="PairOrder: data must be a full grid of factors, arrays is not"):
        PairOrder(ArrayData(torch.randint(256, (9, 1, 4, 4), dtype=torch.uint8)), 4, 0, changes="one")
    one = ArrayData(torch.randint(256, (6, 1, 4, 4), dtype=torch.uint8), [[0], [1], [2]] * 2)
    for objective in (AdaGVAE(), DCIGN(latent_dim=2, factor_names=one.factor_names)):
        with pytest.raises(ValueError, match=rf"{type(objective).__name__}: data must have at least 2 .*arrays has 1"):
            batch_order(objective, one, 2, 0)
    assert isinstance(batch_order(PlainVAE(), one, 2, 0), BatchOrder)


def test_every_image_of_a_combination_is_drawn() -> None:
    """Three images for each of 3 x 4 combinations, one of them with a fourth."""
    rows = [*list(product(range(3), range(4))) * 3, (1, 2)]
    data = ArrayData(torch.randint(256, (len(rows), 1, 4, 4), dtype=torch.uint8), rows)
    pairs = PairOrder(data, 100, 0, changes="one")
    groups = GroupOrder(GroupedSampler(data, {"a": ["factor_0"], "b": ["factor_1"]}), 100, 0)
    for order in (pairs, groups):
        drawn = torch.cat([order.index(step) for step in range(150)])
        assert set(drawn.tolist()) == set(range(len(rows)))
        assert torch.equal(order.index(3), order.index(3))
        assert torch.equal(data.factors(drawn), torch.tensor(rows)[drawn])
    first, second = pairs.index(0).chunk(2)
    assert ((data.factors(first) != data.factors(second)).sum(1) <= 1).all()
    assert len((data.factors(groups.index(0)) != data.factors(groups.index(0))[:1]).any(0).nonzero()) == 1
