"""Tables of studies that nobody trained, with run folders that hold a configuration and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from PIL import Image

METRICS = (
    *("beta_vae_score", "factor_vae_score", "mig", "dci_fast", "sap", "modularity", "explicitness", "irs", "mig_sup"),
    *("dcimig", "jemmig", "rmig", "infomec", "dci_es", "downstream"),
    *("gaussian_total_correlation", "wasserstein_correlation", "mutual_information_score", "active_units"),
    *("elbo", "reconstruction", "kl"),
)
OBJECTIVES = ("annealed_vae", "beta_tcvae", "beta_vae", "dip_vae_i", "dip_vae_ii", "factor_vae")
SIGNS = {"kl": -1.0, "reconstruction": -1.0, "modularity": 0.0}


def make_study(
    folder: Path,
    *,
    objectives: Sequence[str] = OBJECTIVES[:3],
    values: Sequence[str] = ("1", "4", "8", "16"),
    seeds: int = 3,
    data_sets: Sequence[str] = ("dsprites_like",),
    metrics: Sequence[str] = METRICS,
    picture: Path | None = None,
) -> tuple[pyarrow.Table, pyarrow.Table]:
    """The tables of runs and of records; ``picture`` is copied to each run as its traversals."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    records: dict[str, list[Any]] = {"run": [], "metric": [], "part": [], "value": []}
    signs = np.array([SIGNS.get(metric, 1.0) for metric in metrics])
    for data_set in data_sets:
        for i, objective in enumerate(objectives):
            for j, value in enumerate(values):
                for seed in range(seeds):
                    name = f"{data_set}-{objective}-{value}-{seed}".replace("/", "_")
                    path = folder / "runs" / name
                    about = {"data_set": data_set, "objective": objective, "hyperparameter": "beta", "value": value}
                    rows.append({"run": name, "path": str(path), **about, "seed": seed, "state": "done"})
                    quality = 0.25 + 0.05 * i + 0.08 * np.sin(j) + rng.normal(scale=0.06)
                    noise = rng.normal(scale=0.04, size=len(metrics))
                    scores = np.where(signs == 0, 0.8, 0.5 + signs * (quality - 0.5)) + noise
                    parts = [(metric, "score", score) for metric, score in zip(metrics, scores)]
                    if "downstream" in metrics:
                        parts += [(f"downstream_{labels}", "score", 0.4 + quality) for labels in (10, 100, 1000)]
                    for key, column in zip(("metric", "part", "value"), zip(*parts)):
                        records[key] += column
                    records["run"] += [name] * len(parts)
                    if picture is not None:
                        path.mkdir(parents=True)
                        (path / "traversals.png").write_bytes(picture.read_bytes())
                        (path / "config.yaml").write_text("max_steps: 2500\nbatch_size: 64\nlr: 0.001\nlatent_dim: 6\n")
    return pyarrow.Table.from_pylist(rows), pyarrow.table(records)


def draw_picture(path: Path) -> Path:
    """A picture as large as a run's traversals, and as hard to compress."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:593, :1652]
    waves = sum(np.sin(rows / rng.uniform(5, 40) + columns / rng.uniform(5, 40)) for _ in range(6))
    Image.fromarray((128 + 20 * np.asarray(waves)).clip(0, 255).astype(np.uint8)).save(path)
    return path
