"""Batches in which one group of factors varies and the others stand still, as DC-IGN is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from disentangle_ext._errors import MistakeError
from disentangle_ext._names import choose
from disentangle_ext.data.base import GroundTruthData

__all__ = ["GroupedBatch", "GroupedSampler"]


class GroupedBatch(NamedTuple):
    """Rows that differ in one group of factors."""

    group: str
    """the group that varies"""
    rows: Tensor
    """[n]"""


class GroupedSampler:
    """Draws batches of rows in which one group of factors varies and all other factors are fixed.

    Each draw chooses a group with a probability proportional to its weight, one combination of classes for all factors,
    uniformly, and for each row classes of the group's factors anew, uniformly. Where several images have the classes of
    a row, it is any of them: what they differ in varies in every batch.

    >>> data = load_data("faces_like")
    >>> groups = {"azimuth": ["azimuth"], "elevation": ["elevation"], "light": ["light"], "intrinsic": ["identity"]}
    >>> sampler = GroupedSampler(data, groups, weights={"intrinsic": 10})
    >>> group, rows = sampler.draw(64, generator=torch.Generator().manual_seed(0))
    >>> images = data.batch(rows)

    That is the recipe of DC-IGN: ratio 1:1:1:10. Like all sampling of a data set, a draw happens on the generator's
    device, the CPU without one, and one seed gives the same rows wherever the images live.

    Args:
        data: a full grid of factors.
        groups: for each group the names of its factors; no factor in two of them. Factors in none stand still.
        weights: the relative frequency of a group, 1 for those left out.

    Raises:
        ValueError: for data that is no full grid of factors, an unknown factor, a factor in two groups, an empty group
            or a weight that is not positive.

    Kulkarni, Whitney, Kohli, Tenenbaum, "Deep Convolutional Inverse Graphics Network", NeurIPS 2015 (arXiv
    1503.03167), section 3.2.
    """

    def __init__(
        self,
        data: GroundTruthData,
        groups: Mapping[str, Sequence[str]],
        *,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        if not data.factor_names or not data.is_grid:
            raise MistakeError(f"GroupedSampler: data must be a full grid of factors, {data.name} is not")
        if not groups:
            raise MistakeError("GroupedSampler: groups must name at least one group, got none")
        self.data = data
        self.groups = tuple(groups)
        self._columns = [self._find(name, factors) for name, factors in groups.items()]
        named = [factor for factors in groups.values() for factor in factors]
        twice = next((factor for factor in named if named.count(factor) > 1), None)
        if twice is not None:
            raise MistakeError(f"GroupedSampler: groups must share no factor, {twice!r} is named twice")
        weights = weights or {}
        for name in weights:
            choose("GroupedSampler: weights: group", name, groups)
        self._weights = torch.tensor([float(weights.get(name, 1)) for name in groups], dtype=torch.float64)
        for name, weight in zip(groups, self._weights.tolist()):
            if not 0 < weight < float("inf"):
                raise MistakeError(f"GroupedSampler: weights must be greater than 0 and finite, {name!r} has {weight}")

    def _find(self, name: str, factors: Sequence[str]) -> list[int]:
        if isinstance(factors, str) or not factors:
            raise MistakeError(f"GroupedSampler: group {name!r} must be a list of factors, got {factors!r}")
        known = self.data.factor_names
        return [known.index(choose(f"GroupedSampler: group {name!r}: factor", each, known)) for each in factors]

    def draw(self, n: int, *, group: str | None = None, generator: torch.Generator | None = None) -> GroupedBatch:
        """A group and ``n`` rows in which it alone varies.

        Args:
            n: how many rows.
            group: the group that varies; drawn by the weights without it.
            generator: where the randomness comes from.

        Raises:
            ValueError: for a negative ``n`` or an unknown group.
        """
        if n < 0:
            raise MistakeError(f"GroupedSampler.draw: n must be at least 0, got {n}")
        where = generator.device if generator is not None else torch.device("cpu")
        # Drawn even if the group is given: the rows that a seed gives do not depend on how the group was chosen.
        uniform = torch.rand((), dtype=torch.float64, generator=generator, device=where).item()
        if group is None:
            shares = self._weights.cumsum(0) / self._weights.sum()
            place = min(int(torch.searchsorted(shares, uniform, right=True)), len(self.groups) - 1)
        else:
            place = self.groups.index(choose("GroupedSampler.draw: group", group, self.groups))
        classes = [torch.randint(size, (n + 1,), generator=generator, device=where) for size in self.data.factor_sizes]
        varying = self._columns[place]
        factors = [each[1:] if k in varying else each[:1].expand(n) for k, each in enumerate(classes)]
        rows = self.data.sample_index(torch.stack(factors, 1), generator=generator)
        return GroupedBatch(self.groups[place], rows)
