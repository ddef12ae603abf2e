"""Models that take a step at once: one alone, or several as a stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from disentangle_ext.engine.stack import Stack
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.models import VAEOutput

__all__ = ["Group", "group_of"]


class Group(Protocol):
    """Trainers whose next update is one call."""

    @property
    def step(self) -> int:
        """Updates done."""

    def update(self) -> Sequence[VAEOutput]:
        """Do one update of every trainer; return what each model made of its batch."""


class Alone:
    """One trainer, as a group."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    @property
    def step(self) -> int:
        return self._trainer.step

    def update(self) -> Sequence[VAEOutput]:
        return [self._trainer.update()]


def group_of(trainers: Sequence[Trainer]) -> Group:
    """Make a group of one trainer or more; see :class:`engine.stack.Stack` for what several must share."""
    return Alone(trainers[0]) if len(trainers) == 1 else Stack(trainers)
