"""The codes of a run: its data set encoded by its model once, and kept in the run folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from disentangle_ext.data import GroundTruthData
from disentangle_ext.models import VAE
from disentangle_ext.training.checkpoint import read_tensors, save_tensors
from disentangle_ext.training.finish import encode_rows
from disentangle_ext.training.run_folder import CODES, MODEL, RunFolder

__all__ = ["Codes", "codes_of"]


class Codes(NamedTuple):
    """Posteriors of ``n`` images, and the ground truth."""

    rows: Tensor
    """[n], which images of the data set."""
    mu: Tensor
    """[n, D], posterior means."""
    logvar: Tensor
    """[n, D], posterior log-variances."""
    factors: Tensor
    """[n, K], classes of the factors; K = 0 for a data set without."""

    def choose(self, rows: Tensor) -> Codes | None:
        """Those of ``rows`` in their order, or None where one of them is not here."""
        place = torch.full((int(max(self.rows.max(), rows.max())) + 1,), -1, dtype=torch.int64)
        place[self.rows] = torch.arange(len(self.rows))
        at = place[rows]
        return None if bool((at < 0).any()) else Codes(*(each[at] for each in self))


def codes_of(
    folder: RunFolder,
    model: VAE,
    data: GroundTruthData,
    rows: Tensor,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> Codes:
    """The posteriors of the images ``rows``: from the run folder where they are kept, or else encoded and kept.

    A file of another model, or of other images, is replaced.

    Args:
        folder: of the run.
        model: its model, in eval mode.
        data: its data set.
        rows: [n], which images.
        progress: called with the number of images done and their total, where there is something to encode.
    """
    owner = hashlib.sha256((folder.path / MODEL).read_bytes()).hexdigest()
    kept = _read(folder, owner, len(data))
    chosen = None if kept is None else kept.choose(rows)
    if chosen is not None:
        return chosen
    mu, logvar = encode_rows(model, data, rows, progress=progress)
    factors = data.factors(rows) if data.factor_names else torch.empty(len(rows), 0, dtype=torch.int64)
    codes = Codes(rows, mu.cpu(), logvar.cpu(), factors.cpu())
    save_tensors(folder.path / CODES, codes._asdict(), {"model": owner, "images": len(data)})
    return codes


def _read(folder: RunFolder, owner: str, images: int) -> Codes | None:
    try:
        tensors, header = read_tensors(folder.path / CODES)
        return Codes(**tensors) if header == {"model": owner, "images": images} else None
    except (FileNotFoundError, ValueError, TypeError):  # what is damaged is encoded anew
        return None
