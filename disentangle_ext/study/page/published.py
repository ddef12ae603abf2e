"""What the large study published, beside what this one has, and in what the two differ.

The numbers of others are from Locatello et al., "Challenging Common Assumptions in the Unsupervised Learning of
Disentangled Representations", ICML 2019 (arXiv 1811.12359), and from papers that used the same metrics.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from disentangle_ext._extras import require
from disentangle_ext.study.page.numbers import fixed, interval_text, is_number, rows_of
from disentangle_ext.study.page.roles import Roles

__all__ = ["comparison", "differences"]

_SHARES = {"objective": "37 %", "objective and hyperparameter": "59 %"}
_TRANSFER = {("same", "same"): "80.7 %", ("same", "different"): "59.3 %", ("different", "different"): "54.9 %"}
_PAIRS = (("beta_vae_score", "factor_vae_score"), ("mig", "dci"), ("mig", "dci_fast"))

# (data set, objective, metric): a median or mean, as printed; sources vary widely.
_SCORES = {
    ("dsprites", "beta_tcvae", "mig"): 0.20,
    ("dsprites", "beta_tcvae", "mig_aggregate"): 0.50,
    ("dsprites", "vae", "factor_vae_score"): 0.65,
    ("dsprites", "beta_tcvae", "factor_vae_score"): 0.76,
    ("shapes3d", "beta_tcvae", "factor_vae_score"): 0.873,
    ("shapes3d", "beta_tcvae", "dci"): 0.613,
    ("shapes3d", "beta_tcvae", "mig"): 0.40,
    ("shapes3d", "factor_vae", "factor_vae_score"): 0.840,
    ("shapes3d", "factor_vae", "dci"): 0.611,
    ("cars3d", "factor_vae", "factor_vae_score"): 0.906,
    ("cars3d", "factor_vae", "dci"): 0.161,
    ("cars3d", "beta_tcvae", "factor_vae_score"): 0.855,
    ("cars3d", "beta_tcvae", "dci"): 0.140,
    ("mpi3d", "factor_vae", "factor_vae_score"): 0.152,
    ("mpi3d", "factor_vae", "dci"): 0.240,
    ("mpi3d", "beta_tcvae", "factor_vae_score"): 0.179,
    ("mpi3d", "beta_tcvae", "dci"): 0.237,
}

_RECIPE = {
    "max_steps": ("steps", "300,000"),
    "batch_size": ("batch size", "64"),
    "latent_dim": ("latents", "10"),
    "lr": ("learning rate", "0.0001"),
    "network": ("network", "conv"),
    "data_variant": ("variant of the data", "default"),
}


def comparison(roles: Roles, correlations: Any, shares: Any, transfer: Any, spread: Any) -> list[dict[str, str]]:
    """Rows "finding", "published", "here", of which the last says "–" where this study has no such number."""
    rows = [_share(source, published, shares, roles) for source, published in _SHARES.items()]
    found = {(row["metric"], row["data_set"]): row for row in rows_of(transfer)} if transfer is not None else {}
    for (metric, data_set), published in _TRANSFER.items():
        words = f"a chosen setting beats a random one, {metric} metric, {data_set} data set"
        rows.append({"finding": words, "published": published, "here": _percent(found.get((metric, data_set)))})
    return [*rows, *_pairs(correlations), *_modularity(correlations, roles), *_scores(spread)]


def _share(source: str, published: str, shares: Any, roles: Roles) -> dict[str, str]:
    words = f"share of the variance of scores by {source}, mean over metrics and data sets"
    chosen = [row for row in rows_of(shares) if row["source"] == source and row["metric"] in roles.metrics]
    share, unbiased = (_mean(row[name] for row in chosen) for name in ("share", "unbiased"))
    here = f"{share:.0%}" if share is not None else "–"
    if unbiased is not None:
        here += f"; without the bias of few seeds {unbiased:.0%}"
    return {"finding": words, "published": published, "here": here.replace("%", " %")}


def _percent(row: dict[str, Any] | None) -> str:
    if row is None or not is_number(row["probability"]):
        return "–"
    interval = f" ({row['low']:.0%} to {row['high']:.0%})" if is_number(row["low"]) else ""
    return f"{row['probability']:.1%}{interval}".replace("%", " %")


def _pairs(correlations: Any) -> list[dict[str, str]]:
    rows = []
    for a, b in _PAIRS:
        for row in rows_of(correlations):
            if (row["metric_a"], row["metric_b"]) == (a, b) and is_number(row["correlation"]):
                here = f"{fixed(row['correlation'])} ({interval_text(row['low'], row['high'])})"
                words = f"rank correlation of {a} and {b} on {row['data_set']}"
                rows.append({"finding": words, "published": "among the strongest", "here": here})
    return rows


def _modularity(correlations: Any, roles: Roles) -> list[dict[str, str]]:
    others = [row for row in rows_of(correlations) if row["metric_a"] != row["metric_b"]]
    alone = _mean(row["correlation"] for row in others if row["metric_a"] == "modularity")
    rest = _mean(row["correlation"] for row in others if "modularity" not in (row["metric_a"], row["metric_b"]))
    if alone is None or rest is None:
        return []
    words = "mean rank correlation of modularity with the other metrics, and of these with each other"
    return [{"finding": words, "published": "all but modularity correlate", "here": f"{fixed(alone)}, {fixed(rest)}"}]


def _scores(spread: Any) -> list[dict[str, str]]:
    rows = []
    for row in rows_of(spread):
        published = _SCORES.get((row["data_set"], row["objective"], row["metric"]))
        if published is not None and is_number(row["median"]):
            words = f"{row['metric']} of {row['objective']} on {row['data_set']}"
            quartiles = interval_text(row["q25"], row["q75"])
            here = f"{fixed(row['median'])} ({quartiles}), median and quartiles of {row['n']:,} runs"
            rows.append({"finding": words, "published": f"{published:.3g}", "here": here})
    return rows


def _mean(values: Iterable[float]) -> float | None:
    known = [value for value in values if is_number(value)]
    return float(np.mean(known)) if known else None


def differences(runs: Any, paths: dict[str, Path]) -> list[dict[str, str]]:
    """Rows "what", "published", "here": sizes from the table of runs, the recipe from a run of each objective."""
    columns = {name: runs.column(name).to_pylist() for name in ("data_set", "objective", "value", "seed", "run")}
    per_objective: dict[str, set[str]] = {}
    for objective, value in zip(columns["objective"], columns["value"]):
        per_objective.setdefault(objective, set()).add(value)
    counts = sorted({len(values) for values in per_objective.values()})
    rows = [
        ("models", "12,600", f"{runs.num_rows:,}"),
        ("data sets", "7", _listed(columns["data_set"])),
        ("objectives", "6", _listed(columns["objective"])),
        (
            "values of the hyperparameter",
            "6 each",
            " to ".join(str(each) for each in counts[:: max(1, len(counts) - 1)]),
        ),
        ("seeds", "50", str(len(set(columns["seed"])))),
    ]
    chosen: dict[tuple[str, str], str] = {}
    for data_set, objective, run in zip(columns["data_set"], columns["objective"], columns["run"]):
        chosen.setdefault((data_set, objective), run)
    configurations = [_configuration(paths[run]) for run in chosen.values()]
    for key, (words, published) in _RECIPE.items():
        here = sorted({_plain(each[key]) for each in configurations if each.get(key) is not None})
        rows.append((words, published, ", ".join(here) or "unknown"))
    return [dict(zip(("what", "published", "here"), row)) for row in rows]


def _listed(names: list[str]) -> str:
    known = sorted(set(names))
    return f"{len(known)}: {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}"


def _configuration(run: Path) -> dict[str, Any]:
    """What config.yaml says; nothing where it cannot be read."""
    yaml = require("yaml", extra="train", what="study report")
    try:
        content = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
