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
from disentangle_ext.objectives import AnnealedVAE, GroupObjective, Objective
from disentangle_ext.report import Subject, draw
from disentangle_ext.training.config import TrainConfig
from disentangle_ext.training.randomness import mix
from disentangle_ext.training.run_folder import SCORES, RunFolder

SCORED = 10_000
"""Images that a score is computed from, or all of a smaller data set."""

# Images encoded at once. The activations of more are so large that malloc takes them from the system and gives them
# back every time: with 1,024 images of 64 x 64 a CPU spends half its time on that.
_CHUNK = 64

class Scores(NamedTuple):
    """What scores.json says in short, and what became of the pictures."""

    mig: float | None
    """None for a data set without factors."""
    points: int
    kl: list[float]
    """Mean KL of each latent, in nats."""
    own: str | None
    """How well the latents that belong to a factor follow it, in words; None where none do."""
    not_drawn: dict[str, str]
    """Pictures that could not be drawn, and why."""


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
    """Posterior means and log-variances [n, D] of the images ``rows``, a chunk at a time, in host memory.

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
    """All rows of a data set, or ``count`` distinct ones of a large one."""
    if size <= count:
        return torch.arange(size)
    generator = torch.Generator().manual_seed(mix(seed, size))
    return torch.randperm(size, generator=generator)[:count]


def encode_scored(model: VAE, data: GroundTruthData, seed: int) -> Posterior:
    """The images that a score is computed from, encoded."""
    rows = scored_rows(len(data), seed)
    mu, logvar = encode_rows(model, data, rows)
    _, per_latent = ops.rsample_kl(mu, logvar, per_dimension=True, key=torch.zeros(2, dtype=torch.int64))
    return Posterior(rows, mu, per_latent.mean(0))


def finish(
    model: VAE, data: GroundTruthData, objective: Objective, folder: RunFolder, config: TrainConfig
) -> Scores:
    """Write the scores and the pictures of a model in eval mode.

    Args:
        model: the trained model.
        data: what it was trained on.
        objective: what it was trained with.
        folder: where to write.
        config: of the run; its seed chooses the images of a large data set.
    """
    posterior = encode_scored(model, data, config.seed)
    scores = {
        "points": len(posterior.rows),
        "kl_per_latent": posterior.kl.tolist(),
        **_mig(posterior.mu, data, posterior.rows),
        **_correlation(model, data, objective, config.seed),
    }
    folder.write_json(SCORES, scores)
    not_drawn = draw(subject_of(model, data, objective, posterior, folder, config), folder.path)
    own = _in_words(scores["correlation"]) if "correlation" in scores else None
    return Scores(scores.get("mig", {}).get("score"), len(posterior.rows), posterior.kl.tolist(), own, not_drawn)


def subject_of(
    model: VAE,
    data: GroundTruthData,
    objective: Objective,
    posterior: Posterior,
    folder: RunFolder,
    config: TrainConfig,
    *,
    limit: float = TRAVERSAL[1],
) -> Subject:
    """What the pictures of a finished run are drawn of; latents move from -limit to limit."""
    return Subject(
        model,
        data,
        f"{config.model} on {data.name}, step {config.max_steps:,}, seed {config.seed}",
        use=posterior.mu.var(0, correction=0) if objective.deterministic else posterior.kl,
        points=len(posterior.rows),
        deterministic=objective.deterministic,
        seed=config.seed,
        metrics=folder.read_metrics(),
        capacity=objective.capacity if isinstance(objective, AnnealedVAE) else None,
        limit=limit,
        own=objective.latents if isinstance(objective, GroupObjective) else {},
    )


def _mig(mu: Tensor, data: GroundTruthData, rows: Tensor) -> dict[str, Any]:
    if not data.factor_names:
        return {}
    from disentangle_ext.metrics import mig

    return {"mig": mig(mu, data.factors(rows).cpu(), factor_names=data.factor_names).as_dict()}


def _correlation(model: VAE, data: GroundTruthData, objective: Objective, seed: int) -> dict[str, Any]:
    """How the latents that belong to a factor follow it, on images that training has not seen where there are such."""
    if not isinstance(objective, GroupObjective):
        return {}
    from disentangle_ext.metrics import correlation

    held_out = data.held_out()
    scored = held_out or data
    rows = scored_rows(len(scored), seed)
    mu, _ = encode_rows(model, scored, rows)
    result = correlation(
        mu,
        scored.factors(rows).cpu(),
        latents=objective.latents,
        periods=scored.periods,
        factor_names=scored.factor_names,
    )
    return {"correlation": {"data": scored.name, "held_out": held_out is not None, **result.as_dict()}}


def _in_words(correlation: dict[str, Any]) -> str:
    own = [
        f"{name} {value:.3f} (z{correlation['latents'][name]})"
        for name, value in correlation["correlations"].items()
        if value is not None
    ]
    return f"Correlation on {correlation['data']}: {', '.join(own)}"
