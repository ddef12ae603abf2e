"""What an update is given beside the state that it changes: all that differs from one step to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Inputs(NamedTuple):
    """Of one step."""

    step: int | Tensor
    """Updates done: a number, or an int64 scalar where it may be known to the device alone."""
    rows: Tensor
    """Of the batch, int64 [B]."""
    second_rows: Tensor | None
    """Of an adversary's own batch, int64 [B]."""
    group: Tensor | None
    """Which group of factors varies in the batch, an int64 scalar."""
    keys: tuple[Tensor, ...]
    """Of the noise, int64 [2] each, by :class:`randomness.Stream`."""


LENGTH = 128
"""Steps in a window. Long enough that its copy to the device is rare, and 0.3 MB for two batches of 128 images."""


class Window:
    """The inputs and the learning rates of the next steps, on the device, and a pointer to the next of them there.

    They are those that the host draws for each step, so steps that read them from a window are the steps that would
    have been taken without one.

    Args:
        draw: the inputs of a step, on the host; rows may lie with the data.
        learning_rates: of each optimiser, by step.
        device: where the window lies.
    """

    def __init__(
        self,
        draw: Callable[[int], Inputs],
        learning_rates: Sequence[Callable[[int], float]],
        device: torch.device,
    ) -> None:
        self._draw = draw
        self._learning_rates = learning_rates
        self._device = device
        self._place = torch.zeros(1, dtype=torch.int64, device=device)
        self._rates = torch.zeros(LENGTH, len(learning_rates), device=device)
        self._like = draw(0)
        self._widths = [each.numel() for each in _tensors(self._like)]
        self._whole = torch.zeros(LENGTH, sum(self._widths), dtype=torch.int64, device=device)
        self._next = self._end = 0

    def seek(self, step: int) -> None:
        """Have :meth:`take` yield ``step``, for which a new window is drawn where need be; called on the host."""
        if step != self._next or step >= self._end:
            self._fill(step)
        self._next = step + 1

    def take(self) -> tuple[Inputs, list[Tensor]]:
        """Inputs and learning rates, float32 scalars, of the step that the pointer is at; the pointer moves on.

        Enqueues work on the device only, the same at every step.
        """
        row = self._whole.index_select(0, self._place).squeeze(0)
        rates = self._rates.index_select(0, self._place).squeeze(0)
        self._place += 1
        return self._unpack(row), list(rates.unbind())

    def _fill(self, step: int) -> None:
        drawn = [self._draw(step + k) for k in range(LENGTH)]
        columns = [torch.stack(column) for column in zip(*map(_tensors, drawn))]
        torch.cat([self._upload(each.view(LENGTH, -1)) for each in columns], 1, out=self._whole)
        rates = [[rate(step + k) for rate in self._learning_rates] for k in range(LENGTH)]
        self._rates.copy_(self._upload(torch.tensor(rates, dtype=torch.float32)))
        self._place.zero_()
        self._end = step + LENGTH

    def _upload(self, tensor: Tensor) -> Tensor:
        """On the device. From pinned memory: the host goes on while the steps before are still computed."""
        pinned = self._device.type == "cuda" and tensor.device.type == "cpu"
        return (tensor.pin_memory() if pinned else tensor).to(self._device, non_blocking=True)

    def _unpack(self, row: Tensor) -> Inputs:
        step, rows, *rest = row.split(self._widths)
        second = None if self._like.second_rows is None else rest.pop(0)
        group = None if self._like.group is None else rest.pop(0).squeeze(0)
        return Inputs(step.squeeze(0), rows, second, group, tuple(rest))


def _tensors(inputs: Inputs) -> list[Tensor]:
    """Those of a step, in the order of the fields."""
    step = torch.as_tensor(inputs.step)
    there = (step, inputs.rows, inputs.second_rows, inputs.group, *inputs.keys)
    return [each for each in there if each is not None]
