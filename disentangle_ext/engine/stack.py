"""Models that differ in seed and hyper-parameters, trained as one stack: one forward and one backward pass for all."""

from __future__ import annotations

import copy
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from disentangle_ext._errors import MistakeError
from disentangle_ext.engine.descent import Descent
from disentangle_ext.engine.randomness import Stream
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.models import VAEOutput
from disentangle_ext.objectives import Loss, Objective

T = TypeVar("T")

_OF_AN_OPTIMIZER = ("lr", "betas")
"""Attributes of an adversarial objective for the optimiser of its parameters: every run has its own optimiser."""


class Stack:
    """K trainers whose updates are computed together.

    Each parameter and buffer becomes one tensor [K, ..], and those of the trainers become its rows. A trainer of a
    stack can therefore be read, saved and loaded like any other; only :meth:`Trainer.update` is replaced by that of the
    stack. Data order, noise, optimiser and learning rate stay those of each run, and its hyper-parameters that are real
    numbers are mapped with it, so a run takes the steps that it would take alone, up to rounding.

    Args:
        trainers: trainers of one objective and one architecture, with batches of one size, after as many updates.
            Whether a trainer compiles its step, or replays a graph, has no influence here.

    Raises:
        MistakeError: for trainers that do not fit together; the message names what differs.
    """

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        check_alike(trainers)
        self.trainers = list(trainers)
        modules = [_Modules(trainer.model, trainer.objective) for trainer in trainers]
        self._parameters = [list(each) for each in zip(*(module.parameters() for module in modules))]
        self._leaves = [_tie(rows).requires_grad_(rows[0].requires_grad) for rows in self._parameters]
        buffers = [_tie(list(rows)) for rows in zip(*(module.buffers() for module in modules))]
        names = [name for named in (modules[0].named_parameters(), modules[0].named_buffers()) for name, _ in named]
        self._tensors = dict(zip(names, [*self._leaves, *buffers], strict=True))
        self._numbers = _mapped_numbers(trainers)
        self._template = copy.copy(trainers[0])
        # On the meta device nothing can be computed with a tensor that is not a run's own.
        self._template.model = copy.deepcopy(trainers[0].model).to("meta")
        self._template.objective = copy.deepcopy(trainers[0].objective).to("meta")
        self._modules = _Modules(self._template.model, self._template.objective)

    @property
    def step(self) -> int:
        """Updates done."""
        return self.trainers[0].step

    def update(self) -> list[VAEOutput]:
        """Do one update of every trainer; return what each model made of its batch."""
        step, trainers = self.step, self.trainers
        drawn = _Drawn(*(_gather(each) for each in zip(*map(_draw, trainers))))
        output, loss = self._map(
            partial(self._template._evaluate, step=step),
            images=drawn.images,
            key=drawn.key,
            own_key=drawn.own_key,
            group=drawn.group,
        )
        self._descend(loss.total, [each.descent for each in trainers])
        adversaries = [each.adversary for each in trainers if each.adversary is not None]
        if adversaries:
            opposite = self._map(
                self._template._evaluate_adversary,
                codes=output.z.detach(),
                images=drawn.second_images,
                key=drawn.second_key,
                own_key=drawn.adversary_key,
            )
            self._descend(opposite, adversaries)
            loss = Loss(loss.total, {**loss.terms, "adversary": opposite})
        for trainer, own in zip(trainers, _losses(loss), strict=True):
            trainer.meter.add(step, own)
            trainer.step += 1
        return [VAEOutput(*own) for own in zip(*(tensor.detach().unbind() for tensor in output))]

    def _map(self, function: Callable[..., T], **arguments: Tensor | None) -> T:
        """Map ``function`` over the runs, whose tensors and numbers the template takes; results have K in front."""
        given = {name: value for name, value in arguments.items() if value is not None}
        absent = dict.fromkeys(arguments.keys() - given.keys())

        def one(tensors: dict[str, Tensor], numbers: dict[str, Tensor], own: dict[str, Tensor]) -> T:
            for name, number in numbers.items():
                setattr(self._template.objective, name, number)
            result: T = functional_call(self._modules, tensors, (partial(function, **own, **absent),))
            return result

        with _casting_layers(self._template.autocast):
            mapped: T = vmap(one)(self._tensors, self._numbers, given)
        return mapped

    def _descend(self, losses: Tensor, descents: Sequence[Descent]) -> None:
        """Take a step of each optimiser. No loss depends on another run's weights: their sum has every gradient."""
        for leaf in self._leaves:
            leaf.grad = None
        losses.sum().backward()
        for leaf, rows in zip(self._leaves, self._parameters):
            grads: Sequence[Tensor | None] = [None] * len(rows) if leaf.grad is None else leaf.grad.unbind()
            for parameter, grad in zip(rows, grads):
                parameter.grad = grad
        for descent in descents:
            descent.set_rate(self.step)
            descent.optimizer.step()


class _CastLayers(TorchFunctionMode):
    """Autocast of the layers, done before vmap sees them.

    vmap takes a layer apart above autocast, which then knows its parts no more: a convolution of a stack stays in
    float32, and a linear layer becomes a product in the lower precision plus a bias in float32.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _LAYERS:
            args = [self._cast(each) for each in args]
            kwargs = {name: self._cast(each) for name, each in (kwargs or {}).items()}
        return func(*args, **(kwargs or {}))

    def _cast(self, value: Any) -> Any:
        is_cast = isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64
        return value.to(self._dtype) if is_cast else value


_LAYERS = (
    F.linear,
    F.conv1d,
    F.conv2d,
    F.conv3d,
    F.conv_transpose1d,
    F.conv_transpose2d,
    F.conv_transpose3d,
)


def _casting_layers(dtype: torch.dtype | None) -> AbstractContextManager[object]:
    return nullcontext() if dtype is None else _CastLayers(dtype)


class _Drawn(NamedTuple):
    """What a trainer draws for its next update. A stack has the same tensors with K in front."""

    images: Tensor | None
    key: Tensor | None
    own_key: Tensor | None
    group: Tensor | None
    second_images: Tensor | None
    second_key: Tensor | None
    adversary_key: Tensor | None


def _draw(trainer: Trainer) -> _Drawn:
    inputs = trainer._draw(trainer.step, trainer.device)
    keys = dict(zip(Stream, inputs.keys))
    return _Drawn(
        images=trainer._images(inputs.rows),
        key=keys[Stream.POSTERIOR],
        own_key=keys[Stream.OBJECTIVE],
        group=inputs.group,
        second_images=None if inputs.second_rows is None else trainer._images(inputs.second_rows),
        second_key=None if inputs.second_rows is None else keys[Stream.SECOND_POSTERIOR],
        adversary_key=keys.get(Stream.ADVERSARY),
    )


class _Modules(nn.Module):
    """A model and an objective as one module, as functional_call wants them."""

    def __init__(self, model: nn.Module, objective: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, function: Callable[[], T]) -> T:
        return function()


def _tie(rows: Sequence[Tensor]) -> Tensor:
    """Make one tensor of all ``rows``, which become views of it."""
    whole = torch.stack([row.detach() for row in rows])
    for row, own in zip(rows, whole.unbind()):
        row.data = own
    return whole


def _gather(tensors: Sequence[Tensor | None]) -> Tensor | None:
    there = [each for each in tensors if each is not None]
    return torch.stack(there) if there else None


def _losses(loss: Loss) -> list[Loss]:
    """Split the loss of a stack into one for each run."""
    terms = zip(*(term.unbind() for term in loss.terms.values()))
    return [Loss(total, dict(zip(loss.terms, own))) for total, own in zip(loss.total.unbind(), terms)]


def check_alike(trainers: Sequence[Trainer]) -> None:
    """Raise for trainers that no stack can be made of.

    Raises:
        MistakeError: "Stack: batch_size must be the same in every run, got 8, 16".
    """
    if not trainers:
        raise MistakeError("Stack: trainers must be at least one, got none")
    _same("objective", [type(each.objective).__name__ for each in trainers])
    _same("step", [each.step for each in trainers])
    _same("batch_size", [each.order.batch_size for each in trainers])
    _same("autocast", [each.autocast for each in trainers])
    _same("device", [each.device for each in trainers])
    if trainers[0].autocast == torch.float16:
        raise MistakeError("Stack: autocast must be None or bfloat16, got float16, whose losses are scaled run by run")
    if any(each.ranks.world > 1 for each in trainers):
        raise MistakeError("Stack: trainers must be of one process, got some of a process group")
    first = _shapes(trainers[0])
    for each in trainers[1:]:
        own = _shapes(each)
        for name in {**first, **own}:
            _same(name, [first.get(name, "none"), own.get(name, "none")])
    mappable = real_options(type(trainers[0].objective))
    for name, values in _different([each.objective for each in trainers]).items():
        if name.lstrip("_") not in mappable or not all(is_number(value) for value in values):
            _same(name.lstrip("_"), values)


def _shapes(trainer: Trainer) -> dict[str, str]:
    modules = _Modules(trainer.model, trainer.objective)
    tensors = {**dict(modules.named_parameters()), **dict(modules.named_buffers())}
    return {name: f"{list(each.shape)} {each.dtype}" for name, each in tensors.items()}


def _same(name: str, values: Sequence[Any]) -> None:
    if any(value != values[0] for value in values):
        got = ", ".join(map(str, dict.fromkeys(map(str, values))))
        raise MistakeError(f"Stack: {name} must be the same in every run, got {got}")


def real_options(make: Callable[..., Any]) -> set[str]:
    """Name the options of an objective that are real numbers, which may differ between the runs of a stack."""
    hints = typing.get_type_hints(make.__init__ if inspect.isclass(make) else make)
    return {name for name, kind in hints.items() if kind is float or float in typing.get_args(kind)}


def _different(objectives: Sequence[Objective]) -> Mapping[str, list[Any]]:
    """Find the attributes that differ between objectives, leaving out what PyTorch keeps there."""
    own = [name for name in vars(objectives[0]) if name not in _OF_AN_OPTIMIZER and name not in vars(nn.Module())]
    values = {name: [getattr(each, name) for each in objectives] for name in own}
    return {name: each for name, each in values.items() if any(value != each[0] for value in each)}


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _mapped_numbers(trainers: Sequence[Trainer]) -> dict[str, Tensor]:
    """Collect the numbers that differ between the objectives, [K] each."""
    like = next(trainers[0].model.parameters())
    return {name: like.new_tensor(values) for name, values in _different([t.objective for t in trainers]).items()}
