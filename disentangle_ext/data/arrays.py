"""Images that are stored, not rendered: rows of pixels in memory or in a mapped file, and a user's own arrays."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from disentangle_ext._errors import MistakeError
from disentangle_ext.data.base import GroundTruthData
from disentangle_ext.data.npy import read_arrays
from disentangle_ext.data.pixels import flatten_pixels, gather_pixels

__all__ = ["ArrayData", "StoredData", "arrays"]


class StoredData(GroundTruthData):
    """Stored pixels of a full grid of factors, or of images without factors.

    A batch is one gather. Rows may be a file mapped into memory: what is asked for is then read, and :meth:`to`
    copies all of it to an accelerator.

    Args:
        name: the set's name.
        factor_names: the K factors; none for images without factors.
        factor_sizes: how many classes each factor has.
        image_shape: (C, H, W).
        rows: uint8 [N, H * W * C], channels last; or [N, C * H * W / 8], as :func:`pixels.pack_bits` makes
            them, for images that are black and white. In C order of the factors.
        device: where the rows are kept.
    """

    def __init__(
        self,
        name: str,
        factor_names: Sequence[str],
        factor_sizes: Sequence[int],
        image_shape: tuple[int, int, int],
        rows: Tensor,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(name, factor_names, factor_sizes, image_shape, device=device)
        self._stored = rows.to(self.device)

    def __len__(self) -> int:
        return len(self._stored)

    def _pixels(self, index: Tensor) -> Tensor:
        return gather_pixels(self._stored, index, self.image_shape)

    def _rows(self, factors: Tensor) -> Tensor:
        self._check_has_factors()
        return super()._rows(factors)

    def _check_has_factors(self) -> None:
        if not self.factor_names:
            raise MistakeError(f"{type(self).__name__}.index: {self.name} has no factors to find an image by")


class ArrayData(StoredData):
    """A user's own images, with factors or without, behind the interface of :class:`GroundTruthData`.

    Rows keep the order of the arrays, and need not form a full grid: :meth:`sample_factors` draws among the
    rows, :meth:`index` finds the first row with the given classes, :meth:`sample_index` any of them, and both raise
    where there is none.

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
        shape = (channels, height, width)
        super().__init__(name, names, sizes, shape, flatten_pixels(pixels), device=device)
        self._table = torch.from_numpy(classes).to(self.device)
        self._sorted_codes, self._order = self._codes(self._table).sort(stable=True)

    @property
    def is_grid(self) -> bool:
        return len(self._sorted_codes.unique()) == math.prod(self.factor_sizes)

    def _classes(self, index: Tensor) -> Tensor:
        return self._table.index_select(0, index)

    def _rows(self, factors: Tensor) -> Tensor:
        return self._order[self._places(factors)[0]]

    def _sample_rows(self, factors: Tensor, generator: torch.Generator | None) -> Tensor:
        first, end = self._places(factors)
        where = generator.device if generator is not None else torch.device("cpu")
        uniform = torch.rand(len(factors), dtype=torch.float64, generator=generator, device=where).to(self.device)
        return self._order[first + (uniform * (end - first)).long()]

    def _places(self, factors: Tensor) -> tuple[Tensor, Tensor]:
        """Where the rows with these classes begin and end in the order of codes."""
        self._check_has_factors()
        codes = self._codes(factors)
        first, end = (torch.searchsorted(self._sorted_codes, codes, right=right) for right in (False, True))
        missing = (first == end).nonzero()
        if len(missing):
            classes = tuple(factors[int(missing[0])].tolist())
            raise MistakeError(f"ArrayData.index: factors must be those of an image, got {classes}, which none has")
        return first, end

    def _codes(self, factors: Tensor) -> Tensor:
        """One number per combination of classes."""
        return (factors * self._strides).sum(1)


def arrays(path: Path | None = None, *, device: torch.device | str = "cpu") -> ArrayData:
    """The arrays in a file, for the command line.

    Args:
        path: an .npz with ``images`` and, if they are known, ``factors`` and their ``names``, as
            :class:`ArrayData` takes them; or an .npy with images alone.
        device: where the images are kept.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file that holds something else, named in the message. Nothing is unpickled, and of an .npz
            no other array is read.
    """
    if path is None:
        raise MistakeError("arrays: path is not given: an .npz with images and factors, or an .npy with images")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"arrays: there is no file {path}")
    content = read_arrays("arrays", path, ("images", "factors", "names"))
    names = content.get("names")
    try:
        return ArrayData(
            content["images"],
            content.get("factors"),
            None if names is None else [str(name) for name in names],
            name=path.stem,
            device=device,
        )
    except (MistakeError, TypeError) as error:
        raise MistakeError(f"arrays: {path}: {error}") from None


def _check_images(images: Any) -> Tensor:
    images = images.detach() if isinstance(images, Tensor) else np.asarray(images)
    if images.dtype not in (torch.uint8, torch.bool, np.uint8, np.bool_):
        raise TypeError(f"ArrayData: images must be uint8 in 0..255 or bool, got {_what_came(images)}")
    with warnings.catch_warnings():
        # A read-only array (np.load with mmap_mode) is fine: nothing here writes to it.
        warnings.filterwarnings("ignore", message=".*not writ(e)?able.*")
        tensor = torch.as_tensor(images)
    if tensor.dtype == torch.bool:
        tensor = tensor.to(torch.uint8) * 255
    elif tensor.numel() and int(tensor.max()) == 1:
        raise MistakeError("ArrayData: images must use the range 0..255, got 0 and 1 only: pass images * 255")
    if tensor.dim() == 3:
        tensor = tensor[:, None]
    if tensor.dim() != 4 or 0 in tensor.shape:
        raise MistakeError(f"ArrayData: images must be [N, H, W] or [N, C, H, W], not empty, got {list(tensor.shape)}")
    if tensor.shape[3] in (1, 3) and tensor.shape[1] not in (1, 3):
        raise MistakeError(
            f"ArrayData: images must be [N, C, H, W], got {list(tensor.shape)}, which looks like "
            "[N, H, W, C]: pass images.transpose(0, 3, 1, 2)"
        )
    return tensor


def _what_came(images: Tensor | np.ndarray) -> str:
    """Say which type and range came in the place of bytes, and how to convert them."""
    dtype = str(images.dtype).removeprefix("torch.")
    if not dtype.startswith(("float", "bfloat", "int", "uint")) or 0 in images.shape:
        return dtype
    values = images.float() if isinstance(images, Tensor) else images  # not every type has a minimum in PyTorch
    low, high = float(values.min()), float(values.max())
    scaled = _to_bytes(low, high, whole="int" in dtype)
    cast = "to(torch.uint8)" if isinstance(images, Tensor) else "astype('uint8')"
    return f"{dtype} from {low:g} to {high:g}: {f'pass {scaled}.{cast}' if scaled else 'bring them to 0..255 first'}"


def _to_bytes(low: float, high: float, *, whole: bool) -> str | None:
    """The expression that brings images of this range to 0..255; None where the range does not tell."""
    if low >= 0 and high <= 1:
        return "(images * 255).round()"
    if low >= -1 and high <= 1:
        return "((images + 1) * 127.5).round()"
    if low >= 0 and high <= 255:
        return "images" if whole else "images.round()"
    if low >= 0 and 32768 <= high <= 65535 and whole:  # 16 bits, not 10 or 12 of them
        return "(images / 257).round()"
    return None


def _check_factor_values(factors: Any, rows: int) -> np.ndarray:
    if factors is None:
        return np.empty((rows, 0), np.int64)
    values = factors.detach().cpu().numpy() if isinstance(factors, Tensor) else np.asarray(factors)
    if values.ndim != 2 or values.shape[0] != rows:
        raise MistakeError(f"ArrayData: factors must be [N, K] with N = {rows} images, got {list(values.shape)}")
    if values.dtype.kind not in "biuf":
        raise TypeError(f"ArrayData: factors must be numbers, got {values.dtype}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise MistakeError("ArrayData: factors must be finite, got NaN or infinity")
    return values


def _check_names(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    names = tuple(f"factor_{k}" for k in range(count)) if names is None else tuple(names)
    if len(names) != count or len(set(names)) != count:
        raise MistakeError(f"ArrayData: names must be {count} distinct names, one per factor, got {list(names)}")
    return names
