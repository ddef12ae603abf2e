"""The learning rate of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

LRSchedule = Literal["constant", "cosine"]

COSINE_FLOOR = 0.05
"""Where the cosine ends, as a part of the learning rate."""


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up over ``warmup`` steps, then constant, or half a cosine down to 5 % at ``max_steps``."""

    lr: float
    kind: LRSchedule
    warmup: int
    max_steps: int

    def __call__(self, step: int) -> float:
        """The learning rate of the update numbered ``step``, from 0."""
        rising = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.kind == "constant":
            return self.lr * rising
        part = min(1.0, step / self.max_steps)
        return self.lr * rising * (COSINE_FLOOR + (1 - COSINE_FLOOR) * 0.5 * (1 + math.cos(math.pi * part)))
