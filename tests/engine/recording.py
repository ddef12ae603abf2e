"""What a CUDA graph would hold of some work, recorded and replayed on the CPU: the ops below autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves

from disentangle_ext.models import VAEOutput

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique", "bincount")
"""Beginnings of the names of ops that read a result back from a GPU; see also :func:`waits`."""


LIFT = torch.ops.aten.lift_fresh.default
"""What becomes of a number that a tensor is made of."""


class Call(NamedTuple):
    """An op as it was called."""

    function: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    results: list[Any]


def waits(call: Call) -> bool:
    """Whether the op makes the host wait for a GPU."""
    name = call.function._schema.name.split("::")[1]
    tensors = [each for each in tree_leaves(call.arguments[1:]) if isinstance(each, Tensor)]
    if name in ("index", "index_put_", "_index_put_impl_"):
        places = [each for each in tree_leaves(call.arguments[1]) if each is not None]
        return any(each.dtype in (torch.bool, torch.uint8) for each in places)
    if name in ("masked_fill", "masked_fill_"):
        return len(tensors) > 1  # the value is read
    return name.startswith(WAITS) or (name == "repeat_interleave" and bool(tensors))


class Recorder(TorchDispatchMode):
    """The ops of a block; everything that they made stays in memory.

    What was there before them is put back by :meth:`undo`, as a capture computes nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._made: dict[int, tuple[int, int]] = {}
        self._before: dict[int, tuple[Any, Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "profiler":
            return func(*args, **kwargs)
        for argument, value in zip(func._schema.arguments, args):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._keep(value)
        self._keep([value for name, value in kwargs.items() if name == "out"])
        results = func(*args, **kwargs)
        given = {_address(each) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        for place, each in enumerate(tree_leaves(results)):
            if isinstance(each, Tensor) and (_address(each) not in given or func is LIFT):
                self._made.setdefault(_address(each), (len(self.calls), place))
        self.calls.append(Call(func, args, kwargs, tree_leaves(results)))
        return results

    def _keep(self, written: Any) -> None:
        for each in tree_leaves(written):
            if isinstance(each, Tensor) and each.device.type == "cpu" and _address(each) not in self._made:
                storage = each.untyped_storage()
                self._before.setdefault(_address(each), (storage, storage.clone()))

    def undo(self) -> None:
        for storage, before in self._before.values():
            storage.copy_(before)

    def describe(self) -> list[str]:
        """Each op with its constants and the memory that it works on: an address, unless an op of the block made it."""
        return [f"{each.function} {self._text(each.arguments)} {self._text(each.options)}" for each in self.calls]

    def numbers(self) -> list[Any]:
        """What the host made tensors of."""
        return [each.results[0].tolist() for each in self.calls if each.function is LIFT]

    def _text(self, values: Any) -> str:
        leaves, spec = tree_flatten(values)
        parts = [self._tensor(each) if isinstance(each, Tensor) else repr(each) for each in leaves]
        return f"{spec} {', '.join(parts)}"

    def _tensor(self, each: Tensor) -> str:
        address = _address(each)
        where = f"made by {self._made[address]}" if address in self._made else f"at {address}"
        return f"{each.dtype} {tuple(each.shape)} {each.stride()} {each.storage_offset()} {where}"

    @torch.no_grad()
    def replay(self) -> None:
        for call in self.calls:
            returns = call.function._schema.returns
            if returns and all(each.alias_info is not None and not each.alias_info.is_write for each in returns):
                continue  # a view
            again = tree_leaves(call.function(*call.arguments, **call.options))
            for old, new in zip(call.results, again, strict=True):
                if isinstance(old, Tensor) and old is not new:
                    old.copy_(new)


def _address(tensor: Tensor) -> int:
    storage = tensor.untyped_storage()
    return storage._cdata if tensor.device.type == "meta" else storage.data_ptr() or storage._cdata


class Graph:
    """Stands in for :class:`training.graph.CudaGraph`."""

    def __init__(self, device: torch.device) -> None:
        self.recorder = Recorder()
        self.replays = 0

    def warm_up(self, work: Callable[[], VAEOutput]) -> VAEOutput:
        return work()

    def record(self, work: Callable[[], VAEOutput]) -> VAEOutput:
        with self.recorder:
            output = work()
        self.recorder.undo()
        return output

    def replay(self) -> None:
        self.replays += 1
        self.recorder.replay()
