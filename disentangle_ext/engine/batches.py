"""Which images make up the batch of each step, as a pure function of (seed, step)."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from disentangle_ext._errors import MistakeError
from disentangle_ext.data import GroundTruthData, GroupedBatch, GroupedSampler
from disentangle_ext.engine.randomness import epoch_generator, step_generator
from disentangle_ext.objectives.base import Changes, GroupObjective, Objective, PairObjective


class Order(Protocol):
    """Rows of a data set by step."""

    batch_size: int
    """Images in a batch."""

    def index(self, step: int) -> Tensor:
        """The rows of the batch of ``step``, int64 [batch_size]."""

    def group(self, step: int) -> int | None:
        """The number of the group of factors that varies in the batch of ``step``; None where none is chosen."""


def batch_order(objective: Objective, data: GroundTruthData, batch_size: int, seed: int) -> Order:
    """Make the order of the batches that an objective is made for.

    Raises:
        MistakeError: if the data set has no such batches, or none of this size.
    """
    if batch_size < objective.smallest_batch:
        raise MistakeError(
            f"{type(objective).__name__}: batch_size must be at least {objective.smallest_batch}, got {batch_size}"
        )
    if isinstance(objective, (PairObjective, GroupObjective)) and len(data.factor_names) < 2:
        raise MistakeError(
            f"{type(objective).__name__}: data must have at least 2 factors, of which some vary in a batch and others "
            f"do not, {data.name} has {len(data.factor_names)}"
        )
    if isinstance(objective, PairObjective):
        return PairOrder(data, batch_size, seed, changes=objective.changes)
    if isinstance(objective, GroupObjective):
        return GroupOrder(GroupedSampler(data, objective.groups, weights=objective.weights), batch_size, seed)
    return BatchOrder(len(data), batch_size, seed)


class PairOrder:
    """Batches of pairs: row i of the second half has the factors of row i of the first, but for a few drawn anew.

    The number of those is 1, or uniform over 1, ..., K - 1 for K factors (Locatello et al. 2020, "Weakly-supervised
    disentanglement without compromises", k = 1 and k = Rnd); which they are, and their new classes, is uniform too, so
    that a new class can be the old one. Where several images have the same factors, both halves draw among them.

    Args:
        data: a full grid of factors.
        batch_size: images in a batch, twice the number of pairs.
        seed: seed of everything that is drawn.
        changes: "one" or "random".

    Raises:
        MistakeError: for data that is no full grid of factors, or an odd batch.
    """

    def __init__(self, data: GroundTruthData, batch_size: int, seed: int, *, changes: Changes) -> None:
        if not data.factor_names or not data.is_grid:
            raise MistakeError(f"PairOrder: data must be a full grid of factors, {data.name} is not")
        if batch_size < 2 or batch_size % 2:
            raise MistakeError(f"PairOrder: batch_size must be even, for pairs of images, got {batch_size}")
        self.data = data
        self.batch_size = batch_size
        self.seed = seed
        self.most = 1 if changes == "one" else max(1, len(data.factor_names) - 1)

    def index(self, step: int) -> Tensor:
        generator = step_generator(self.seed, step)
        pairs, sizes = self.batch_size // 2, self.data.factor_sizes
        first, fresh = (
            torch.stack([torch.randint(size, (pairs,), generator=generator) for size in sizes], 1) for _ in range(2)
        )
        count = torch.randint(1, self.most + 1, (pairs, 1), generator=generator)
        place = torch.rand(pairs, len(sizes), dtype=torch.float64, generator=generator).argsort(1)
        second = torch.where(place.argsort(1) < count, fresh, first)
        return self.data.sample_index(torch.cat([first, second]), generator=generator)

    def group(self, step: int) -> None:
        return None


class GroupOrder:
    """Batches in which one group of factors varies.

    Args:
        sampler: draws the batches.
        batch_size: images in a batch.
        seed: seed of the draws.
    """

    def __init__(self, sampler: GroupedSampler, batch_size: int, seed: int) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.seed = seed
        self._last: tuple[int, GroupedBatch] | None = None

    def index(self, step: int) -> Tensor:
        return self._draw(step).rows

    def group(self, step: int) -> int:
        return self.sampler.groups.index(self._draw(step).group)

    def _draw(self, step: int) -> GroupedBatch:
        if self._last is None or self._last[0] != step:
            self._last = step, self.sampler.draw(self.batch_size, generator=step_generator(self.seed, step))
        return self._last[1]


class BatchOrder:
    """Which images make up the batch of each step: every epoch is a fresh permutation of the data set.

    What does not fill a batch at the end of an epoch is left out of that epoch.

    Args:
        size: number of images N.
        batch_size: images in a batch.
        seed: seed of the permutations.
        second: draw permutations that are independent of those of the order with this seed and ``second=False``.

    Raises:
        MistakeError: if the batch is empty or larger than the data set.
    """

    def __init__(self, size: int, batch_size: int, seed: int, *, second: bool = False) -> None:
        if not 1 <= batch_size <= size:
            raise MistakeError(
                f"BatchOrder: batch_size must be from 1 to the {size} images there are, got {batch_size}"
            )
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.second = second
        self.steps_per_epoch = size // batch_size
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def index(self, step: int) -> Tensor:
        """The rows of the batch of ``step``, int64 [batch_size]."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = epoch_generator(self.seed, epoch, second=self.second)
            self._permutation = torch.randperm(self.size, generator=generator)
            self._epoch = epoch
        return self._permutation[place * self.batch_size : (place + 1) * self.batch_size]

    def group(self, step: int) -> None:
        """No group of factors is chosen."""
        return None
