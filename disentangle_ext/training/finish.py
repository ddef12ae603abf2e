"""What a trained model leaves in its run folder: weights, scores and pictures."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from disentangle_ext.data import GroundTruthData
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.models import VAE
from disentangle_ext.objectives import GroupObjective, Objective
from disentangle_ext.report import draw
from disentangle_ext.report.run import subject_of
from disentangle_ext.runs.checkpoint import save_tensors
from disentangle_ext.runs.codes import encode_rows, encode_scored, scored_rows
from disentangle_ext.runs.folder import MODEL, SCORES
from disentangle_ext.training.interrupt import Interrupt
from disentangle_ext.training.plan import Job


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


def finish(job: Job, trainer: Trainer, interrupt: Interrupt) -> Scores:
    """Write weights, scores and pictures of a run whose last step is done, and mark it as done.

    Model and data stay on the device that they were trained on.

    Raises:
        Interrupted: for a signal that has come.
    """
    interrupt.check()
    config, folder = job
    model, data, objective = trainer.model.eval(), trainer.data, trainer.objective
    save_tensors(folder.path / MODEL, model.state_dict(), {"vae": model.architecture})
    posterior = encode_scored(model, data, config.seed)
    scores = {
        "points": len(posterior.rows),
        "kl_per_latent": posterior.kl.tolist(),
        **_mig(posterior.mu, data, posterior.rows),
        **_correlation(model, data, objective, config.seed),
    }
    folder.write_json(SCORES, scores)
    not_drawn = draw(subject_of(model, data, objective, posterior, folder, config), folder.path)
    interrupt.check()
    folder.finish()
    own = _in_words(scores["correlation"]) if "correlation" in scores else None
    return Scores(scores.get("mig", {}).get("score"), len(posterior.rows), posterior.kl.tolist(), own, not_drawn)


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
