"""A run folder as the subject of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from disentangle_ext._errors import MistakeError
from disentangle_ext._names import choose
from disentangle_ext.data import GroundTruthData, load_data
from disentangle_ext.engine.build import build_objective
from disentangle_ext.models import VAE
from disentangle_ext.models.vae import TRAVERSAL
from disentangle_ext.objectives import AnnealedVAE, GroupObjective, Objective
from disentangle_ext.report.grid import require_drawing
from disentangle_ext.report.pictures import PICTURES, draw, fitting
from disentangle_ext.report.subject import Subject
from disentangle_ext.runs.codes import Posterior, encode_scored
from disentangle_ext.runs.config import TrainConfig
from disentangle_ext.runs.folder import RunFolder
from disentangle_ext.runs.load import load_run

__all__ = ["draw_run", "read_run", "subject_of"]


def read_run(run: Path, *, limit: float = TRAVERSAL[1]) -> Subject:
    """The subject that a finished run has drawn at its end, from what is in its folder.

    Args:
        run: the folder of a finished run.
        limit: latents move from -limit to limit.

    Raises:
        MistakeError: if there is no such run, it is not finished, its model or configuration is damaged or missing, or
            limit is not positive and finite.
    """
    if not 0 < limit < math.inf:
        raise MistakeError(f"report: range must be greater than 0 and finite, got {limit}")
    model, config = load_run(run, "report")
    data = load_data(config.data, **config.data_options)
    objective = build_objective(config, data)
    posterior = encode_scored(model, data, config.seed)
    return subject_of(model, data, objective, posterior, RunFolder(run), config, limit=limit)


def draw_run(
    run: Path, names: Sequence[str] | None = None, *, limit: float = TRAVERSAL[1]
) -> tuple[list[Path], dict[str, str]]:
    """Draw the pictures of a finished run again, into its folder.

    Args:
        run: the folder.
        names: which of :data:`PICTURES`; default: all that fit.
        limit: latents move from -limit to limit.

    Returns:
        What was written, and why other pictures were not.

    Raises:
        MistakeError: as :func:`read_run`, and for an unknown name.
        MissingExtraError: without the ``report`` extra.
    """
    for name in names or ():
        choose("report: picture", name, PICTURES)
    require_drawing("report")
    subject = read_run(run, limit=limit)
    wanted = list(dict.fromkeys(names or fitting(subject)))
    with torch.no_grad():
        failed = draw(subject, run, wanted)
    return [run / PICTURES[name].file for name in wanted if name not in failed], failed


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
    """Gather what the pictures of a finished run are drawn of; latents move from -limit to limit."""
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
