"""``python -m bench.dcign_faces``: DC-IGN on faces_like over three seeds, and how its latents follow their factors.

Every run is a row of bench/results/dcign_faces.csv as soon as it is finished. Started again, this goes on where it
stopped, in the middle of a run if need be; rows of another recipe, torch or package version are measured anew. At the
end the table of the README and its picture, that of the first seed, are made from the rows and the runs.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from PIL import Image

from bench.harness import RESULTS as FOLDER
from bench.harness import Row
from bench.seed_runs import ROOT, Run, collect, write

RESULTS = FOLDER / "dcign_faces.csv"
PICTURE = ROOT / "docs" / "images" / "dcign_sweeps.png"
SEEDS = range(3)
FACTORS = ("azimuth", "elevation", "light")
LARGEST = tuple(f"{name}_other" for name in FACTORS)
"""For each factor the largest correlation of a latent that is not its own."""
MEASURED = (*FACTORS, *LARGEST, "cpu_seconds")
COLUMNS = ("seed", "steps", *MEASURED, "torch", "disentangle_ext", "recipe")


def run_of(seed: int) -> Run:
    recipe = ("--model", "dcign", "--data", "faces_like", "--quick", "--data-variant", "default", "--seed", str(seed))
    return Run(recipe, ROOT / "runs" / "dcign_faces" / str(seed))


def measure(run: Run) -> Row:
    """Train a model, or go on with it, and read its correlations on held-out identities."""
    run.train()
    result = run.scores["correlation"]
    if not result["held_out"]:
        raise SystemExit(f"dcign_faces: {run.folder} was not scored on held-out identities")
    row = {name: f"{result['correlations'][name]:.4f}" for name in FACTORS}
    for name, label in zip(FACTORS, LARGEST, strict=True):
        k = list(result["correlations"]).index(name)
        column = [line[k] for d, line in enumerate(result["matrix"]) if d != result["latents"][name]]
        row[label] = f"{max(column):.4f}"
    return {**row, "cpu_seconds": f"{run.cpu_seconds:.0f}"}


def medians(rows: list[Row]) -> dict[str, float]:
    return {name: statistics.median(float(row[name]) for row in rows) for name in MEASURED}


def table(rows: list[Row]) -> str:
    """The rows as Markdown: one line for each seed and one for the medians."""
    if not rows:
        return "Not measured yet.\n"
    own = [f"{name}, z{d}" for d, name in enumerate(FACTORS)]
    header = ["seed", *own, "largest of the others, for each", "CPU seconds"]
    lines = []
    for name, some in (*((row["seed"], [row]) for row in rows), ("median", rows)):
        middle = medians(some)
        correlations = [f"{middle[each]:.2f}" for each in FACTORS]
        others = ", ".join(f"{middle[each]:.2f}" for each in LARGEST)
        lines.append([name, *correlations, others, f"{middle['cpu_seconds']:.0f}"])
    text = [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines)]
    steps, versions = (", ".join(sorted({row[column] for row in rows})) for column in ("steps", "torch"))
    return "\n".join([*text, "", f"{steps} steps; torch {versions}."]) + "\n"


def save_picture(sweeps: Path) -> None:
    """In 32 shades, enough for grey heads and black words, and half the size."""
    with Image.open(sweeps) as image:
        image.convert("RGB").quantize(32, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


def main() -> None:
    jobs = [run_of(seed) for seed in SEEDS]
    rows = collect(RESULTS, [run.identity for run in jobs])
    for run in jobs:
        if any(run.identity.items() <= row.items() for row in rows):
            continue
        rows.append({**run.identity, **measure(run)})
        write(RESULTS, COLUMNS, rows)
        print(", ".join(f"{name} {rows[-1][name]}" for name in ("seed", *MEASURED)), flush=True)
    print("median:", ", ".join(f"{name} {value:.2f}" for name, value in medians(rows).items()))
    sweeps = jobs[0].folder / "sweeps.png"
    if sweeps.is_file():  # the runs may have been removed, the rows stay
        save_picture(sweeps)
    from bench.tables import write_pages  # it needs every table's module, this one too

    write_pages()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped: `python -m bench.dcign_faces` goes on from here")
