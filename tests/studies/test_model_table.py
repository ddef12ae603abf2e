"""The table of models: from rows to lines, and what its rows are of."""

from __future__ import annotations

import statistics
from collections import Counter

from bench.rows import read
from disentangle_ext.objectives import OBJECTIVES
from studies import model_table
from studies.model_table import MEASURED, table
from studies.seed_runs import IDENTITY, columns

VERSIONS = ("torch", "disentangle_ext")


def test_the_table_has_a_line_for_each_model_with_median_and_range() -> None:
    row = {**dict.fromkeys(columns(MEASURED), "0"), "machine": "a CPU", "torch": "2.13", "commit": "1234abc"}
    row |= {"model": "beta_vae", "settings": "beta 1"}
    rows = [
        {**row, "seed": str(seed), "mig": mig, "cpu_seconds": s}
        for seed, mig, s in ((2, "0.5", "30"), (1, "0.12", "50"), (10, "0.1", "40"))
    ]
    lines = table([*rows, {**rows[0], "settings": "beta 8", "mig": "0.7"}]).splitlines()
    assert lines[2] == "| `beta_vae` | beta 1 | 1, 2, 10 | 0.12 |  | 0.10 to 0.50 | 40 |"
    assert lines[3] == "| `beta_vae` | beta 8 | 2 | 0.70 |  | 0.70 to 0.70 | 30 |"
    assert lines[-1] == "CPU seconds are medians; a CPU, torch 2.13, 1234abc."
    assert table([]) == "Not measured yet.\n"
    many = [{**row, "seed": str(seed), "mig": f"{seed / 100}"} for seed in (14, 13, 12, 11, 10)]
    assert table(many).splitlines()[2] == "| `beta_vae` | beta 1 | 10 to 14 | 0.12 | 0.11 to 0.13 | 0.10 to 0.14 | 0 |"


def test_what_was_measured() -> None:
    rows = read(model_table.RESULTS)
    seeds = Counter(row["model"] for row in rows if row["settings"] != "beta 1")
    assert seeds == {**dict.fromkeys(seeds, 3), "beta_tcvae": 10, "factor_vae": 10}
    assert min(int(row["seed"]) for row in rows) == 10, "on smaller ones recipes were chosen"
    identities = [{name: row[name] for name in IDENTITY if name not in VERSIONS} for row in rows]
    wanted = [run.identity() for run in model_table.wanted_runs()]
    assert identities == [{name: one[name] for name in IDENTITY if name not in VERSIONS} for one in wanted]
    assert {row["model"] for row in rows} == {model for model, _ in model_table.VARIANTS} <= set(OBJECTIVES)
    assert max(float(row["cpu_seconds"]) for row in rows) <= 240
    middle = {
        name: statistics.median(float(row["mig"]) for row in rows if (row["model"], row["settings"]) == name)
        for name in (("beta_vae", "beta 1"), ("beta_tcvae", "beta 15"))
    }
    assert middle["beta_tcvae", "beta 15"] >= max(0.4, middle["beta_vae", "beta 1"] + 0.15)
