"""Our metrics against public codes on stored inputs: ``python tests/metrics/parity.py``, or ``make parity``.

Prints metric, peer, number of values, and the largest difference beside the one that the tests allow.
"""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from disentangle_ext import metrics
from disentangle_ext.metrics.mig import aggregate_information

ORACLES = Path(__file__).parent / "oracles"

# What takes minutes by itself: printed by `make parity`, left out of the tests.
SLOW = ("c01_perfect_dsprites", "c04_linear_mix_d10", "c14_circular", "c20_standard_10k")

# Where codes are many and noisy, splits of trees are so close that the rounding of another machine picks others.
GBT, GBT_SLOW = 1e-6, 1e-3

# One case has float32 codes, which the peers average in float32.
FLOAT32 = 1e-8

Pairs = Iterator[tuple[str, Any, Any]]


class Comparison(NamedTuple):
    metric: str
    peer: str
    tolerance: float
    pairs: Callable[[], Pairs]
    """name of the case, our value, theirs"""


@cache
def read(name: str) -> Any:
    path = ORACLES / name
    if path.suffix == ".json":
        return json.loads(path.read_text())
    with np.load(path) as stored:
        return dict(stored)


def data(case: str) -> tuple[np.ndarray, np.ndarray]:
    arrays = read("mig.npz")
    return arrays[f"{case}__codes"], arrays[f"{case}__factors"]


def classical(key: str, ours: Callable[..., Any], skip: tuple[str, ...] = ()) -> Callable[[], Pairs]:
    """Pairs for a key of ``classical.json``, but for the cases to skip and those where the peer has no value."""

    def pairs() -> Pairs:
        for case, values in read("classical.json")["cases"].items():
            if case not in skip and values.get(key) is not None:
                yield case, ours(*data(case)), values[key]

    return pairs


def mig_pairs() -> Pairs:
    for case, values in read("mig.json")["cases"].items():
        for bins in (20, 10):
            result = metrics.mig(*data(case), num_bins=bins)
            if math.isfinite(values[f"mig_{bins}"]):
                yield f"{case}, {bins} bins", result.score, values[f"mig_{bins}"]
            yield (
                f"{case}, {bins} bins, I",
                result.mutual_information,
                read("mig.npz")[f"{case}__mutual_information_{bins}"],
            )


def aggregate_pairs() -> Pairs:
    arrays = read("aggregate_mig.npz")
    for case, values in read("aggregate_mig.json")["cases"].items():
        sizes = arrays[f"{case}__sizes"].tolist()
        z, mu, logvar = (torch.from_numpy(arrays[f"{case}__{name}"]) for name in ("z", "mu", "logvar"))
        classes = np.stack(np.unravel_index(np.arange(len(mu)), sizes), 1)
        known = aggregate_information(z, torch.arange(len(z)), mu, logvar, classes, sizes).mean(0)
        theirs = np.array(values["marginal_entropies"]) - np.array(values["cond_entropies"])
        yield f"{case}, I", known.T, theirs
        ranked = np.sort(np.maximum(known, 0), axis=0)
        yield case, np.mean((ranked[-1] - ranked[-2]) / np.log(sizes)), values["MIG"]


def modularity_skipping_the_dead() -> Pairs:
    for case, values in read("classical.json")["cases"].items():
        if values["modularity_ubisoft"] is not None:
            yield case, metrics.modularity(*data(case), dead_codes="skip").score, values["modularity_ubisoft"]


def explicitness_pairs() -> Pairs:
    for case, values in read("classical.json")["cases"].items():
        if "explicitness" in values:
            ours = metrics.explicitness(*data(case))
            yield case, ours.score, values["explicitness"]["explicitness_score_test"]
            yield f"{case}, train", ours.train_score, values["explicitness"]["explicitness_score_train"]


def dci_pairs(predictor: str, skip: tuple[str, ...]) -> Callable[[], Pairs]:
    def pairs() -> Pairs:
        for case, values in read("classical.json")["cases"].items():
            if case not in skip and "dci_gbt" in values:
                ours, theirs = metrics.dci(*data(case), predictor=predictor), values["dci_gbt"]
                yield case, ours.score, theirs["disentanglement"]
                yield f"{case}, completeness", ours.completeness, theirs["completeness"]
                yield f"{case}, test", ours.informativeness_test, theirs["informativeness_test"]

    return pairs


def sampled_pairs(key: str, ours: Callable[..., Any], skip: tuple[str, ...] = ()) -> Callable[[], Pairs]:
    def pairs() -> Pairs:
        stored = read("sampled.json")
        for name, values in stored["results"].items():
            if name in skip:
                continue
            codes = read("sampled.npz")[name]
            sizes = stored["sizes"][name[:2]]
            factors = np.stack(np.unravel_index(np.arange(len(codes)), sizes), 1)
            yield name, ours(codes, factors, num_train=2000, num_test=1000).score, values[key]["eval_accuracy"]["mean"]

    return pairs


def comparisons(skip: tuple[str, ...] = ()) -> list[Comparison]:
    """All of them, without the cases to skip where every value takes long."""
    m, lib, ubisoft = metrics, "disentanglement_lib", "ubisoft"
    return [
        Comparison("mig", lib, 1e-9, mig_pairs),
        Comparison("mig, aggregate", "rtqichen", 1e-5, aggregate_pairs),
        Comparison("modularity", lib, 1e-9, classical("modularity_20", lambda z, v: m.modularity(z, v).score)),
        Comparison(
            "modularity, 10 bins",
            lib,
            1e-9,
            classical("modularity_10", lambda z, v: m.modularity(z, v, num_bins=10).score),
        ),
        Comparison("modularity, dead skipped", ubisoft, 1e-9, modularity_skipping_the_dead),
        Comparison("sap", lib, 1e-3, classical("sap_discrete", lambda z, v: m.sap(z, v).score)),
        Comparison(
            "sap, continuous", lib, 1e-9, classical("sap_continuous", lambda z, v: m.sap(z, v, continuous=True).score)
        ),
        Comparison("irs", lib + " = " + ubisoft, FLOAT32, classical("irs_0.99", lambda z, v: m.irs(z, v).score)),
        Comparison(
            "irs, quantile 1",
            lib + " = " + ubisoft,
            FLOAT32,
            classical("irs_1", lambda z, v: m.irs(z, v, quantile=1).score),
        ),
        Comparison(
            "irs, 20 factor bins",
            lib,
            FLOAT32,
            classical("irs_0.99_bins20", lambda z, v: m.irs(z, v, factor_bins=20).score),
        ),
        Comparison("explicitness", lib, 1e-4, explicitness_pairs),
        Comparison(
            "explicitness, one-vs-rest",
            ubisoft,
            1e-4,
            classical("explicitness_ubisoft", lambda z, v: m.explicitness(z, v, variant="one_vs_rest").score / 2 + 0.5),
        ),
        Comparison("dci, gbt", lib, GBT if skip else GBT_SLOW, dci_pairs("gbt", skip)),
        Comparison("beta_vae_score", lib, 0.03, sampled_pairs("beta_vae", m.beta_vae_score)),
        Comparison("factor_vae_score", lib, 0.03, sampled_pairs("factor_vae_0.06", m.factor_vae_score)),
    ]


def largest(comparison: Comparison) -> tuple[int, float, str]:
    """The number of values, the largest difference, and the case that has it."""
    count, worst, where = 0, 0.0, ""
    for case, ours, theirs in comparison.pairs():
        ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
        count += ours.size
        difference = float(np.abs(ours - theirs).max())
        if not difference <= worst:
            worst, where = difference, case
    return count, worst, where


def main() -> int:
    warnings.simplefilter("ignore")  # scikit-learn's, about solvers that stop early
    failed = 0
    print(f"{'metric':<27} {'peer':<31} {'values':>6} {'largest':>9} {'allowed':>8}  case")
    for comparison in comparisons(() if os.environ.get("PARITY_SLOW") else SLOW):
        count, worst, where = largest(comparison)
        failed += not (worst <= comparison.tolerance and count)
        line = f"{comparison.metric:<27} {comparison.peer:<31} {count:>6} {worst:>9.1e} {comparison.tolerance:>8.0e}"
        print(f"{line}  {where}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
