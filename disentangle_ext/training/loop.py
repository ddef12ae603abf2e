"""The training loop. It knows no particular objective, network or data set."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from disentangle_ext import ops
from disentangle_ext.data import GroundTruthData
from disentangle_ext.models import VAE, VAEOutput
from disentangle_ext.objectives import AdversarialObjective, Loss, Objective, PairObjective
from disentangle_ext.training.batches import Order, batch_order
from disentangle_ext.training.checkpoint import Checkpoint, load_optimizer_state, optimizer_state
from disentangle_ext.training.graph import GraphedUpdate, check
from disentangle_ext.training.inputs import Inputs, Window
from disentangle_ext.training.randomness import BatchOrder, Stream, noise_key
from disentangle_ext.training.ranks import Ranks
from disentangle_ext.training.scaling import has_collapsed, make_scaler

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
        # Of what is not finite, the difference from itself is NaN: fewer ops than isfinite has.
        first = (self._bad_step < 0) & (terms - terms != 0).any()
        self._bad_step.copy_(torch.where(first, step, self._bad_step))
        torch.where(first, terms, self._bad_terms, out=self._bad_terms)

    def _reset(self, names: list[str], device: torch.device) -> None:
        self.names = names
        self._one = torch.ones((), device=device)
        # Of the terms, and last of ones: the number of steps, on the device because a replay runs no Python.
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
        """The averages, and start anew."""
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


class Descent(NamedTuple):
    """How a set of parameters is trained."""

    optimizer: torch.optim.Optimizer
    """Over the parameters."""
    learning_rate: Callable[[int], float]
    """That of each step."""
    scaler: torch.amp.GradScaler | None = None
    """Of the loss, for float16: a step whose gradients overflow is left out."""

    def set_rate(self, step: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)

    def update(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler is None:
            loss.backward()
            self.optimizer.step()
        else:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a checkpoint keeps, as named tensors and JSON."""
        tensors, state = optimizer_state(self.optimizer)
        return tensors, state if self.scaler is None else {**state, "scaler": self.scaler.state_dict()}

    def load(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        load_optimizer_state(self.optimizer, tensors, state)
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])


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
        adversary: how the objective's own parameters are trained: for an :class:`objectives.AdversarialObjective`.
        autocast: dtype of the networks, or None to leave them as they are; float16 scales the losses.
        memory_format: of the images.
        compile: run networks and loss through torch.compile.
        graph: replay the update as one CUDA graph, after a few that are computed op by op.
        process_group: of the processes that train one model, see :class:`training.ranks.Ranks`. Each makes the same
            calls, and computes an equal share of every batch; the update is that of one process with the whole batch,
            within rounding. It becomes the objective's, and with the first update parameters become those of the
            first process.

    Raises:
        ValueError: for an adversarial objective without ``adversary``, or ``adversary`` with another objective; for a
            graph of what none can hold: :func:`graph.check`; for a batch that the processes cannot share equally.
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
        adversary: Descent | None = None,
        autocast: torch.dtype | None = None,
        memory_format: torch.memory_format = torch.channels_last,
        compile: bool = False,
        graph: bool = False,
        process_group: ProcessGroup | None = None,
    ) -> None:
        if isinstance(objective, AdversarialObjective) != (adversary is not None):
            name = type(objective).__name__
            raise ValueError(f"Trainer: adversary is for adversarial objectives, which need it, got {name}")
        self.model = model
        self.objective = objective
        self.data = data
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.order = batch_order(objective, data, batch_size, seed)
        self.ranks = Ranks(process_group)
        self._halves = 2 if isinstance(objective, PairObjective) else 1
        _check_shares(objective, batch_size, self._halves, self.ranks.world)
        objective.process_group = self.ranks.group
        self.seed = seed
        self.autocast = autocast
        self.memory_format = memory_format
        self.device = next(model.parameters()).device
        self.meter = Meter(self.ranks)
        self.step = 0
        """Updates done."""
        evaluate = torch.compile(self._evaluate) if compile else self._evaluate
        self._forward = self.ranks.averaging(evaluate, optimizer)
        self.descent = Descent(optimizer, learning_rate, make_scaler(autocast, self.device))
        self.adversary = adversary and adversary._replace(scaler=make_scaler(autocast, self.device))
        self._descents = [each for each in (self.descent, self.adversary) if each is not None]
        self._streams = tuple(Stream) if adversary is not None else (Stream.POSTERIOR, Stream.OBJECTIVE)
        self._second_batch = isinstance(objective, AdversarialObjective) and objective.second_batch
        self._second_order = BatchOrder(len(data), batch_size, seed, second=True)
        opposite = torch.compile(self._evaluate_adversary) if compile else self._evaluate_adversary
        self._opposite = opposite if adversary is None else self.ranks.averaging(opposite, adversary.optimizer)
        self._graph = self._graphed() if graph else None

    def _graphed(self) -> GraphedUpdate:
        optimizers = [each.optimizer for each in self._descents]
        check(optimizers, self.device, self.data.device, self.autocast, self.ranks.world)
        window = Window(self._draw, [each.learning_rate for each in self._descents], self.device)
        return GraphedUpdate(self._compute, window, optimizers, self.device)

    def _evaluate(
        self, images: Tensor, key: Tensor, own_key: Tensor, step: int | Tensor, group: Tensor | None
    ) -> tuple[VAEOutput, Loss]:
        with self._casting():
            return self.objective.evaluate(self.model, images, step=step, key=key, own_key=own_key, group=group)

    def _evaluate_adversary(
        self, codes: Tensor, images: Tensor | None, key: Tensor | None, own_key: Tensor
    ) -> Tensor:
        assert isinstance(self.objective, AdversarialObjective)
        with self._casting():
            others = codes
            if images is not None:
                with torch.no_grad():
                    mu, logvar = self.model.encode(images)
                    others, _ = ops.rsample_kl(mu, logvar, key=key, process_group=self.ranks.group)
            return self.objective.adversary(codes, others, key=own_key)

    def _casting(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None)

    def _draw(self, step: int, device: torch.device | str = "cpu") -> Inputs:
        """The inputs of a step, its keys on ``device``."""
        group = self.order.group(step)
        return Inputs(
            step,
            self._rows(self.order, step),
            self._rows(self._second_order, step) if self._second_batch else None,
            None if group is None else torch.tensor(group, device=device),
            tuple(noise_key(self.seed, step, stream=stream, device=device) for stream in self._streams),
        )

    def _rows(self, order: Order, step: int) -> Tensor:
        return self.ranks.shard(order.index(step), self._halves)

    def _images(self, rows: Tensor) -> Tensor:
        return self.data.batch(rows).contiguous(memory_format=self.memory_format)

    def _compute(self, inputs: Inputs) -> VAEOutput:
        """One update: work for the device, the same at every step but for what ``inputs`` hold."""
        keys = inputs.keys
        output, loss = self._forward(
            self._images(inputs.rows), keys[Stream.POSTERIOR], keys[Stream.OBJECTIVE], inputs.step, inputs.group
        )
        self.descent.update(loss.total)
        if self.adversary is not None:
            second = None if inputs.second_rows is None else self._images(inputs.second_rows)
            opposite = self._opposite(output.z.detach(), second, keys[Stream.SECOND_POSTERIOR], keys[Stream.ADVERSARY])
            self.adversary.update(opposite)
            loss = Loss(loss.total, {**loss.terms, "adversary": opposite})
        self.meter.add(inputs.step, loss)
        return output

    def update(self) -> VAEOutput:
        """One step of the optimiser, and of the adversary's; what the model made of the batch is for measurements.

        Where the update is a graph, the next one overwrites it.
        """
        for each in self._descents:
            each.set_rate(self.step)
        graph, step = self._graph, self.step
        output = graph(step) if graph else self._compute(self._draw(step, self.device))
        self.step += 1
        return output

    @torch.no_grad()
    def read(self, output: VAEOutput) -> dict[str, float]:
        """The terms, averaged since the last call, and what the objective measures on the last batch.

        Raises:
            NonFiniteLossError: if a term was not finite since the last call, or no gradient in float16 is.
        """
        self._check()
        measured = self.objective.measure(VAEOutput(*(tensor.detach() for tensor in output)))
        averages = {name: float(self.ranks.mean(value)) for name, value in measured.items()}
        return {**self.meter.read(), **averages}

    def checkpoint(self) -> Checkpoint:
        """The state after :attr:`step` updates.

        Raises:
            NonFiniteLossError: instead of a checkpoint that nothing can go on from.
        """
        self._check()
        self.check_weights()
        moments, optimizer = self.descent.state()
        total, meter = self.meter.state()
        tensors = {
            **{f"model.{name}": tensor for name, tensor in self.model.state_dict().items()},
            **{f"objective.{name}": tensor for name, tensor in self.objective.state_dict().items()},
            **{f"optimizer.{name}": tensor for name, tensor in moments.items()},
            "meter": total,
        }
        state = {"optimizer": optimizer, "meter": meter}
        if self.adversary is not None:
            moments, state["adversary"] = self.adversary.state()
            tensors.update({f"adversary.{name}": tensor for name, tensor in moments.items()})
        return Checkpoint(self.step, tensors, state)

    def _check(self) -> None:
        self.meter.check()
        for descent in self._descents:
            if has_collapsed(descent.scaler):
                raise NonFiniteLossError(self.step - 1, "gradient at any scale", math.inf)

    def check_weights(self) -> None:
        """Raise if the last update left a weight that is not finite: its loss was measured before it.

        Raises:
            NonFiniteLossError: with the name of the weight.
        """
        for name, weight in (*self.model.state_dict().items(), *self.objective.state_dict().items()):
            if not bool(weight.isfinite().all()):
                raise NonFiniteLossError(self.step - 1, name, math.nan)

    def load(self, checkpoint: Checkpoint) -> None:
        """Go on from ``checkpoint``."""
        self.model.load_state_dict(_part(checkpoint.tensors, "model"))
        self.objective.load_state_dict(_part(checkpoint.tensors, "objective"))
        self.descent.load(_part(checkpoint.tensors, "optimizer"), checkpoint.state["optimizer"])
        if self.adversary is not None:
            self.adversary.load(_part(checkpoint.tensors, "adversary"), checkpoint.state["adversary"])
        self.meter.load(checkpoint.tensors["meter"], checkpoint.state["meter"], self.device)
        self.step = checkpoint.step
        if self._graph is not None:  # the optimisers hold other tensors now
            self._graph = self._graphed()


def _check_shares(objective: Objective, batch_size: int, halves: int, world: int) -> None:
    if batch_size % (halves * world):
        unit = f"{world} processes" if halves == 1 else f"{2 * world}: {world} processes, and pairs of images"
        raise ValueError(f"{type(objective).__name__}: batch_size must be divisible by {unit}, got {batch_size}")


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = name + "."
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
