"""Averages of the terms of a loss between two readings, and the first step at which one was not finite."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from disentangle_ext.engine.ranks import Ranks
from disentangle_ext.objectives import Loss

TOTAL = "loss"


class NonFiniteLossError(RuntimeError):
    """A term of the loss became infinite or NaN.

    Attributes:
        step: the update at which it happened, counted from 0.
        term: the name of the term.
    """

    def __init__(self, step: int, term: str, value: float) -> None:
        super().__init__(f"train: {term} is {value} at step {step}")
        self.step = step
        self.term = term


class Meter:
    """Averages of the terms since they were last read, and the first step at which one was not finite.

    It only enqueues work, on tensors that stay where they are: nothing is read back from the device before
    :meth:`read`, and a graph can replay :meth:`add`. Of several processes each adds its own, and all read the same: the
    averages over them, and the first step at which any had a term that is not finite.

    Args:
        ranks: the processes that read together; default: this one alone.
    """

    def __init__(self, ranks: Ranks | None = None) -> None:
        self._ranks = ranks or Ranks()
        self.names: list[str] = []
        self._reset([], torch.device("cpu"))

    def add(self, step: int | Tensor, loss: Loss) -> None:
        names = [TOTAL, *loss.terms]
        if self.names != names:
            self._reset(names, loss.total.device)
        values = [loss.total.detach().float(), *(term.detach().float() for term in loss.terms.values())]
        terms = torch.stack([*values, self._one])
        self._sum += terms
        # What is not finite differs from itself by NaN: fewer ops than isfinite has.
        first = (self._bad_step < 0) & (terms - terms != 0).any()
        self._bad_step.copy_(torch.where(first, step, self._bad_step))
        torch.where(first, terms, self._bad_terms, out=self._bad_terms)

    def _reset(self, names: list[str], device: torch.device) -> None:
        self.names = names
        self._one = torch.ones((), device=device)
        # Sums of the terms, and last of ones: the number of steps, on the device because a replay runs no Python.
        self._sum = torch.zeros(len(names) + 1, device=device)
        self._bad_terms = torch.zeros(len(names) + 1, device=device)
        self._bad_step = torch.tensor(-1, device=device)

    def check(self) -> None:
        """Raise for the first step at which a term was not finite.

        Raises:
            NonFiniteLossError: with that step, and the term that caused it: the total only if no other is to blame.
        """
        own = torch.cat([self._bad_step.view(1).double(), self._bad_terms.double()])
        every = self._ranks.gather(own.cpu())
        bad_steps = every[every[:, 0] >= 0, 0]
        if not len(bad_steps):
            return
        step = int(bad_steps.min())
        terms = every[every[:, 0] == step, 1:-1].mean(0)
        values = dict(zip(self.names, terms.tolist(), strict=True))
        bad = [name for name in [*self.names[1:], TOTAL] if not math.isfinite(values[name])]
        raise NonFiniteLossError(step, bad[0], values[bad[0]])

    def read(self) -> dict[str, float]:
        """Return the averages, and start anew."""
        total = self._ranks.mean(self._sum)
        averages = (total[:-1] / total[-1].clamp(min=1)).tolist()
        self._sum.zero_()
        return dict(zip(self.names, averages, strict=True))

    def state(self) -> tuple[Tensor, dict[str, Any]]:
        total = self._ranks.mean(self._sum)
        return total[:-1].clone(), {"names": self.names, "count": int(total[-1])}

    def load(self, total: Tensor, state: dict[str, Any], device: torch.device) -> None:
        self._reset(state["names"], device)
        self._sum[:-1].copy_(total)
        self._sum[-1] = state["count"]
