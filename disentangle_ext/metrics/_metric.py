"""The class form of a metric: fed batch by batch, computed at the end."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext.metrics._discrete import to_numpy
from disentangle_ext.metrics._result import MetricResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Metric"]

R = TypeVar("R", bound=MetricResult)


class Metric(Generic[R]):
    """Collects rows over batches and computes a metric of all of them, in the manner of torchmetrics.

    >>> metric = MIG(num_bins=20)
    >>> for images, factors in loader:
    ...     metric.update(model.encode(images)[0], factors)
    >>> metric.compute().score

    A subclass names the function it is the class form of, whose keyword arguments, defaults and errors it has:

    >>> class MIG(Metric[MIGResult], function=mig):
    ...     ...

    Positional arguments of the function are given to :meth:`update`; so are the keyword arguments that ``rows`` names
    because they hold a row for each row of codes.
    """

    function: ClassVar[Callable[..., Any]]
    _inputs: ClassVar[tuple[str, ...]]
    _rows: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls, *, function: Callable[..., R], rows: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        parameters = inspect.signature(function).parameters.values()
        cls.function = staticmethod(function)
        cls._inputs = tuple(each.name for each in parameters if each.kind is not each.KEYWORD_ONLY)
        cls._rows = rows
        options = [each for each in parameters if each.kind is each.KEYWORD_ONLY and each.name not in rows]
        cls.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]

    def __init__(self, **options: Any) -> None:
        known = inspect.signature(type(self)).parameters
        for name in options:
            if name not in known:
                raise TypeError(f"{type(self).__name__}: unknown option {name!r}; known: {', '.join(known)}")
        self.options = options
        self._batches: dict[str, list[np.ndarray]] = {}

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{type(self).__name__}({options})"

    def update(self, *inputs: Any, **named: Any) -> None:
        """Adds a batch: the arguments of the function that hold rows, each as it takes it, with as many rows.

        Raises:
            TypeError: for an argument that the function does not take, or another set of them than before.
            ValueError: for arguments of different lengths, or of another width than before.
        """
        who = f"{type(self).__name__}.update"
        batch = self._bind(who, inputs, named)
        if self._batches and set(batch) != set(self._batches):
            raise TypeError(f"{who}: takes {', '.join(self._batches)} as before, got {', '.join(batch)}")
        arrays = {name: to_numpy(value) for name, value in batch.items()}
        lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise MistakeError(f"{who}: arguments must have the same number of rows, got {lengths}")
        for name, array in arrays.items():
            before = self._batches[name][0] if name in self._batches else array
            if array.shape[1:] != before.shape[1:]:
                raise MistakeError(
                    f"{who}: {name} must have rows of shape {list(before.shape[1:])} as before, "
                    f"got {list(array.shape[1:])}"
                )
        for name, array in arrays.items():
            self._batches.setdefault(name, []).append(np.array(array))  # the caller may reuse its buffer

    def compute(self) -> R:
        """The metric of all rows since the last :meth:`reset`.

        Raises:
            ValueError: where there are none, and wherever the function does.
        """
        if not self._batches:
            raise MistakeError(f"{type(self).__name__}.compute: no batch was given to update")
        rows = {name: np.concatenate(batches) for name, batches in self._batches.items()}
        result: R = self.function(**rows, **self.options)
        return result

    def reset(self) -> None:
        """Forgets all rows."""
        self._batches = {}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws what explains the score of all rows; see the result's ``plot``."""
        return self.compute().plot(ax)

    def _bind(self, who: str, inputs: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
        if len(inputs) > len(self._inputs):
            raise TypeError(f"{who}: takes {', '.join(self._inputs)}, got {len(inputs)} arguments")
        batch = dict(zip(self._inputs, inputs))
        for name, value in named.items():
            if name in batch or name not in self._inputs + self._rows:
                raise TypeError(f"{who}: takes {', '.join(self._inputs + self._rows)}, got {name!r} besides")
            batch[name] = value
        missing = [name for name in self._inputs if name not in batch]
        if missing:
            raise TypeError(f"{who}: takes {', '.join(self._inputs)}, got no {missing[0]}")
        return batch
