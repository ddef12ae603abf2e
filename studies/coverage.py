"""How often the interval of a score holds what it should: docs/metrics/foundation.md.

``python -m studies.coverage`` measures every case, which takes some minutes of a core; with names, those cases.
A row is written when it is measured.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import pages
from bench.rows import ABSENT, Row, append, commit, markdown, read
from disentangle_ext import metrics
from disentangle_ext.metrics import MetricResult

PAGE = "docs/metrics/foundation.md"
RESULTS = Path(__file__).parent / "results" / "coverage.csv"
COLUMNS = (
    "metric",
    "points",
    "level",
    "repetitions",
    "halves",
    "population",
    "expected",
    "deviation",
    "covers_population",
    "covers_expected",
    "width",
    "commit",
)
IDENTITY = ("metric", "points", "level")

CLASSES = (3, 5, 4)
POPULATION = 100_000
LEVELS = {"disentangled": 0.1, "between": 0.5, "entangled": 0.9}
"""The share of the other factors in each latent."""

# Each latent's factors, where none is its own; the last latent has no factor of its own at any level.
_OTHERS = np.array([[0.0, 0.6, 0.3], [0.5, 0.0, 0.7], [0.4, 0.2, 0.0], [0.3, 0.5, 0.4]])
_NOISE = 0.3


@dataclass(frozen=True, eq=False)
class Table:
    """Points, or all of the population.

    Attributes:
        codes: [N, D], a mix of the factors, and noise.
        factors: [N, K], classes.
    """

    codes: np.ndarray
    factors: np.ndarray

    def first(self, points: int) -> Table:
        return Table(self.codes[:points], self.factors[:points])

    def draw(self, points: int, rng: np.random.Generator) -> Table:
        rows = rng.choice(len(self.codes), points, replace=False)
        return Table(self.codes[rows], self.factors[rows])


Score = Callable[..., MetricResult]


@dataclass(frozen=True)
class Case:
    """A metric with an interval.

    Attributes:
        score: takes a table, and ``bootstrap`` and ``seed``.
        repetitions: how many tables are drawn at each level, by their number of points.
        halves: the argument ``bootstrap``.
        population: points of the population, from the first; fewer where a score of all takes long.
        bounded: whether the noise is uniform and not normal, so that the farthest codes are no farther in more points.
        grid: whether the points are all combinations of two cyclic factors, drawn with new noise: they are no part of a
            population, so the score of one is left out.
    """

    score: Score
    repetitions: Mapping[int, int]
    halves: int = 20
    population: int = POPULATION
    bounded: bool = False
    grid: bool = False


def of_factors(metric: Score, **options: Any) -> Score:
    return lambda table, **given: metric(table.codes, table.factors, **options, **given)


def of_codes(metric: Score) -> Score:
    return lambda table, **given: metric(table.codes, **given)


def _posteriors(table: Table, **given: Any) -> MetricResult:
    logvar = np.full(table.codes.shape, 2 * np.log(_NOISE))
    return metrics.mig(table.codes, table.factors, protocol="aggregate", logvar=logvar, **given)


def _models(table: Table, **given: Any) -> MetricResult:
    """Three models: the codes, a rotation of them, and bent ones."""
    codes = table.codes
    turned = codes @ np.linalg.qr(np.eye(4) + np.triu(np.ones((4, 4)), 1) / 2)[0]
    return metrics.udr([codes, turned, np.tanh(codes)], **given)


_MANY, _FEW = {800: 200, 10_000: 40}, {800: 50, 10_000: 20}

CASES = {
    **{
        metric.__name__: Case(of_factors(metric), _MANY)
        for metric in (metrics.mig, metrics.mig_sup, metrics.dcimig, metrics.jemmig, metrics.modularity)
    },
    "mig_sup_bounded": Case(of_factors(metrics.mig_sup), _MANY, bounded=True),
    "jemmig_bounded": Case(of_factors(metrics.jemmig), _MANY, bounded=True),
    "rmig": Case(of_factors(metrics.rmig), {800: 50}, halves=10),
    "mig_aggregate": Case(_posteriors, {800: 100, 5000: 10}, population=20_000),
    "correlation": Case(of_factors(metrics.correlation), _MANY),
    "sap": Case(of_factors(metrics.sap), _FEW, halves=10),
    "sap_continuous": Case(of_factors(metrics.sap, continuous=True), _MANY),
    "explicitness": Case(of_factors(metrics.explicitness), _FEW, halves=10),
    "infomec": Case(of_factors(metrics.infomec), {800: 50}, halves=10),
    "dci_lasso": Case(of_factors(metrics.dci, predictor="lasso"), {800: 30}, halves=10),
    "dci_fast": Case(of_factors(metrics.dci, predictor="fast"), {800: 10}, halves=10, population=20_000),
    "dci_es": Case(of_factors(metrics.dci_es, features=(0, 16, 64)), _MANY),
    "downstream": Case(of_factors(metrics.downstream, train_sizes=(500,)), _MANY),
    "factor_vae_score": Case(
        of_factors(metrics.factor_vae_score, num_train=2000, num_test=1000), {800: 50, 10_000: 30}
    ),
    "beta_vae_score": Case(of_factors(metrics.beta_vae_score, num_train=500, num_test=300), {800: 50, 10_000: 30}),
    "udr": Case(_models, {800: 50}),
    **{
        metric.__name__: Case(of_codes(metric), _MANY)
        for metric in (
            metrics.gaussian_total_correlation,
            metrics.wasserstein_correlation,
            metrics.mutual_information_score,
        )
    },
    **{
        metric.__name__: Case(of_factors(metric), {784: 100, 10_000: 20}, grid=True)
        for metric in (metrics.linear_symmetry, metrics.independence)
    },
}

_populations: dict[tuple[str, bool], Table] = {}


def population(level: str, *, bounded: bool = False) -> Table:
    """All points of a level, always the same."""
    if (level, bounded) not in _populations:
        rng, share = np.random.default_rng(0), LEVELS[level]
        factors = np.stack([rng.integers(0, size, POPULATION) for size in CLASSES], 1)
        own = np.vstack([np.eye(len(CLASSES)), np.zeros(len(CLASSES))])
        mixed = (factors - factors.mean(0)) / factors.std(0) @ ((1 - share) * own + share * _OTHERS).T
        noise = rng.uniform(-math.sqrt(3), math.sqrt(3), mixed.shape) if bounded else rng.normal(size=mixed.shape)
        _populations[level, bounded] = Table(mixed + _NOISE * noise, factors)
    return _populations[level, bounded]


def torus(points: int, level: str, rng: np.random.Generator) -> Table:
    """The (cos, sin) codes of all combinations of two factors on circles, mixed as far as the level says, and noise."""
    side = math.isqrt(points)
    factors = np.stack(np.divmod(np.arange(side * side), side), 1)
    angles = 2 * np.pi * factors / side
    codes = np.hstack([np.cos(angles), np.sin(angles)])
    mixed = codes + LEVELS[level] * codes.prod(1, keepdims=True) * np.array([1.0, -1.0, 0.5, 1.0])
    # Steps are short on a fine grid: noise in their units.
    return Table(mixed + rng.normal(0, _NOISE * 2 / side, codes.shape), factors)


def measure(name: str, points: int, level: str) -> Row:
    """Tables of ``points`` drawn again and again, each with its interval."""
    case, rng = CASES[name], np.random.default_rng(1)
    repetitions, truth = case.repetitions[points], None
    if case.grid:
        drawn = (torus(points, level, rng) for _ in range(repetitions))
    else:
        whole = population(level, bounded=case.bounded).first(case.population)
        truth = case.score(whole).score
        drawn = (whole.draw(points, rng) for _ in range(repetitions))
    results = [case.score(each, bootstrap=case.halves, seed=i) for i, each in enumerate(drawn)]
    scores = np.array([result.score for result in results])
    ends = np.array([result.interval[:2] for result in results if result.interval])
    deviation = float(scores.std(ddof=1))

    def covers(value: float | None) -> str:
        if value is None:
            return ""
        return f"{np.mean((ends[:, 0] <= value + 1e-12) & (value - 1e-12 <= ends[:, 1])):.4f}"

    width = float((ends[:, 1] - ends[:, 0]).mean()) / (2 * 1.96 * deviation) if deviation > 1e-12 else float("nan")
    values = {
        "metric": name,
        "points": points,
        "level": level,
        "repetitions": repetitions,
        "halves": case.halves,
        "population": "" if truth is None else f"{truth:.6f}",
        "expected": f"{scores.mean():.6f}",
        "deviation": f"{deviation:.6f}",
        "covers_population": covers(truth),
        "covers_expected": covers(float(scores.mean())),
        "width": f"{width:.4f}",
        "commit": commit(),
    }
    return {column: str(value) for column, value in values.items()}


def table(rows: Sequence[Row]) -> str:
    """A line for each metric and number of points, the levels side by side."""
    if not rows:
        return ABSENT
    found = {(row["metric"], int(row["points"]), row["level"]): row for row in rows}
    header = (
        "metric",
        "points",
        "repetitions",
        "holds the population's score, %",
        "holds the expected score, %",
        "length",
    )
    lines = []
    for name, case in CASES.items():
        for points in case.repetitions:
            cells = [found[name, points, level] for level in LEVELS if (name, points, level) in found]
            if not cells:
                continue
            shares = [
                ", ".join(f"{100 * float(cell[column]):.0f}" if cell[column] else "-" for cell in cells)
                for column in ("covers_population", "covers_expected")
            ]
            length = ", ".join("-" if cell["width"] == "nan" else f"{float(cell['width']):.2f}" for cell in cells)
            lines.append([f"`{name}`", f"{points:,}", cells[0]["repetitions"], *shares, length])
    return "\n".join(markdown(header, lines)) + "\n"


def tables() -> dict[str, str]:
    """The tables of the page, by the names in its markers."""
    return {"coverage": table(read(RESULTS))}


def main(names: Sequence[str] = ()) -> None:
    unknown = set(names) - set(CASES)
    if unknown:
        raise SystemExit(f"coverage: no such metric: {', '.join(sorted(unknown))}; known: {', '.join(CASES)}")
    warnings.simplefilter("ignore")  # scikit-learn's, about solvers that stop early
    for name in names or CASES:
        for points in CASES[name].repetitions:
            for level in LEVELS:
                row = measure(name, points, level)
                append([row], RESULTS, COLUMNS, IDENTITY)
                pages.write(PAGE, tables())
                print(" ".join(row.values()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
