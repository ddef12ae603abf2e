"""``make model-table``: the MIG of the unsupervised objectives on the quick form of ``dsprites_like``.

Three seeds each, ten of beta-TCVAE and FactorVAE, none of which a recipe was chosen on: rows of
studies/results/model_table.csv, from which the table of docs/models.md is written.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench import pages
from bench.rows import ABSENT, Row, markdown, read
from disentangle_ext.engine.device import keep_freed_memory
from studies.seed_runs import RUNS, Run, measure_all

PAGE = "docs/models.md"
RESULTS = Path(__file__).parent / "results" / "model_table.csv"
DATA = "dsprites_like"
SEEDS = range(10, 13)
MORE_SEEDS = {"beta_tcvae": range(10, 20), "factor_vae": range(10, 20)}
"""Seeds of the models whose seeds differ more than others do."""
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("beta_vae", {"beta": 1.0}),
    ("beta_vae", {}),
    ("annealed_vae", {}),
    ("factor_vae", {}),
    ("beta_tcvae", {}),
    ("info_vae", {}),
    ("dip_vae_i", {}),
    ("dip_vae_ii", {}),
)
"""Models, and what differs from --quick: a beta-VAE with beta 1 is the VAE that the others have to beat."""
MEASURED = ("mig",)


def score(scores: Mapping[str, Any]) -> Row:
    return {"mig": f"{scores['mig']['score']:.4f}"}


def wanted_runs() -> list[Run]:
    seeds = sorted({*SEEDS}.union(*MORE_SEEDS.values()))
    return [
        Run(model, DATA, seed, changes)
        for seed in seeds
        for model, changes in VARIANTS
        if seed in MORE_SEEDS.get(model, SEEDS)
    ]


def table(rows: list[Row]) -> str:
    """The rows as Markdown: a line for each model and its settings; quartiles are those of five seeds or more."""
    if not rows:
        return ABSENT
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["settings"]), []).append(row)
    header = ("`--model`", "settings", "seeds", "MIG, median", "quartiles", "range", "CPU seconds")
    lines = []
    for (model, settings), own in groups.items():
        scores = [float(row["mig"]) for row in own]
        low, middle, high = np.quantile(scores, (0.25, 0.5, 0.75))
        quartiles = f"{low:.2f} to {high:.2f}" if len(scores) >= 5 else ""
        extremes = f"{min(scores):.2f} to {max(scores):.2f}"
        seconds = statistics.median(float(row["cpu_seconds"]) for row in own)
        seeds = _span(int(row["seed"]) for row in own)
        lines.append((f"`{model}`", settings, seeds, f"{middle:.2f}", quartiles, extremes, f"{seconds:.0f}"))
    where = sorted({f"{row['machine']}, torch {row['torch']}, {row['commit']}" for row in rows})
    return "\n".join([*markdown(header, lines), "", f"CPU seconds are medians; {'; '.join(where)}."]) + "\n"


def _span(seeds: Iterable[int]) -> str:
    """``10 to 12``, or each seed where one is left out."""
    known = sorted(seeds)
    gapless = len(known) > 1 and known == list(range(known[0], known[-1] + 1))
    return f"{known[0]} to {known[-1]}" if gapless else ", ".join(map(str, known))


def tables() -> dict[str, str]:
    """The tables of the page, by the names in its markers."""
    return {"models": table(read(RESULTS))}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m studies.model_table", description=__doc__)
    parser.add_argument("--table-only", action="store_true", help="write the table, measure nothing")
    if not parser.parse_args().table_only:
        keep_freed_memory()
        measure_all(wanted_runs(), RESULTS, RUNS / "model_table", MEASURED, score)
    pages.write(PAGE, tables())
    print(table(read(RESULTS)))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped: `make model-table` goes on from here")
