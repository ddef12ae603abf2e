"""``python -m studies.dcign_faces``: DC-IGN on faces_like over three seeds, and how its latents follow their factors.

Rows of studies/results/dcign_faces.csv, from which the table of the README is written; its picture is that of the first
seed's run.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from bench import pages
from bench.rows import ABSENT, Row, markdown, read
from disentangle_ext.engine.device import keep_freed_memory
from studies.seed_runs import RUNS, Run, measure_all

PAGE = "README.md"
RESULTS = Path(__file__).parent / "results" / "dcign_faces.csv"
PICTURE = pages.ROOT / "docs" / "images" / "dcign_sweeps.png"
SEEDS = range(3)
FACTORS = ("azimuth", "elevation", "light")
LARGEST = tuple(f"{name}_other" for name in FACTORS)
"""Columns for the largest correlation of each factor with a latent that is not its own."""
MEASURED = (*FACTORS, *LARGEST)


def wanted_runs() -> list[Run]:
    return [Run("dcign", "faces_like", seed, {"data_variant": "default"}) for seed in SEEDS]


def score(scores: Mapping[str, Any]) -> Row:
    """The correlations on held-out identities."""
    result = scores["correlation"]
    if not result["held_out"]:
        raise SystemExit("dcign_faces: the run was not scored on held-out identities")
    row = {name: f"{result['correlations'][name]:.4f}" for name in FACTORS}
    for name, label in zip(FACTORS, LARGEST, strict=True):
        k = list(result["correlations"]).index(name)
        column = [line[k] for d, line in enumerate(result["matrix"]) if d != result["latents"][name]]
        row[label] = f"{max(column):.4f}"
    return row


def medians(rows: list[Row]) -> dict[str, float]:
    return {name: statistics.median(float(row[name]) for row in rows) for name in (*MEASURED, "cpu_seconds")}


def table(rows: list[Row]) -> str:
    """The rows as Markdown: one line for each seed and one for the medians."""
    if not rows:
        return ABSENT
    own = [f"{name}, z{d}" for d, name in enumerate(FACTORS)]
    header = ["seed", *own, "largest of the others, for each", "CPU seconds"]
    lines = []
    for name, some in (*((row["seed"], [row]) for row in rows), ("median", rows)):
        middle = medians(some)
        correlations = [f"{middle[each]:.2f}" for each in FACTORS]
        others = ", ".join(f"{middle[each]:.2f}" for each in LARGEST)
        lines.append([name, *correlations, others, f"{middle['cpu_seconds']:.0f}"])
    steps, versions = (", ".join(sorted({row[column] for row in rows})) for column in ("steps", "torch"))
    return "\n".join([*markdown(header, lines), "", f"{steps} steps; torch {versions}."]) + "\n"


def save_picture(sweeps: Path) -> None:
    """Save the picture of the page in 32 shades, enough for grey heads and black words, and half the size."""
    with Image.open(sweeps) as image:
        image.convert("RGB").quantize(32, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


def tables() -> dict[str, str]:
    """The tables of the page, by the names in its markers."""
    return {"dcign-faces": table(read(RESULTS))}


def main() -> None:
    runs = RUNS / "dcign_faces"
    keep_freed_memory()
    rows = measure_all(wanted_runs(), RESULTS, runs, MEASURED, score)
    print("median:", ", ".join(f"{name} {value:.2f}" for name, value in medians(rows).items()))
    sweeps = wanted_runs()[0].folder(runs) / "sweeps.png"
    if sweeps.is_file():  # the runs may have been removed, the rows stay
        save_picture(sweeps)
    pages.write(PAGE, tables())


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped: `python -m studies.dcign_faces` goes on from here")
