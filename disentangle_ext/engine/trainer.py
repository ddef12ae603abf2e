"""One update of one model. It knows no particular objective, network or data set, and nothing on disk."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from disentangle_ext import ops
from disentangle_ext._errors import MistakeError
from disentangle_ext.data import GroundTruthData
from disentangle_ext.engine.batches import BatchOrder, Order, batch_order
from disentangle_ext.engine.descent import Descent, check_moments, make_scaler
from disentangle_ext.engine.graph import GraphedUpdate, Inputs, Window, check
from disentangle_ext.engine.meter import Meter, NonFiniteLossError
from disentangle_ext.engine.randomness import Stream, noise_key
from disentangle_ext.engine.ranks import Ranks
from disentangle_ext.models import VAE, VAEOutput
from disentangle_ext.objectives import AdversarialObjective, Loss, Objective, PairObjective
from disentangle_ext.runs.checkpoint import Checkpoint


class Trainer:
    """One model in training: everything that an update reads and writes.

    Batch and noise of an update follow from (``seed``, :attr:`step`) alone, so :meth:`checkpoint` needs no generator
    state, and a run that goes on from one equals the run that never stopped, bit for bit on one machine.

    Args:
        model: the model, in the memory format and on the device that it shall be trained in.
        objective: what to minimise.
        data: where the images come from.
        descent: how the parameters of model and likelihood are trained; its scaler is chosen by ``autocast``.
        batch_size: images in a batch.
        seed: the seed of data order and noise.
        adversary: how the parameters of an :class:`objectives.AdversarialObjective` are trained; None for others.
        autocast: dtype of the networks, or None to leave them as they are; float16 scales the losses.
        memory_format: memory format of the images.
        compile: run networks and loss through torch.compile.
        graph: replay the update as one CUDA graph, after a few that are computed op by op.
        process_group: the processes that train one model, see :class:`engine.ranks.Ranks`. Each makes the same
            calls, and computes an equal share of every batch; the update is that of one process with the whole batch,
            within rounding. The objective takes the group over, and the first update broadcasts rank 0's parameters.

    Raises:
        MistakeError: for an adversarial objective without ``adversary``, or ``adversary`` with another objective; for a
            graph of what none can hold: :func:`graph.check`; for a batch that the processes cannot share equally.
    """

    def __init__(
        self,
        model: VAE,
        objective: Objective,
        data: GroundTruthData,
        *,
        descent: Descent,
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
            raise MistakeError(f"Trainer: adversary is for adversarial objectives, which need it, got {name}")
        self.model = model
        self.objective = objective
        self.data = data
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
        self._forward = self.ranks.averaging(evaluate, descent.optimizer)
        self.descent = descent._replace(scaler=make_scaler(autocast, self.device))
        self.adversary = adversary and adversary._replace(scaler=make_scaler(autocast, self.device))
        self._descents = [each for each in (self.descent, self.adversary) if each is not None]
        self._streams = tuple(Stream) if adversary is not None else (Stream.POSTERIOR, Stream.OBJECTIVE)
        has_second = isinstance(objective, AdversarialObjective) and objective.second_batch
        self._second_order = BatchOrder(len(data), batch_size, seed, second=True) if has_second else None
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

    def _evaluate_adversary(self, codes: Tensor, images: Tensor | None, key: Tensor | None, own_key: Tensor) -> Tensor:
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
        """Draw the inputs of a step, its keys on ``device``."""
        group = self.order.group(step)
        return Inputs(
            step,
            self._rows(self.order, step),
            None if self._second_order is None else self._rows(self._second_order, step),
            None if group is None else torch.tensor(group, device=device),
            tuple(noise_key(self.seed, step, stream=stream, device=device) for stream in self._streams),
        )

    def _rows(self, order: Order, step: int) -> Tensor:
        return self.ranks.shard(order.index(step), self._halves)

    def _images(self, rows: Tensor) -> Tensor:
        return self.data.batch(rows).contiguous(memory_format=self.memory_format)

    def _compute(self, inputs: Inputs) -> VAEOutput:
        """Compute one update: work for the device, the same at every step but for what ``inputs`` hold."""
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
        """Take one step of the optimiser, and of the adversary's; return what the model made of the batch.

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
        """Read the terms, averaged since the last call, and what the objective measures on the last batch.

        Raises:
            NonFiniteLossError: if a term was not finite since the last call, or no gradient in float16 is.
        """
        self._check()
        measured = self.objective.measure(VAEOutput(*(tensor.detach() for tensor in output)))
        averages = {name: float(self.ranks.mean(value)) for name, value in measured.items()}
        return {**self.meter.read(), **averages}

    def checkpoint(self) -> Checkpoint:
        """Return the state after :attr:`step` updates.

        Raises:
            NonFiniteLossError: instead of a checkpoint that nothing can go on from.
        """
        self._check()
        self.check_weights()
        moments, optimizer = self.descent.state()
        total, meter = self.meter.state()
        tensors = {
            **self._weights(),
            **{f"optimizer.{name}": tensor for name, tensor in moments.items()},
            "meter": total,
        }
        state = {"optimizer": optimizer, "meter": meter}
        if self.adversary is not None:
            moments, state["adversary"] = self.adversary.state()
            tensors.update({f"adversary.{name}": tensor for name, tensor in moments.items()})
        return Checkpoint(self.step, tensors, state)

    def _weights(self) -> dict[str, Tensor]:
        """Weights and buffers of model and objective, by their names in a checkpoint."""
        parts = {"model": self.model, "objective": self.objective}
        return {f"{part}.{name}": each for part, module in parts.items() for name, each in module.state_dict().items()}

    def _check(self) -> None:
        self.meter.check()
        for descent in self._descents:
            if descent.has_collapsed:
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
        """Go on from ``checkpoint``.

        Raises:
            MistakeError: for a checkpoint of another model or objective; nothing is changed then.
        """
        self._check_fits(checkpoint)
        self.model.load_state_dict(_part(checkpoint.tensors, "model"))
        self.objective.load_state_dict(_part(checkpoint.tensors, "objective"))
        self.descent.load(_part(checkpoint.tensors, "optimizer"), checkpoint.state["optimizer"])
        if self.adversary is not None:
            self.adversary.load(_part(checkpoint.tensors, "adversary"), checkpoint.state["adversary"])
        self.meter.load(checkpoint.tensors["meter"], checkpoint.state["meter"], self.device)
        self.step = checkpoint.step
        if self._graph is not None:  # the optimisers hold other tensors now
            self._graph = self._graphed()

    def _check_fits(self, checkpoint: Checkpoint) -> None:
        """Raise for a checkpoint of another model. Its moments would reach past the end of ours in the next update."""
        wanted = self._weights()
        found_weights = {name for name in checkpoint.tensors if name.startswith(("model.", "objective."))}
        for name in sorted(wanted.keys() | found_weights):
            ours, found = _shape(wanted.get(name)), _shape(checkpoint.tensors.get(name))
            if ours != found:
                raise MistakeError(f"Trainer.load: {name} must be {ours} as in this run, got {found}")
        parts = {"optimizer": self.descent, **({} if self.adversary is None else {"adversary": self.adversary})}
        for part, descent in parts.items():
            check_moments(f"Trainer.load: {part}", descent.optimizer, _part(checkpoint.tensors, part))
        for name in (*parts, "meter"):
            if name not in checkpoint.state or (name == "meter" and name not in checkpoint.tensors):
                raise MistakeError(f"Trainer.load: the checkpoint of step {checkpoint.step} has no {name}")


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else str(list(tensor.shape))


def _check_shares(objective: Objective, batch_size: int, halves: int, world: int) -> None:
    if batch_size % (halves * world):
        unit = f"{world} processes" if halves == 1 else f"{2 * world}: {world} processes, and pairs of images"
        raise MistakeError(f"{type(objective).__name__}: batch_size must be divisible by {unit}, got {batch_size}")


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = name + "."
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
