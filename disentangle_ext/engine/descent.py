"""How a set of parameters is trained: optimiser, learning rate, loss scale, and their state in a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from disentangle_ext._errors import MistakeError
from disentangle_ext.runs.config import LRSchedule, TrainConfig

COSINE_FLOOR = 0.05
"""Where the cosine ends, as a part of the learning rate."""

SMALLEST = 2.0**-24
"""Below it a gradient of 1 is zero in float16: a scale that has been halved so often has met no finite gradient."""


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


class Descent(NamedTuple):
    """How a set of parameters is trained."""

    optimizer: torch.optim.Optimizer
    """The optimiser over the parameters."""
    learning_rate: Callable[[int], float]
    """The learning rate of each step."""
    scaler: torch.amp.GradScaler | None = None
    """The scaler of a float16 loss, which leaves out a step whose gradients overflow."""

    @property
    def has_collapsed(self) -> bool:
        """Whether gradients overflow at every scale that was tried. Waits for the device."""
        return self.scaler is not None and self.scaler.get_scale() < SMALLEST

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


def make_scaler(autocast: torch.dtype | None, device: torch.device) -> torch.amp.GradScaler | None:
    """Make the scaler of a loss whose networks run in float16; None for other networks."""
    return torch.amp.GradScaler(device.type) if autocast == torch.float16 else None


def descent_of(parameters: list[nn.Parameter], config: TrainConfig) -> Descent:
    """Make the optimiser of a model, with the learning rate, as a configuration has them."""
    if config.optimizer == "adam":
        return adam(parameters, config, lr=config.lr, betas=config.betas)
    kind = torch.optim.Adagrad if config.optimizer == "adagrad" else torch.optim.RMSprop
    return Descent(kind(parameters, lr=config.lr), _schedule(config, config.lr))


def adam(parameters: list[nn.Parameter], config: TrainConfig, *, lr: float, betas: tuple[float, float]) -> Descent:
    """Make Adam with the schedule of a run."""
    return Descent(_adam(parameters, lr, betas), _schedule(config, lr))


def _adam(parameters: list[nn.Parameter], lr: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=lr, betas=betas, eps=1e-8, fused=True)


def _schedule(config: TrainConfig, lr: float) -> Schedule:
    return Schedule(lr, config.lr_schedule, config.lr_warmup, config.max_steps)


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of an optimiser as named tensors and JSON."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value
            else:
                plain.setdefault(str(index), {})[key] = value
    return tensors, {"plain": plain, "groups": [{"lr": group["lr"]} for group in state["param_groups"]]}


def check_moments(where: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Compare the moments of a checkpoint with the parameters of an optimiser; ``where`` begins the error.

    Raises:
        MistakeError: for moments of other parameters, or of another shape than theirs.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        if not (index.isdigit() and int(index) < len(parameters)):
            raise MistakeError(f"{where}: there are {len(parameters)} parameters, got {key} of parameter {index}")
        wanted = parameters[int(index)].shape
        if tensor.ndim and tensor.shape != wanted:
            raise MistakeError(
                f"{where}: {key} of parameter {index} must have its shape {list(wanted)}, got {list(tensor.shape)}"
            )


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
) -> None:
    """Undo :func:`optimizer_state`."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    entries: dict[int, dict[str, Any]] = {int(index): dict(plain) for index, plain in state["plain"].items()}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:
            # The fused step walks parameter and moments side by side in memory: they must have the same strides.
            tensor = torch.empty_like(parameter).copy_(tensor)
        entries.setdefault(int(index), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    for group, saved in zip(groups, state["groups"], strict=True):
        group.update(saved)
    optimizer.load_state_dict({"state": entries, "param_groups": groups})
