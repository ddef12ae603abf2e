"""The training loop. It knows no particular objective, network or data set."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from disentangle_ext.data import GroundTruthData
from disentangle_ext.models import VAE, VAEOutput
from disentangle_ext.objectives import Loss, Objective
from disentangle_ext.training.checkpoint import Checkpoint, load_optimizer_state, optimizer_state
from disentangle_ext.training.randomness import BatchOrder, Stream, noise_key

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

    It only enqueues work: nothing is read back from the device before :meth:`read`.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.count = 0
        self._sum = torch.zeros(0)
        self._bad_step = torch.tensor(-1)
        self._bad_terms = torch.zeros(0)

    def add(self, step: int, loss: Loss) -> None:
        names = [TOTAL, *loss.terms]
        terms = torch.stack([loss.total.detach().float(), *(term.detach().float() for term in loss.terms.values())])
        if self.names != names:
            self._reset(names, terms)
        self._sum += terms
        self.count += 1
        first = (self._bad_step < 0) & ~terms.isfinite().all()
        self._bad_step = torch.where(first, step, self._bad_step)
        self._bad_terms = torch.where(first, terms, self._bad_terms)

    def _reset(self, names: list[str], like: Tensor) -> None:
        self.names = names
        self.count = 0
        self._sum = torch.zeros_like(like)
        self._bad_terms = torch.zeros_like(like)
        self._bad_step = torch.tensor(-1, device=like.device)

    def check(self) -> None:
        """Raise for the first step at which a term was not finite.

        Raises:
            NonFiniteLossError: with that step, and the term that caused it: the total only if no other is to blame.
        """
        step = int(self._bad_step)
        if step < 0:
            return
        values = dict(zip(self.names, self._bad_terms.tolist(), strict=True))
        bad = [name for name in [*self.names[1:], TOTAL] if not math.isfinite(values[name])]
        raise NonFiniteLossError(step, bad[0], values[bad[0]])

    def read(self) -> dict[str, float]:
        """The averages, and start anew."""
        averages = (self._sum / max(self.count, 1)).tolist()
        self._sum = torch.zeros_like(self._sum)
        self.count = 0
        return dict(zip(self.names, averages, strict=True))

    def state(self) -> tuple[Tensor, dict[str, Any]]:
        return self._sum, {"names": self.names, "count": self.count}

    def load(self, total: Tensor, state: dict[str, Any], device: torch.device) -> None:
        self._reset(state["names"], total.to(device))
        self._sum = total.to(device).clone()
        self.count = state["count"]


class Trainer:
    """One model in training: everything that an update reads and writes.

    Batch and noise of an update follow from (``seed``, :attr:`step`) alone, so :meth:`checkpoint` needs no generator
    state, and a run that goes on from one equals the run that never stopped, bit for bit on one machine.

    Args:
        model: in the memory format and on the device that it shall be trained in.
        objective: what to minimise.
        data: where the images come from.
        optimizer: over the parameters to train.
        learning_rate: that of each step.
        batch_size: images in a batch.
        seed: of data order and noise.
        autocast: dtype of the networks, or None to leave them as they are.
        memory_format: of the images.
        compile: run networks and loss through torch.compile.
    """

    def __init__(
        self,
        model: VAE,
        objective: Objective,
        data: GroundTruthData,
        *,
        optimizer: torch.optim.Optimizer,
        learning_rate: Callable[[int], float],
        batch_size: int,
        seed: int,
        autocast: torch.dtype | None = None,
        memory_format: torch.memory_format = torch.channels_last,
        compile: bool = False,
    ) -> None:
        self.model = model
        self.objective = objective
        self.data = data
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.order = BatchOrder(len(data), batch_size, seed)
        self.seed = seed
        self.autocast = autocast
        self.memory_format = memory_format
        self.device = next(model.parameters()).device
        self.meter = Meter()
        self.step = 0
        """Updates done."""
        self._forward = torch.compile(self._evaluate) if compile else self._evaluate

    def _evaluate(self, images: Tensor, key: Tensor, own_key: Tensor, step: int) -> tuple[VAEOutput, Loss]:
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            output: VAEOutput = self.model(images, sample=not self.objective.deterministic, key=key)
            return output, self.objective(output, images, step=step, key=own_key)

    def _key(self, stream: Stream) -> Tensor:
        return noise_key(self.seed, self.step, stream=stream, device=self.device)

    def update(self) -> VAEOutput:
        """One step of the optimiser; what the model made of the batch is returned for measurements."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        images = self.data.batch(self.order.index(self.step)).contiguous(memory_format=self.memory_format)
        output, loss = self._forward(images, self._key(Stream.POSTERIOR), self._key(Stream.OBJECTIVE), self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        self.optimizer.step()
        self.meter.add(self.step, loss)
        self.step += 1
        return output

    @torch.no_grad()
    def read(self, output: VAEOutput) -> dict[str, float]:
        """The terms, averaged since the last call, and what the objective measures on the last batch.

        Raises:
            NonFiniteLossError: if a term was not finite since the last call.
        """
        self.meter.check()
        measured = self.objective.measure(VAEOutput(*(tensor.detach() for tensor in output)))
        return {**self.meter.read(), **{name: float(value) for name, value in measured.items()}}

    def checkpoint(self) -> Checkpoint:
        """The state after :attr:`step` updates.

        Raises:
            NonFiniteLossError: instead of a checkpoint that nothing can go on from.
        """
        self.meter.check()
        self.check_weights()
        moments, optimizer = optimizer_state(self.optimizer)
        total, meter = self.meter.state()
        tensors = {
            **{f"model.{name}": tensor for name, tensor in self.model.state_dict().items()},
            **{f"objective.{name}": tensor for name, tensor in self.objective.state_dict().items()},
            **{f"optimizer.{name}": tensor for name, tensor in moments.items()},
            "meter": total,
        }
        return Checkpoint(self.step, tensors, {"optimizer": optimizer, "meter": meter})

    def check_weights(self) -> None:
        """Raise if the last update left a weight that is not finite: its loss was measured before it.

        Raises:
            NonFiniteLossError: with the name of the weight.
        """
        for name, weight in self.model.state_dict().items():
            if not bool(weight.isfinite().all()):
                raise NonFiniteLossError(self.step - 1, name, math.nan)

    def load(self, checkpoint: Checkpoint) -> None:
        """Go on from ``checkpoint``."""
        self.model.load_state_dict(_part(checkpoint.tensors, "model"))
        self.objective.load_state_dict(_part(checkpoint.tensors, "objective"))
        load_optimizer_state(self.optimizer, _part(checkpoint.tensors, "optimizer"), checkpoint.state["optimizer"])
        self.meter.load(checkpoint.tensors["meter"], checkpoint.state["meter"], self.device)
        self.step = checkpoint.step


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = name + "."
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
