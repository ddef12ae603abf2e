"""What a perfect code and noise score by each metric: docs/metrics/ceilings.md; ``python -m studies.ceilings``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bench import pages
from bench.rows import ABSENT, Row, append, markdown, read
from disentangle_ext.data import TorusLike
from disentangle_ext.metrics.suite import SUITE, Failure, score_all

PAGE = "docs/metrics/ceilings.md"
RESULTS = Path(__file__).parent / "results" / "ceilings.csv"
ROWS = 3000
FEW = (4, 5, 6)
DSPRITES = (3, 6, 40, 32, 32)
TORUS = 16
# Posteriors far narrower than classes are apart.
LOGVAR = -8.0

CASES = ("few", "dsprites", "noise")
SYMMETRIES = tuple(name for name, entry in SUITE.items() if entry.cyclic)


class Scored(NamedTuple):
    """What is scored."""

    codes: np.ndarray
    factors: np.ndarray
    periods: dict[str, int]


def scored(case: str, *, cyclic: bool = False) -> Scored:
    """A perfect code, one latent for each factor and no noise, or noise; of a torus for the metrics of symmetries."""
    rng = np.random.default_rng(0)
    if cyclic:
        data = TorusLike(factors=2, classes=TORUS)
        rows = torch.arange(len(data))
        factors, codes = data.factors(rows).numpy(), data.exact_code(rows).double().numpy()
        periods = {f"factor_{k}": TORUS for k in range(2)}
    else:
        factors = np.stack([rng.integers(0, size, ROWS) for size in (DSPRITES if case == "dsprites" else FEW)], 1)
        codes, periods = (factors - factors.mean(0)) / factors.std(0), {}
    return Scored(rng.normal(size=codes.shape) if case == "noise" else codes, factors, periods)


def scores(case: str, names: Sequence[str], *, cyclic: bool = False) -> dict[str, float]:
    """Scores of a case by the named metrics of the suite."""
    given = scored(case, cyclic=cyclic)
    logvar = np.full(given.codes.shape, LOGVAR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, about solvers that stop early
        results = score_all(given.codes, given.factors, logvar=logvar, metrics=list(names), periods=given.periods)
    failed = {name: result.reason for name, result in results.items() if isinstance(result, Failure)}
    if failed:
        raise RuntimeError(f"ceilings: {failed}")
    return {name: result.score for name, result in results.items() if not isinstance(result, Failure)}


def measured() -> list[Row]:
    """A row for each metric of the suite; empty where a case is none of its own."""
    rows: dict[str, Row] = {name: {"metric": name, **dict.fromkeys(CASES, "")} for name in SUITE}
    others = [name for name in SUITE if name not in SYMMETRIES]
    for case in CASES:
        found = scores(case, others) | (scores(case, SYMMETRIES, cyclic=True) if case != "dsprites" else {})
        for name, score in found.items():
            rows[name][case] = f"{score:.6f}"
    return list(rows.values())


WHY = {
    "mig": ("20 bins do not tell more classes apart; N rows add (20 - 1)(S - 1) / 2N nats to every information", ""),
    "mig_aggregate": ("drawn factors share (S - 1)(S' - 1) / 2N nats by chance", ""),
    "dci": ("", ""),
    "dci_fast": ("", ""),
    "sap": ("a linear classifier on one latent names the two ends of a line, and little between", ""),
    "modularity": ("", "what noise seems to know is never spread evenly"),
    "explicitness": ("one latent for many classes: lines do not part them", "an AUC of a half is chance"),
    "irs": ("", "a quantile of .99 is below the maximum"),
    "factor_vae_score": ("", "1 / K is chance"),
    "beta_vae_score": ("", "1 / K is chance"),
    "mig_sup": ("as for `mig`", ""),
    "dcimig": ("as for `mig`", ""),
    "jemmig": ("fewer bins than classes", "codes that fill their bins unevenly have less entropy than log 20"),
    "rmig": ("as for `mig`, with 100 bins", ""),
    "infomec": ("by neighbours, no information scatters about 0, and what is below is cut off", "the same"),
    "dci_es": ("", "a probe with many features fits noise, and is worse than a constant on other rows"),
    "downstream": ("one latent for many classes: lines do not part them", "the mean of 1 / S is chance"),
    "gaussian_total_correlation": ("less is better: independent codes have 0", ""),
    "wasserstein_correlation": ("less is better: independent codes have 0", ""),
    "mutual_information_score": ("less is better: independent codes have 0", "N rows add (20 - 1)^2 / 2N nats"),
    "active_units": ("a count: every latent varies", "noise varies, too"),
    "linear_symmetry": ("", ""),
    "independence": ("", "directions of noise are not orthogonal, the less so in few dimensions"),
    "lsbd": ("", "one of the frequencies is the largest; less on a larger grid"),
}
"""What keeps a perfect code from 1, and noise from 0; N rows, K factors, S classes."""


def table(rows: Sequence[Row]) -> str:
    if not rows:
        return ABSENT

    def shown(value: str) -> str:
        return f"{float(value):.2f}" if value else ""

    header = ("metric", "perfect, few classes", "perfect, dSprites' classes", "why", "noise", "why")
    lines = []
    for row in rows:
        high, low = WHY[row["metric"]]
        few, dsprites, noise = (shown(row[case]) for case in CASES)
        lines.append([f"`{row['metric']}`", few, dsprites, high, noise, low])
    return "\n".join(markdown(header, lines)) + "\n"


def tables() -> dict[str, str]:
    """The tables of the page, by the names in its markers."""
    return {"ceilings": table(read(RESULTS))}


def main() -> None:
    rows = measured()
    append(rows, RESULTS, ("metric", *CASES), ("metric",))
    pages.write(PAGE, tables())
    print(table(rows))


if __name__ == "__main__":
    main()
