"""Images with ground-truth factors: the interface of every data set, and a user's own arrays behind it."""

from __future__ import annotations

import abc
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ArrayData", "GroundTruthData"]


class GroundTruthData(abc.ABC):
    """Images on a grid of ground-truth factors.

    Row ``i`` of the set is the ``i``-th element, in C order, of the product of the factors' classes: the last
    factor varies fastest. Every argument and result is a tensor of a whole batch, and lies on :attr:`device`
    (an argument elsewhere is moved there). Indices and factors may also be NumPy arrays or lists.

    A value outside its range raises where the argument lies in host memory. An argument that already lies on
    an accelerator is not read back for that check, because the copy would stall the stream.

    Attributes:
        name: what :func:`disentangle_ext.data.load_data` calls the set.
        factor_names: the K factors, in the order of the grid. Only factors that vary are listed.
        factor_sizes: how many classes each factor has.
        image_shape: (C, H, W).
        device: where images come from; :meth:`to` changes it.
    """

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
        return (
            f"{type(self).__name__}({self.name}: {len(self):,} images of {shape}; {factors or 'no factors'})"
        )

    @property
    def is_grid(self) -> bool:
        """Whether every combination of factor classes has an image."""
        return True

    def images(self, index: Any) -> Tensor:
        """The images of the rows ``index`` [n]: uint8 [n, C, H, W] in 0..255, channels last in memory."""
        return self._pixels(self._check_index(index, "images"))

    def batch(self, index: Any) -> Tensor:
        """The images of the rows ``index`` [n] as a model wants them: float32 [n, C, H, W] in [0, 1].

        Same pixels and memory order as :meth:`images`, divided by 255.
        """
        return self._pixels(self._check_index(index, "batch")).to(torch.float32).div_(255)

    def factors(self, index: Any) -> Tensor:
        """The factor classes of the rows ``index`` [n]: int64 [n, K]."""
        return self._classes(self._check_index(index, "factors"))

    def index(self, factors: Any) -> Tensor:
        """The rows whose factor classes are ``factors`` [n, K]: int64 [n]. The inverse of :meth:`factors`."""
        return self._rows(self._check_factors(factors, "index"))

    def sample_factors(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """The factor classes of ``n`` rows drawn uniformly, with replacement: int64 [n, K].

        On a full grid the factors are then independent and uniform. The draw happens on the generator's
        device (the CPU without one), so one seed gives the same rows wherever the images live.
        """
        if n < 0:
            raise ValueError(f"{type(self).__name__}.sample_factors: n must be at least 0, got {n}")
        where = generator.device if generator is not None else torch.device("cpu")
        rows = torch.randint(len(self), (n,), generator=generator, device=where)
        return self._classes(rows.to(self.device))

    def sample_images(self, factors: Any, *, generator: torch.Generator | None = None) -> Tensor:
        """Images with the factor classes ``factors`` [n, K], as :meth:`images` gives them.

        Sets whose images hold noise beyond the factors draw it from ``generator``; here one row is one image.
        """
        return self._pixels(self._rows(self._check_factors(factors, "sample_images")))

    def to(self, device: torch.device | str) -> Self:
        """Moves what the set keeps in memory to ``device``, where its images then come from; returns it."""
        self.device = torch.device(device)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(self.device))
        return self

    @abc.abstractmethod
    def _pixels(self, index: Tensor) -> Tensor:
        """uint8 [n, C, H, W] for a checked index."""

    def _classes(self, index: Tensor) -> Tensor:
        return index[:, None] // self._strides % self._sizes

    def _rows(self, factors: Tensor) -> Tensor:
        return (factors * self._strides).sum(1)

    def _check_index(self, index: Any, method: str) -> Tensor:
        where = f"{type(self).__name__}.{method}: index"
        index = _integers(index, where)
        if index.dim() != 1:
            raise ValueError(f"{where} must have shape [n], got {list(index.shape)}")
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
            raise ValueError(f"{where} must have shape [n, {count}] ({names}), got {list(factors.shape)}")
        if factors.device.type == "cpu" and factors.numel():
            for k, (name, size) in enumerate(zip(self.factor_names, self.factor_sizes)):
                low, high = (int(value) for value in factors[:, k].aminmax())
                if low < 0 or high >= size:
                    got = low if low < 0 else high
                    raise ValueError(f"{where}[:, {k}] ({name}) must be in 0..{size - 1}, got {got}")
        return factors.to(self.device)


class ArrayData(GroundTruthData):
    """A user's own images, with factors or without, behind the interface of :class:`GroundTruthData`.

    Rows keep the order of the arrays, and need not form a full grid: :meth:`sample_factors` draws among the
    rows, :meth:`index` finds the first row with the given classes and raises where there is none.

    Args:
        images: uint8 [N, H, W] or [N, C, H, W] in 0..255, or bool; a tensor or array. Kept in memory as
            uint8, without a copy where the memory order is [N, H, W, C] already.
        factors: [N, K], of any numeric type: in each column, the sorted distinct values become classes
            0, 1, ... Without factors a model can be trained, but not scored against ground truth.
        names: the K factors' names; ``factor_0``, ``factor_1``, ... by default.
        name: the set's name.
        device: where the images are kept.
    """

    def __init__(
        self,
        images: Any,
        factors: Any = None,
        names: Sequence[str] | None = None,
        *,
        name: str = "arrays",
        device: torch.device | str = "cpu",
    ) -> None:
        pixels = _check_images(images)
        values = _check_factor_values(factors, len(pixels))
        names = _check_names(names, values.shape[1])
        classes, sizes = np.empty(values.shape, np.int64), []
        for k in range(values.shape[1]):
            distinct, classes[:, k] = np.unique(values[:, k], return_inverse=True)
            sizes.append(len(distinct))
        _, channels, height, width = pixels.shape
        super().__init__(name, names, sizes, (channels, height, width), device=device)
        self._stored = flatten_pixels(pixels).to(self.device)
        self._table = torch.from_numpy(classes).to(self.device)
        self._sorted_codes, self._order = super()._rows(self._table).sort(stable=True)

    def __len__(self) -> int:
        return len(self._stored)

    def _pixels(self, index: Tensor) -> Tensor:
        return gather_pixels(self._stored, index, self.image_shape)

    def _classes(self, index: Tensor) -> Tensor:
        return self._table.index_select(0, index)

    def _rows(self, factors: Tensor) -> Tensor:
        if not self.factor_names:
            raise ValueError("ArrayData.index: factors must be given to ArrayData first, got images alone")
        codes = super()._rows(factors)
        place = torch.searchsorted(self._sorted_codes, codes).clamp_(max=len(self) - 1)
        missing = (self._sorted_codes[place] != codes).nonzero()
        if len(missing):
            classes = tuple(factors[int(missing[0])].tolist())
            raise ValueError(
                f"ArrayData.index: factors must be those of an image, got {classes}, which none has"
            )
        return self._order[place]


def flatten_pixels(images: Tensor) -> Tensor:
    """uint8 [N, C, H, W] -> rows [N, H * W * C], channels last: gathering an image is one memcpy."""
    return images.permute(0, 2, 3, 1).contiguous().view(len(images), -1)


def gather_pixels(stored: Tensor, index: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """Rows of :func:`flatten_pixels` as uint8 [n, C, H, W] in channels-last memory order."""
    channels, height, width = image_shape
    rows = stored.index_select(0, index)
    return rows.view(len(index), height, width, channels).permute(0, 3, 1, 2)


def _integers(value: Any, where: str) -> Tensor:
    tensor = value if isinstance(value, Tensor) else torch.as_tensor(value)
    no_integers = tensor.dtype == torch.bool or tensor.is_floating_point() or tensor.is_complex()
    # An empty list has no type of its own: torch calls it float.
    if no_integers and (tensor.numel() > 0 or isinstance(value, Tensor)):
        raise TypeError(f"{where} must hold integers, got {tensor.dtype}")
    return tensor.to(torch.int64)


def _check_images(images: Any) -> Tensor:
    if isinstance(images, Tensor):
        tensor = images.detach()
    else:
        with warnings.catch_warnings():
            # A read-only array (np.load with mmap_mode) is fine: nothing here writes to it.
            warnings.filterwarnings("ignore", message=".*not writ(e)?able.*")
            tensor = torch.as_tensor(np.asarray(images))
    if tensor.dtype == torch.bool:
        tensor = tensor.to(torch.uint8) * 255
    elif tensor.dtype != torch.uint8:
        raise TypeError(f"ArrayData: images must be uint8 in 0..255 or bool, got {tensor.dtype}")
    elif tensor.numel() and int(tensor.max()) == 1:
        raise ValueError("ArrayData: images must use the range 0..255, got 0 and 1 only: pass images * 255")
    if tensor.dim() == 3:
        tensor = tensor[:, None]
    if tensor.dim() != 4 or 0 in tensor.shape:
        raise ValueError(
            f"ArrayData: images must be [N, H, W] or [N, C, H, W], not empty, got {list(tensor.shape)}"
        )
    if tensor.shape[3] in (1, 3) and tensor.shape[1] not in (1, 3):
        raise ValueError(
            f"ArrayData: images must be [N, C, H, W], got {list(tensor.shape)}, which looks like "
            "[N, H, W, C]: pass images.transpose(0, 3, 1, 2)"
        )
    return tensor


def _check_factor_values(factors: Any, rows: int) -> np.ndarray:
    if factors is None:
        return np.empty((rows, 0), np.int64)
    values = factors.detach().cpu().numpy() if isinstance(factors, Tensor) else np.asarray(factors)
    if values.ndim != 2 or values.shape[0] != rows:
        raise ValueError(
            f"ArrayData: factors must be [N, K] with N = {rows} images, got {list(values.shape)}"
        )
    if values.dtype.kind not in "biuf":
        raise TypeError(f"ArrayData: factors must be numbers, got {values.dtype}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("ArrayData: factors must be finite, got NaN or infinity")
    return values


def _check_names(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    names = tuple(f"factor_{k}" for k in range(count)) if names is None else tuple(names)
    if len(names) != count or len(set(names)) != count:
        raise ValueError(
            f"ArrayData: names must be {count} distinct names, one per factor, got {list(names)}"
        )
    return names
