"""What a trained model leaves in its run folder: pictures and scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from disentangle_ext import ops
from disentangle_ext.data import GroundTruthData
from disentangle_ext.models import VAE
from disentangle_ext.models.vae import TRAVERSAL
from disentangle_ext.training.randomness import mix
from disentangle_ext.training.run_folder import RECONSTRUCTIONS, SCORES, TRAVERSALS, RunFolder

SCORED = 10_000
"""Images that a score is computed from, or all of a smaller data set."""

# Images encoded at once. The activations of more are so large that malloc takes them from the system and gives them
# back every time: with 1,024 images of 64 x 64 a CPU spends half its time on that.
_CHUNK = 64
_PICTURED = 10


class Scores(NamedTuple):
    """What scores.json says in short."""

    mig: float | None
    """None for a data set without factors."""
    points: int
    kl: list[float]
    """Mean KL of each latent, in nats."""


@torch.no_grad()
def encode_rows(
    model: VAE, data: GroundTruthData, rows: Tensor, *, progress: Callable[[int, int], object] | None = None
) -> tuple[Tensor, Tensor]:
    """Posterior means and log-variances [n, D] of the images ``rows``, a chunk at a time.

    Args:
        model: the encoder.
        data: where the images come from.
        rows: which images.
        progress: called with the number of images done and their total.
    """
    parts: list[tuple[Tensor, Tensor]] = []
    done = 0
    for chunk in rows.split(_CHUNK):
        parts.append(model.encode(data.batch(chunk)))
        done += len(chunk)
        if progress is not None:
            progress(done, len(rows))
    return torch.cat([mu for mu, _ in parts]), torch.cat([logvar for _, logvar in parts])


def scored_rows(size: int, seed: int, count: int = SCORED) -> Tensor:
    """All rows of a data set, or ``count`` distinct ones of a large one."""
    if size <= count:
        return torch.arange(size)
    generator = torch.Generator().manual_seed(mix(seed, size))
    return torch.randperm(size, generator=generator)[:count]


def finish(model: VAE, data: GroundTruthData, folder: RunFolder, *, seed: int) -> Scores:
    """Write the pictures and the scores of a model in eval mode.

    Args:
        model: the trained model.
        data: what it was trained on.
        folder: where to write.
        seed: chooses the images of a large data set.
    """
    rows = scored_rows(len(data), seed)
    mu, logvar = encode_rows(model, data, rows)
    _, per_latent = ops.rsample_kl(mu, logvar, per_dimension=True, key=torch.zeros(2, dtype=torch.int64))
    kl = per_latent.mean(0)
    scores = {"points": len(rows), "kl_per_latent": kl.tolist(), **_mig(mu, data, rows)}
    folder.write_json(SCORES, scores)
    _reconstructions(model, data, folder, seed)
    _traversals(model, data, folder, kl)
    return Scores(scores.get("mig", {}).get("score"), len(rows), kl.tolist())


def _mig(mu: Tensor, data: GroundTruthData, rows: Tensor) -> dict[str, Any]:
    if not data.factor_names:
        return {}
    from disentangle_ext.metrics import mig

    return {"mig": mig(mu, data.factors(rows), factor_names=data.factor_names).as_dict()}


def _reconstructions(model: VAE, data: GroundTruthData, folder: RunFolder, seed: int) -> None:
    from disentangle_ext.report.pictures import save_reconstructions

    generator = torch.Generator().manual_seed(mix(seed, len(data)))
    images = data.batch(torch.randperm(len(data), generator=generator)[:_PICTURED])
    with torch.no_grad():
        pixels = model.decode(model.encode(images)[0])
    save_reconstructions(folder.path / RECONSTRUCTIONS, images, pixels)


def _traversals(model: VAE, data: GroundTruthData, folder: RunFolder, kl: Tensor) -> None:
    from disentangle_ext.report.pictures import save_traversals

    values = torch.linspace(*TRAVERSAL)
    order = kl.argsort(descending=True).tolist()
    images = data.batch(_middle(data))
    rows = torch.cat([model.traverse(images, dim, values=values) for dim in order])
    labels = [f"z{dim}  KL {kl[dim]:.2f} nats" for dim in order]
    save_traversals(folder.path / TRAVERSALS, rows, labels, values.tolist())


def _middle(data: GroundTruthData) -> Tensor:
    """The row with every factor at its middle class: a traversal from there has room on both sides."""
    if not data.factor_names:
        return torch.tensor([len(data) // 2])
    try:
        return data.index(torch.tensor([[size // 2 for size in data.factor_sizes]]))
    except ValueError:  # rows of a user's own that form no full grid
        return torch.tensor([len(data) // 2])
