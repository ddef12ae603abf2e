"""Images with ground-truth factors: the interface of every data set."""

from __future__ import annotations

import abc
import copy
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from disentangle_ext._errors import MistakeError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["GroundTruthData"]


class GroundTruthData(Dataset[tuple[Tensor, Tensor]], abc.ABC):
    """Images on a grid of ground-truth factors.

    Row ``i`` of the set is the ``i``-th element, in C order, of the product of the factors' classes: the last
    factor varies fastest. Every argument and result is a tensor of a whole batch, and lies on :attr:`device`
    (an argument elsewhere is moved there). Indices and factors may also be NumPy arrays or lists.

    For torch it is a map-style data set of pairs (image, factors), so a loader keeps each image with its factors:

    >>> for images, factors in DataLoader(data, batch_size=64, shuffle=True):
    ...     images.shape, factors.shape  # [64, C, H, W] in [0, 1], [64, K]

    A value outside its range raises where the argument lies in host memory. An argument that already lies on
    an accelerator is not read back for that check, because the copy would stall the stream.

    Attributes:
        name: what :func:`disentangle_ext.data.load_data` calls the set.
        factor_names: the K factors, in the order of the grid. Only factors that vary are listed.
        factor_sizes: how many classes each factor has.
        image_shape: (C, H, W).
        device: where images come from; :meth:`to` gives the set on another one.
    """

    periods: Mapping[str, int] = {}
    """For each factor on a circle the number of classes that make a turn; all others are on a line."""

    def __init__(
        self,
        name: str,
        factor_names: Sequence[str],
        factor_sizes: Sequence[int],
        image_shape: tuple[int, int, int],
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self.name = name
        self.factor_names = tuple(factor_names)
        self.factor_sizes = tuple(int(size) for size in factor_sizes)
        self.image_shape = image_shape
        self.device = torch.device(device)
        strides = [math.prod(self.factor_sizes[k + 1 :]) for k in range(len(self.factor_sizes))]
        self._sizes = torch.tensor(self.factor_sizes, dtype=torch.int64, device=self.device)
        self._strides = torch.tensor(strides, dtype=torch.int64, device=self.device)

    def __len__(self) -> int:
        return math.prod(self.factor_sizes)

    def __repr__(self) -> str:
        factors = ", ".join(f"{name} {size}" for name, size in zip(self.factor_names, self.factor_sizes))
        shape = "x".join(map(str, self.image_shape))
        return f"{type(self).__name__}({self.name}: {len(self):,} images of {shape}; {factors or 'no factors'})"

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """The image of one row as :meth:`batch` has it, float32 [C, H, W] in [0, 1], and its factors, int64 [K].

        A negative index counts from the end.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Iterable[int]) -> list[tuple[Tensor, Tensor]]:
        """Several rows at once, which is what a loader asks for: one call for the pixels of a whole batch."""
        rows = torch.tensor([self._row(index) for index in indices], dtype=torch.int64, device=self.device)
        return list(zip(self._floats(rows), self._classes(rows)))

    @property
    def is_grid(self) -> bool:
        """Whether every combination of factor classes has an image."""
        return True

    def held_out(self) -> GroundTruthData | None:
        """Images of the same kind with other classes of a factor, for tests of what was learned here; None: no such."""
        return None

    def images(self, index: Any) -> Tensor:
        """The images of the rows ``index`` [n]: uint8 [n, C, H, W] in 0..255, channels last in memory."""
        return self._pixels(self._check_index(index, "images"))

    def batch(self, index: Any) -> Tensor:
        """The images of the rows ``index`` [n] as a model wants them: float32 [n, C, H, W] in [0, 1].

        Same pixels and memory order as :meth:`images`, divided by 255.
        """
        return self._floats(self._check_index(index, "batch"))

    def factors(self, index: Any) -> Tensor:
        """The factor classes of the rows ``index`` [n]: int64 [n, K]."""
        return self._classes(self._check_index(index, "factors"))

    def index(self, factors: Any) -> Tensor:
        """The rows whose factor classes are ``factors`` [n, K]: int64 [n]. The inverse of :meth:`factors`."""
        return self._rows(self._check_factors(factors, "index"))

    def sample_index(self, factors: Any, *, generator: torch.Generator | None = None) -> Tensor:
        """A row for each of the factor classes ``factors`` [n, K]: int64 [n].

        Drawn uniformly among all rows that have those classes; :meth:`index` gives the first of them.
        """
        return self._sample_rows(self._check_factors(factors, "sample_index"), generator)

    def sample_factors(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """The factor classes of ``n`` rows drawn uniformly, with replacement: int64 [n, K].

        On a full grid the factors are then independent and uniform. The draw happens on the generator's
        device (the CPU without one), so one seed gives the same rows wherever the images live.
        """
        if n < 0:
            raise MistakeError(f"{type(self).__name__}.sample_factors: n must be at least 0, got {n}")
        where = generator.device if generator is not None else torch.device("cpu")
        rows = torch.randint(len(self), (n,), generator=generator, device=where)
        return self._classes(rows.to(self.device))

    def sample_images(self, factors: Any, *, generator: torch.Generator | None = None) -> Tensor:
        """Images with the factor classes ``factors`` [n, K], as :meth:`images` gives them.

        Where several rows have those classes, one is drawn; sets whose images hold noise beyond the factors draw that,
        too.
        """
        rows = self._sample_rows(self._check_factors(factors, "sample_images"), generator)
        return self._draw(rows, generator)

    def to(self, device: torch.device | str) -> Self:
        """Returns the same set with its images on ``device``; this one stays where it is.

        Memory is shared where it lies on that device already.
        """
        other = copy.copy(self)
        other.device = torch.device(device)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(other, name, value.to(other.device))
        return other

    @abc.abstractmethod
    def _pixels(self, index: Tensor) -> Tensor:
        """uint8 [n, C, H, W] for a checked index."""

    def _floats(self, index: Tensor) -> Tensor:
        return self._pixels(index).to(torch.float32).div_(255)

    def _draw(self, index: Tensor, generator: torch.Generator | None) -> Tensor:
        """Images of the rows ``index``, with noise beyond the factors drawn anew."""
        return self._pixels(index)

    def _classes(self, index: Tensor) -> Tensor:
        return index[:, None] // self._strides % self._sizes

    def _rows(self, factors: Tensor) -> Tensor:
        return (factors * self._strides).sum(1)

    def _sample_rows(self, factors: Tensor, generator: torch.Generator | None) -> Tensor:
        return self._rows(factors)

    def _row(self, index: int) -> int:
        where = f"{type(self).__name__}[index]: index"
        try:
            row = operator.index(index)
        except TypeError:
            raise TypeError(
                f"{where} must be an integer, got {type(index).__name__}; batch(index) and factors(index) take many"
            ) from None
        if not -len(self) <= row < len(self):
            raise IndexError(f"{where} must be in {-len(self)}..{len(self) - 1}, got {row}")
        return row % len(self)

    def _check_index(self, index: Any, method: str) -> Tensor:
        where = f"{type(self).__name__}.{method}: index"
        index = _integers(index, where)
        if index.dim() != 1:
            raise MistakeError(f"{where} must have shape [n], got {list(index.shape)}")
        if index.device.type == "cpu" and index.numel():
            low, high = (int(value) for value in index.aminmax())
            if low < 0 or high >= len(self):
                got = low if low < 0 else high
                raise IndexError(f"{where} must be in 0..{len(self) - 1}, got {got}")
        return index.to(self.device)

    def _check_factors(self, factors: Any, method: str) -> Tensor:
        where = f"{type(self).__name__}.{method}: factors"
        factors = _integers(factors, where)
        count = len(self.factor_names)
        if factors.dim() != 2 or factors.shape[1] != count:
            names = ", ".join(self.factor_names)
            raise MistakeError(f"{where} must have shape [n, {count}] ({names}), got {list(factors.shape)}")
        if factors.device.type == "cpu" and factors.numel():
            for k, (name, size) in enumerate(zip(self.factor_names, self.factor_sizes)):
                low, high = (int(value) for value in factors[:, k].aminmax())
                if low < 0 or high >= size:
                    got = low if low < 0 else high
                    raise MistakeError(f"{where}[:, {k}] ({name}) must be in 0..{size - 1}, got {got}")
        return factors.to(self.device)


def _integers(value: Any, where: str) -> Tensor:
    tensor = value if isinstance(value, Tensor) else torch.as_tensor(value)
    no_integers = tensor.dtype == torch.bool or tensor.is_floating_point() or tensor.is_complex()
    # An empty list has no type of its own: torch calls it float.
    if no_integers and (tensor.numel() > 0 or isinstance(value, Tensor)):
        raise TypeError(f"{where} must hold integers, got {tensor.dtype}")
    return tensor.to(torch.int64)
