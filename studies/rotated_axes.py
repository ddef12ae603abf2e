"""``python -m studies.rotated_axes``: a seed of beta-TCVAE along the factors, and one that settles on other axes.

Both are scored, and the first also with two of its latents turned in their plane: rows of
studies/results/rotated_axes.csv, from which a table of docs/models.md is written, and the picture there. The runs are
those of studies/model_table.py, with one more seed; a run whose folder is gone is trained again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench import pages
from bench.rows import ABSENT, Row, append, markdown, read
from disentangle_ext import ops
from disentangle_ext.metrics import dci, exact_elbo, mig
from disentangle_ext.models import VAE
from disentangle_ext.models.vae import TRAVERSAL
from disentangle_ext.objectives.likelihood import negative_log_likelihood
from disentangle_ext.report.grid import DPI, LABEL, TITLE, Grid, new_figure, number, pixels_of, to_bytes
from disentangle_ext.report.run import read_run
from disentangle_ext.report.subject import Subject, middle_row
from disentangle_ext.runs.codes import encode_rows
from disentangle_ext.runs.folder import RunFolder
from studies import model_table
from studies.seed_runs import RUNS, Run, measure

PAGE = "docs/models.md"
RESULTS = model_table.RESULTS.with_name("rotated_axes.csv")
PICTURE = pages.ROOT / "docs" / "images" / "rotated_axes.png"
MODEL = "beta_tcvae"
SCORES = ("mig", "disentanglement", "completeness", "informativeness")
TERMS = ("reconstruction", "kl", "total_correlation", "objective")
COLUMNS = ("seed", "latents", "degrees", *SCORES, *TERMS)
SEEDS = (16, 7)
"""The best of the table, and the one of 0 to 9 whose MIG is below .3."""
USED = 0.1
"""A latent with a smaller mean KL, in nats, holds nothing to look at."""
PLACES = ("position_x", "position_y")
MIXED = ("position_x", "scale")
"""The factors that the second seed mixes."""


class Turn(NamedTuple):
    """A rotation of two latents in their plane."""

    latents: tuple[int, int]
    degrees: int

    def matrix(self, latent_dim: int) -> Tensor:
        """[D, D]; row vectors are turned by its transpose."""
        (a, b), angle = self.latents, math.radians(self.degrees)
        matrix = torch.eye(latent_dim)
        matrix[a, a] = matrix[b, b] = math.cos(angle)
        matrix[b, a] = math.sin(angle)
        matrix[a, b] = -matrix[b, a]
        return matrix


class Encoded(NamedTuple):
    """A model and all images of its data set, with their posteriors."""

    model: VAE
    images: Tensor
    mu: Tensor
    logvar: Tensor
    factors: Tensor
    names: tuple[str, ...]

    @classmethod
    def of(cls, subject: Subject) -> Encoded:
        rows = torch.arange(len(subject.data))
        posteriors = encode_rows(subject.model, subject.data, rows)
        images, factors = subject.data.batch(rows), subject.data.factors(rows)
        return cls(subject.model, images, *posteriors, factors, tuple(subject.data.factor_names))

    def turned(self, turn: Turn) -> tuple[Tensor, Tensor]:
        """Means and log-variances [N, D] after a turn; of the turned covariance the diagonal alone is kept."""
        matrix = turn.matrix(self.mu.shape[1])
        return self.mu @ matrix.T, (self.logvar.exp() @ matrix.square().T).log()


def plane_of(encoded: Encoded, factors: Sequence[str]) -> tuple[int, int]:
    """The two latents that know most about some factors together, the most knowing first."""
    known = mig(encoded.mu, encoded.factors).mutual_information[:, [encoded.names.index(name) for name in factors]]
    first, second = (int(latent) for latent in np.argsort(-known.sum(1), kind="stable")[:2])
    return first, second


@torch.no_grad()
def evaluate(encoded: Encoded, turn: Turn, beta: float) -> dict[str, float]:
    """Scores of the turned codes, and the terms of beta-TCVAE in nats when the decoder turns them back."""
    mu, logvar = encoded.turned(turn)
    z, kl = ops.rsample_kl(mu, logvar, key=torch.zeros(2, dtype=torch.int64))
    logits = encoded.model.decoder(z @ turn.matrix(mu.shape[1]))
    reconstruction = float(negative_log_likelihood(logits, encoded.images, likelihood="bernoulli").mean())
    total_correlation = exact_elbo(mu, logvar).score
    parts = dci(mu, encoded.factors, predictor="forest", shuffle=True)
    return {
        "mig": mig(mu, encoded.factors).score,
        "disentanglement": parts.score,
        "completeness": parts.completeness,
        "informativeness": parts.informativeness_test,
        "reconstruction": reconstruction,
        "kl": float(kl.mean()),
        "total_correlation": total_correlation,
        "objective": reconstruction + float(kl.mean()) + (beta - 1) * total_correlation,
    }


def subject(seed: int) -> Subject:
    run, runs = Run(MODEL, model_table.DATA, seed), RUNS / "model_table"
    if not RunFolder(run.folder(runs)).is_done:
        measure(run, runs, model_table.score)
    return read_run(run.folder(runs))


def used(one: Subject) -> list[int]:
    """The latents that hold something, the most used first."""
    return [latent for latent in one.order if float(one.use[latent]) >= USED]


def measure_turn(seed: int, one: Subject, turn: Turn) -> Row:
    """The row of a model whose codes are turned."""
    beta = float(Run(MODEL, model_table.DATA, seed).recipe()["beta"])
    values = {name: f"{value:.4f}" for name, value in evaluate(Encoded.of(one), turn, beta).items()}
    latents = " ".join(f"z{latent}" for latent in turn.latents)
    return {"seed": str(seed), "latents": latents, "degrees": str(turn.degrees), **values}


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    if not rows:
        return ABSENT
    header = ["seed", "turned", "MIG", "DCI disentanglement", "completeness", "informativeness"]
    header += ["reconstruction", "KL", "total correlation", "objective"]
    lines = []
    for row in rows:
        turned = f"{row['latents'].replace(' ', ' and ')} by {row['degrees']}°" if int(row["degrees"]) else "no"
        scores = [f"{float(row[name]):.2f}" for name in SCORES]
        lines.append([row["seed"], turned, *scores, *(f"{float(row[name]):.1f}" for name in TERMS[:2])])
        lines[-1] += [f"{float(row['total_correlation']):.2f}", f"{float(row['objective']):.1f}"]
    return "\n".join(markdown(header, lines)) + "\n"


def tables() -> dict[str, str]:
    """The tables of the page, by the names in its markers."""
    return {"rotated-axes": table(read(RESULTS))}


def traversals(one: Subject, title: str, count: int) -> np.ndarray:
    """What the decoder draws while one latent alone moves, for the ``count`` most used: pixels [height, width, 3]."""
    values = torch.linspace(*TRAVERSAL)
    drawn = one.traverse(one.data.batch(middle_row(one.data)), values)[:count, 0]
    rows = list(to_bytes(drawn, "rotated_axes: rows", "[D, n, C, H, W]"))
    heads = [number(value) for value in values]
    return Grid(rows, one.labels[:count], title, "Each row moves one latent", heads=heads, target=96).render()


def planes(one: Subject, width: int) -> np.ndarray:
    """The codes of all images in the plane of two latents, coloured by each mixed factor: [height, width, 3]."""
    encoded = Encoded.of(one)
    a, b = plane_of(encoded, MIXED)
    figure = new_figure(figsize=((width + 0.01) / DPI, 2.4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(MIXED)), MIXED, strict=True):
        classes = encoded.factors[:, encoded.names.index(name)]
        points = axes.scatter(encoded.mu[:, a], encoded.mu[:, b], c=classes, s=1.5, linewidths=0)
        axes.set_title(f"Codes by {name}", TITLE | {"size": 8.0})
        axes.set_xlabel(f"z{a}", LABEL)
        axes.set_ylabel(f"z{b}", LABEL)
        axes.tick_params(labelsize=6)
        axes.set_aspect("equal")
        figure.colorbar(points, ax=axes, shrink=0.8).ax.tick_params(labelsize=6)
    return pixels_of(figure)


def save_picture(path: Path, subjects: Sequence[Subject], titles: Sequence[str]) -> None:
    """Models side by side, in 64 shades: half the size of a picture with all."""
    count = max(len(used(each)) for each in subjects)
    tops = [traversals(each, title, count) for each, title in zip(subjects, titles, strict=True)]
    halves = [np.vstack([top, planes(each, top.shape[1])]) for each, top in zip(subjects, tops, strict=True)]
    picture = Image.fromarray(np.hstack(halves))
    picture.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    good, other = subjects = [subject(seed) for seed in SEEDS]
    plain = Turn(plane_of(Encoded.of(good), PLACES), 0)
    rows = [measure_turn(SEEDS[0], good, turn) for turn in (plain, plain._replace(degrees=45))]
    rows.append(measure_turn(SEEDS[1], other, plain))
    RESULTS.unlink(missing_ok=True)
    append(rows, RESULTS, COLUMNS, COLUMNS[:3])
    titles = [f"Seed {row['seed']}: MIG {float(row['mig']):.2f}" for row in (rows[0], rows[-1])]
    save_picture(PICTURE, subjects, titles)
    pages.write(PAGE, tables())
    print(table(rows))


if __name__ == "__main__":
    main()
