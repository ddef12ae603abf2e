"""Everything random in training as a pure function of (seed, step).

A run that stops and goes on then needs no generator state: the step is the state. It also makes the data order and
the noise independent of how the work is divided.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import torch
from torch import Tensor

from disentangle_ext._seeds import mix

NOISE_STREAMS = 8
"""Independent streams of noise in one step."""


class Stream(IntEnum):
    """What the noise of a step is for."""

    POSTERIOR = 0
    OBJECTIVE = 1
    SECOND_POSTERIOR = 2
    ADVERSARY = 3


_INITIALISATION, _ORDER, _SECOND_ORDER, _STEP = range(4)


@contextmanager
def seeded_initialisation(seed: int) -> Iterator[None]:
    """Run a block that draws initial weights from torch's CPU generator, which is put back after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed, _INITIALISATION))
        yield


def noise_key(seed: int, step: int, *, stream: int = 0, device: torch.device | str = "cpu") -> Tensor:
    """The key of one step's noise, for the ops' ``key=``: int64 [2] = (seed, offset)."""
    return torch.tensor([seed, step * NOISE_STREAMS + stream], dtype=torch.int64, device=device)


def epoch_generator(seed: int, epoch: int, *, second: bool = False) -> torch.Generator:
    """A generator for the permutation of an epoch; ``second`` is another, independent one with the same seed."""
    return torch.Generator().manual_seed(mix(seed, _SECOND_ORDER if second else _ORDER, epoch))


def step_generator(seed: int, step: int) -> torch.Generator:
    """A generator for what is drawn to choose the images of one step."""
    return torch.Generator().manual_seed(mix(seed, _STEP, step))
