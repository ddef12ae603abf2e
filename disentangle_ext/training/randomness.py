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

NOISE_STREAMS = 8
"""Independent streams of noise in one step."""


class Stream(IntEnum):
    """What the noise of a step is for."""

    POSTERIOR = 0
    OBJECTIVE = 1
    SECOND_POSTERIOR = 2
    ADVERSARY = 3


_MASK = (1 << 64) - 1


_INITIALISATION, _ORDER, _SECOND_ORDER, _STEP = range(4)


def mix(seed: int, *parts: int) -> int:
    """A 63-bit seed from several integers, by the finaliser of SplitMix64 (Steele, Lea & Flood 2014).

    Neighbouring seeds and steps give unrelated results, so seed 0 in epoch 1 is not seed 1 in epoch 0.
    """
    state = 0
    for part in (seed, *parts):
        state = (state + (part & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


@contextmanager
def seeded_initialisation(seed: int) -> Iterator[None]:
    """Run a block that draws initial weights from torch's CPU generator, which is put back after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed, _INITIALISATION))
        yield


def noise_key(seed: int, step: int, *, stream: int = 0, device: torch.device | str = "cpu") -> Tensor:
    """The key of one step's noise, for the ops' ``key=``: int64 [2] = (seed, offset)."""
    return torch.tensor([seed, step * NOISE_STREAMS + stream], dtype=torch.int64, device=device)


def step_generator(seed: int, step: int) -> torch.Generator:
    """A generator for what is drawn to choose the images of one step."""
    return torch.Generator().manual_seed(mix(seed, _STEP, step))


class BatchOrder:
    """Which images make up the batch of each step: every epoch is a fresh permutation of the data set.

    What does not fill a batch at the end of an epoch is left out of that epoch.

    Args:
        size: number of images N.
        batch_size: images in a batch.
        seed: of the permutations.
        second: whether the permutations are others than those of the first order with this seed, and independent.

    Raises:
        ValueError: if the batch is empty or larger than the data set.
    """

    def __init__(self, size: int, batch_size: int, seed: int, *, second: bool = False) -> None:
        if not 1 <= batch_size <= size:
            raise ValueError(f"BatchOrder: batch_size must be from 1 to the {size} images there are, got {batch_size}")
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self._stream = _SECOND_ORDER if second else _ORDER
        self.steps_per_epoch = size // batch_size
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def index(self, step: int) -> Tensor:
        """The rows of the batch of ``step``, int64 [batch_size]."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(mix(self.seed, self._stream, epoch))
            self._permutation = torch.randperm(self.size, generator=generator)
            self._epoch = epoch
        return self._permutation[place * self.batch_size : (place + 1) * self.batch_size]

    def group(self, step: int) -> None:
        """No group of factors is chosen."""
        return None
