"""Models that take a step at once: one alone, or several as a stack."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from disentangle_ext.engine.stack import Stack
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.models import VAEOutput

__all__ = ["Group"]


class Group:
    """Trainers whose next update is one call.

    Args:
        trainers: one or more; see :class:`engine.stack.Stack` for what several must share.
    """

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self.trainers = list(trainers)
        self._stack = Stack(self.trainers) if len(self.trainers) > 1 else None

    @property
    def step(self) -> int:
        """Updates done."""
        return self.trainers[0].step

    def update(self) -> Sequence[VAEOutput]:
        """Do one update of every trainer; return what each model made of its batch."""
        return [self.trainers[0].update()] if self._stack is None else self._stack.update()

    def without(self, failed: Collection[Trainer]) -> Group:
        """Return the group of the other trainers."""
        return Group([each for each in self.trainers if each not in failed])
