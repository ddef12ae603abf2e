"""``--compilation graph``: a whole update as one CUDA graph, so that its kernels are launched by one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from disentangle_ext.models import VAEOutput
from disentangle_ext.training.inputs import Inputs, Window

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
        ValueError: "train: compilation 'graph' needs a CUDA device, got cpu"; for data elsewhere, an optimiser other
            than fused Adam, float16, whose loss scale is read back from the device, and several processes, which wait
            for each other on the host.
    """
    needs = "train: compilation 'graph' needs"
    if device.type != "cuda":
        raise ValueError(f"{needs} a CUDA device, got {device}")
    if data_device.type != "cuda":
        raise ValueError(f"{needs} the data set on the device of the model ({device}), got {data_device}")
    if processes > 1:
        raise ValueError(f"{needs} a process alone, got {processes}")
    for optimizer in optimizers:
        if not isinstance(optimizer, torch.optim.Adam):
            raise ValueError(f"{needs} optimizer 'adam', got {type(optimizer).__name__.lower()!r}")
        if not all(group["fused"] for group in optimizer.param_groups):
            raise ValueError(f"{needs} an Adam that is fused: its other forms count their steps on the host")
    if autocast == torch.float16:
        raise ValueError(f"{needs} precision 'fp32' or 'bf16', got 'fp16', whose scale is read back from the device")


class CudaGraph:
    """Work that is recorded once, and then enqueued as a whole."""

    def __init__(self, device: torch.device) -> None:
        self._graph = torch.cuda.CUDAGraph()
        self._stream = torch.cuda.Stream(device)

    def warm_up(self, work: Callable[[], VAEOutput]) -> VAEOutput:
        """Do it op by op, on the stream that it will be recorded on."""
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            output = work()
        torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)
        return output

    def record(self, work: Callable[[], VAEOutput]) -> VAEOutput:
        """Where each replay will put what the work yields; nothing is computed yet.

        Raises:
            ValueError: for work that cannot be recorded, because it waits for the device for example.
        """
        before = torch.cuda.current_stream(self._stream.device)
        try:
            with torch.cuda.graph(self._graph, stream=self._stream):
                return work()
        except RuntimeError as error:
            torch.cuda.set_stream(before)  # which a capture that fails does not do
            reason = str(error.__context__ or error).strip().splitlines()[0]
            raise ValueError(f"train: compilation 'graph': the update cannot be captured: {reason}") from error

    def replay(self) -> None:
        self._graph.replay()


class GraphedUpdate:
    """An update that is replayed: the first few are computed op by op, then one is captured.

    A graph repeats its work on the same memory, so whatever differs from step to step comes from the window, and what
    the update yields is overwritten by the next one. No step is computed twice or left out, and each has the inputs
    that it would have without a graph. Learning rates are float32, as the optimisers read them from the device.

    Args:
        compute: an update that reads nothing back from the device.
        window: of the inputs.
        optimizers: that the update steps, in the order of the window's learning rates.
        device: of the model.
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
        """The update numbered ``step``."""
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
    """Give optimisers their learning rate as a tensor; the number that others read from them comes back.

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
