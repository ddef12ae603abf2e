"""Randomness: every random op is a pure function of an int64 key (seed, offset)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from disentangle_ext._errors import describe
from disentangle_ext.ops import _checks


def make_key(
    op: str,
    like_name: str,
    like: Tensor,
    leading: Sequence[int],
    generator: torch.Generator | None,
    key: Tensor | None,
) -> Tensor:
    """The given key, or a fresh one drawn from the generator on the device of `like`, without a sync."""
    if key is not None:
        if generator is not None:
            raise ValueError(f"{op}: give a key or a generator, not both")
        _checks.key(op, key, like_name, like, leading)
        return key
    if generator is not None:
        check_generator(op, generator, like_name, like)
    # Both ends of the range that randint can express; in-place random_ would not compile or vmap.
    return torch.randint(-(2**63), 2**63 - 1, (2,), dtype=torch.int64, device=like.device, generator=generator)


def check_generator(op: str, generator: torch.Generator, like_name: str, like: Tensor) -> None:
    """Refuses what is no generator, or one of another device."""
    if torch.compiler.is_compiling():
        raise ValueError(f"{op}: a torch.Generator cannot enter a compiled graph: pass key= instead of generator=")
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"{op}: generator must be a torch.Generator, got {describe(generator)}")
    # On the meta device nothing is drawn.
    if generator.device.type != like.device.type and like.device.type != "meta":
        raise ValueError(
            f"{op}: generator must be on the device of {like_name} ({like.device}), got {generator.device}"
        )
