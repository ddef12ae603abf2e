"""The codes of a run: its data set encoded by its model once, and kept in the run folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from disentangle_ext import ops
from disentangle_ext._files import WriteError
from disentangle_ext._seeds import mix
from disentangle_ext.data import GroundTruthData
from disentangle_ext.models import VAE
from disentangle_ext.runs.checkpoint import read_tensors, save_tensors
from disentangle_ext.runs.folder import CODES, MODEL, RunFolder

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
        """The codes of ``rows`` in their order, or None where one of them is not here."""
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
    not_kept: Callable[[WriteError], object] | None = None,
) -> Codes:
    """Read the posteriors of the images ``rows`` from the run folder, or encode them and keep them there.

    A file of another model, or of other images, is replaced.

    Args:
        folder: the run folder.
        model: its model, in eval mode.
        data: its data set.
        rows: [n], which images.
        progress: called with the number of images done and their total, where there is something to encode.
        not_kept: called with the error where the run folder cannot be written; the next call encodes again.

    Raises:
        WriteError: if the run folder cannot be written, unless ``not_kept`` is given.
    """
    owner = hashlib.sha256((folder.path / MODEL).read_bytes()).hexdigest()
    kept = _read(folder, owner, len(data))
    chosen = None if kept is None else kept.choose(rows)
    if chosen is not None:
        return chosen
    mu, logvar = encode_rows(model, data, rows, progress=progress)
    factors = data.factors(rows) if data.factor_names else torch.empty(len(rows), 0, dtype=torch.int64)
    codes = Codes(rows, mu.cpu(), logvar.cpu(), factors.cpu())
    try:
        save_tensors(folder.path / CODES, codes._asdict(), {"model": owner, "images": len(data)})
    except WriteError as error:
        if not_kept is None:
            raise
        not_kept(error)
    return codes


def _read(folder: RunFolder, owner: str, images: int) -> Codes | None:
    try:
        tensors, header = read_tensors(folder.path / CODES)
        return Codes(**tensors) if header == {"model": owner, "images": images} else None
    except (FileNotFoundError, ValueError, TypeError):  # what is damaged is encoded anew
        return None


SCORED = 10_000
"""How many images a score is computed from, at most."""


# Images encoded at once. The activations of more are so large that malloc takes them from the system and gives them
# back every time: with 1,024 images of 64 x 64 a CPU spends half its time on that.
_CHUNK = 64


class Posterior(NamedTuple):
    """What a model makes of the images that a score is computed from."""

    rows: Tensor
    """Which images [n]."""
    mu: Tensor
    """Posterior means [n, D]."""
    kl: Tensor
    """Mean KL of each latent in nats [D]."""


@torch.no_grad()
def encode_rows(
    model: VAE, data: GroundTruthData, rows: Tensor, *, progress: Callable[[int, int], object] | None = None
) -> tuple[Tensor, Tensor]:
    """Compute posterior means and log-variances [n, D] of the images ``rows``, a chunk at a time, in host memory.

    Args:
        model: the encoder.
        data: where the images come from.
        rows: which images.
        progress: called with the number of images done and their total.
    """
    parts: list[tuple[Tensor, Tensor]] = []
    done = 0
    for chunk in rows.split(_CHUNK):
        mu, logvar = model.encode(data.batch(chunk))
        parts.append((mu.cpu(), logvar.cpu()))
        done += len(chunk)
        if progress is not None:
            progress(done, len(rows))
    return torch.cat([mu for mu, _ in parts]), torch.cat([logvar for _, logvar in parts])


def scored_rows(size: int, seed: int, count: int = SCORED) -> Tensor:
    """Choose the rows of a data set to score: all of them, or ``count`` distinct ones of a large one."""
    if size <= count:
        return torch.arange(size)
    generator = torch.Generator().manual_seed(mix(seed, size))
    return torch.randperm(size, generator=generator)[:count]


def encode_scored(model: VAE, data: GroundTruthData, seed: int) -> Posterior:
    """Encode the images that a score is computed from."""
    rows = scored_rows(len(data), seed)
    mu, logvar = encode_rows(model, data, rows)
    _, per_latent = ops.rsample_kl(mu, logvar, per_dimension=True, key=torch.zeros(2, dtype=torch.int64))
    return Posterior(rows, mu, per_latent.mean(0))
