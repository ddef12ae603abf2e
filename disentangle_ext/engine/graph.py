"""``--compilation graph``: a whole update as one CUDA graph, so that its kernels are launched by one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from disentangle_ext._errors import MistakeError
from disentangle_ext.models import VAEOutput

WARM_UP = 3
"""Updates that are computed op by op before one is captured: libraries and optimisers then allocate what they keep."""


def check(
    optimizers: Sequence[torch.optim.Optimizer],
    device: torch.device,
    data_device: torch.device,
    autocast: torch.dtype | None,
    processes: int = 1,
) -> None:
    """Refuse what a graph cannot hold.

    Raises:
        MistakeError: "train: compilation 'graph' needs a CUDA device, got cpu"; for data elsewhere, an optimiser other
            than fused Adam, float16, whose loss scale is read back from the device, and several processes, which wait
            for each other on the host.
    """
    needs = "train: compilation 'graph' needs"
    if device.type != "cuda":
        raise MistakeError(f"{needs} a CUDA device, got {device}")
    if data_device.type != "cuda":
        raise MistakeError(f"{needs} the data set on the device of the model ({device}), got {data_device}")
    if processes > 1:
        raise MistakeError(f"{needs} a process alone, got {processes}")
    for optimizer in optimizers:
        if not isinstance(optimizer, torch.optim.Adam):
            raise MistakeError(f"{needs} optimizer 'adam', got {type(optimizer).__name__.lower()!r}")
        if not all(group["fused"] for group in optimizer.param_groups):
            raise MistakeError(f"{needs} an Adam that is fused: its other forms count their steps on the host")
    if autocast == torch.float16:
        raise MistakeError(f"{needs} precision 'fp32' or 'bf16', got 'fp16', whose scale is read back from the device")


class CudaGraph:
    """Work that is recorded once, and then enqueued as a whole."""

    def __init__(self, device: torch.device) -> None:
        self._graph = torch.cuda.CUDAGraph()
        self._stream = torch.cuda.Stream(device)

    def warm_up(self, work: Callable[[], VAEOutput]) -> VAEOutput:
        """Do ``work`` op by op, on the stream that it will be recorded on."""
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            output = work()
        torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)
        return output

    def record(self, work: Callable[[], VAEOutput]) -> VAEOutput:
        """Record ``work``, and return where each replay will put what it yields; nothing is computed yet.

        Raises:
            MistakeError: for work that cannot be recorded, because it waits for the device for example.
        """
        before = torch.cuda.current_stream(self._stream.device)
        try:
            with torch.cuda.graph(self._graph, stream=self._stream):
                return work()
        except RuntimeError as error:
            torch.cuda.set_stream(before)  # which a capture that fails does not do
            reason = str(error.__context__ or error).strip().splitlines()[0]
            raise MistakeError(f"train: compilation 'graph': the update cannot be captured: {reason}") from error

    def replay(self) -> None:
        self._graph.replay()


class GraphedUpdate:
    """An update that is replayed: the first few are computed op by op, then one is captured.

    A graph repeats its work on the same memory, so whatever differs from step to step comes from the window, and what
    the update yields is overwritten by the next one. No step is computed twice or left out, and each has the inputs
    that it would have without a graph. Learning rates are float32, as the optimisers read them from the device.

    Args:
        compute: an update that reads nothing back from the device.
        window: the inputs of the next steps.
        optimizers: that the update steps, in the order of the window's learning rates.
        device: the device of the model.
    """

    def __init__(
        self,
        compute: Callable[[Inputs], VAEOutput],
        window: Window,
        optimizers: Sequence[torch.optim.Optimizer],
        device: torch.device,
    ) -> None:
        self._compute = compute
        self._window = window
        self._optimizers = optimizers
        self._graph = CudaGraph(device)
        self._warmed_up = 0
        self._output: VAEOutput | None = None

    def __call__(self, step: int) -> VAEOutput:
        """Compute the update numbered ``step``."""
        self._window.seek(step)
        if self._output is None:
            if self._warmed_up < WARM_UP:
                self._warmed_up += 1
                return self._graph.warm_up(self._work)
            self._output = self._graph.record(partial(self._work, captured=True))
        self._graph.replay()
        return self._output

    def _work(self, captured: bool = False) -> VAEOutput:
        # Weights that a caller's autocast has cast would be taken into the graph, and never be cast again.
        torch.clear_autocast_cache()
        inputs, rates = self._window.take()
        with _rates_on_device(self._optimizers, rates, captured):
            output = self._compute(inputs)
        torch.clear_autocast_cache()
        return VAEOutput(*(each.detach() for each in output))


@contextmanager
def _rates_on_device(
    optimizers: Sequence[torch.optim.Optimizer], rates: Sequence[Tensor], captured: bool
) -> Iterator[None]:
    """Give optimisers their learning rate as a tensor, and put back the number that others read from them.

    They refuse to be captured unless they are told so, and warn if they are told so and computed op by op.
    """
    groups = [(group, rate) for optimizer, rate in zip(optimizers, rates) for group in optimizer.param_groups]
    numbers = [group["lr"] for group, _ in groups]
    for group, rate in groups:
        group.update(lr=rate, capturable=captured)
    try:
        yield
    finally:
        for (group, _), number in zip(groups, numbers):
            group.update(lr=number, capturable=False)


class Inputs(NamedTuple):
    """Inputs of one training step."""

    step: int | Tensor
    """Updates done: a number, or an int64 scalar where it may be known to the device alone."""
    rows: Tensor
    """Rows of the batch, int64 [B]."""
    second_rows: Tensor | None
    """Rows of an adversary's own batch, int64 [B]; None where it has none."""
    group: Tensor | None
    """Number of the group of factors that varies in the batch, an int64 scalar; None where none is chosen."""
    keys: tuple[Tensor, ...]
    """Keys of the noise, int64 [2] each, in the order of :class:`randomness.Stream`."""


LENGTH = 128
"""Steps in a window. Long enough that its copy to the device is rare, and 0.3 MB for two batches of 128 images."""


class Window:
    """The inputs and the learning rates of the next steps, on the device, and a pointer to the next of them there.

    The host draws these inputs as it draws them without a window, so a step that reads them here is the step that would
    have been taken without one.

    Args:
        draw: the inputs of a step, on the host; rows may lie with the data.
        learning_rates: the learning rate of each optimiser, by step.
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
        """Copy to the device, from pinned memory: the host goes on while the steps before are still computed."""
        pinned = self._device.type == "cuda" and tensor.device.type == "cpu"
        return (tensor.pin_memory() if pinned else tensor).to(self._device, non_blocking=True)

    def _unpack(self, row: Tensor) -> Inputs:
        step, rows, *rest = row.split(self._widths)
        second = None if self._like.second_rows is None else rest.pop(0)
        group = None if self._like.group is None else rest.pop(0).squeeze(0)
        return Inputs(step.squeeze(0), rows, second, group, tuple(rest))


def _tensors(inputs: Inputs) -> list[Tensor]:
    """The tensors of a step's inputs, in the order of the fields."""
    step = torch.as_tensor(inputs.step)
    there = (step, inputs.rows, inputs.second_rows, inputs.group, *inputs.keys)
    return [each for each in there if each is not None]
