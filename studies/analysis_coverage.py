"""How often the intervals of study.analysis hold what they should, and how long it takes: docs/study/analysis.md.

``python -m studies.analysis_coverage`` measures all, which takes a few minutes of a core.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import pages
from bench.rows import ABSENT, Row, append, commit, machine, markdown, read
from disentangle_ext.study import analysis

PAGE = "docs/study/analysis.md"
COVERAGE = Path(__file__).parent / "results" / "analysis_coverage.csv"
SPEED = Path(__file__).parent / "results" / "analysis_speed.csv"
COVERAGE_IDENTITY = ("analysis", "case", "size")
COVERAGE_COLUMNS = (*COVERAGE_IDENTITY, "repetitions", "truth", "mean", "deviation", "holds", "width", "commit")
SPEED_IDENTITY = ("analysis", "runs", "metrics")
SPEED_COLUMNS = (*SPEED_IDENTITY, "rows", "seconds", "machine", "commit")

REPETITIONS = 400
OBJECTIVES, VALUES = 3, 4

Scores = dict[str, np.ndarray]
"""By metric: [data sets, objectives, values, seeds]."""

Draw = Callable[[np.random.Generator, int, int], Scores]
"""Takes a generator, the number of tables and their size."""


@dataclass(frozen=True)
class Case:
    """Tables of which the truth is known.

    Attributes:
        sizes: models for rank_correlations, seeds for the others.
        draw: as many tables, each on a data set of its own, of a size.
        truth: computes what the interval should hold.
    """

    sizes: tuple[int, ...]
    draw: Draw
    truth: Callable[[], float]


def long_table(scores: Scores) -> Mapping[str, np.ndarray]:
    shape = next(iter(scores.values())).shape
    places = [index.ravel() for index in np.indices(shape)]
    names = ("data_set", "objective", "value", "seed")
    columns = {name: np.tile(place, len(scores)) for name, place in zip(names, places)}
    metric = np.repeat(np.array(list(scores), dtype=object), math.prod(shape))
    return {**columns, "metric": metric, "score": np.concatenate([each.ravel() for each in scores.values()])}


def two_metrics(rho: float, levels: float = math.inf) -> Draw:
    """Normal scores with a correlation, as models of one setting; rounded to steps of 1 / ``levels``."""

    def draw(rng: np.random.Generator, tables: int, size: int) -> Scores:
        x, z = rng.normal(size=(2, tables, 1, 1, size))
        y = rho * x + math.sqrt(1 - rho**2) * z
        return {"x": x, "y": y} if math.isinf(levels) else {"x": np.round(levels * x), "y": np.round(levels * y)}

    return draw


def settings_with_seeds(*, fixed: bool) -> Draw:
    """Two metrics that share the effects of settings and nothing else; these are fixed, or drawn for each table."""

    def draw(rng: np.random.Generator, tables: int, size: int) -> Scores:
        shape = (tables, OBJECTIVES, VALUES, size // (OBJECTIVES * VALUES))
        means = np.linspace(-1.6, 1.6, OBJECTIVES * VALUES).reshape(1, OBJECTIVES, VALUES, 1)
        effect = means if fixed else rng.normal(size=(*shape[:3], 1))
        return {"x": effect + rng.normal(size=shape), "y": effect + rng.normal(size=shape)}

    return draw


def effects(objective: float, value: float, noise: str) -> Draw:
    """Scores of variance 1, of which objective and value explain these shares, and the seed the rest."""

    def draw(rng: np.random.Generator, tables: int, size: int) -> Scores:
        a, b = (np.linspace(-1, 1, count) for count in (OBJECTIVES, VALUES))
        means = math.sqrt(objective) * (a / a.std())[:, None, None] + math.sqrt(value) * (b / b.std())[:, None]
        shape = (tables, OBJECTIVES, VALUES, size)
        drawn = rng.exponential(size=shape) - 1 if noise == "skewed" else rng.normal(size=shape)
        if noise == "unequal":  # from one objective to the next the deviation doubles
            drawn *= np.array([0.5, 1, 2])[:, None, None] / math.sqrt(1.75)
        return {"m": means + math.sqrt(1 - objective - value) * drawn}

    return draw


def skewed(rng: np.random.Generator, tables: int, size: int) -> Scores:
    return {"m": rng.exponential(size=(tables, 1, 1, size))}


def choices(spread: float) -> Draw:
    """Two metrics with the same 12 means, which reach from 0 to ``spread``, and noise of deviation 1."""

    def draw(rng: np.random.Generator, tables: int, size: int) -> Scores:
        means = np.linspace(0, spread, OBJECTIVES * VALUES).reshape(OBJECTIVES, VALUES, 1)
        return {m: means + rng.normal(size=(tables, OBJECTIVES, VALUES, size)) for m in "ab"}

    return draw


@lru_cache
def spearman(draw: Draw, tables: int = 40_000) -> float:
    """The correlation of the population, from the models of many draws together, 12 models or settings of each."""
    rng, models = np.random.default_rng(1), OBJECTIVES * VALUES
    drawn = draw(rng, tables, models)
    table = long_table({m: each.reshape(1, 1, 1, -1) for m, each in drawn.items()})
    found = analysis.rank_correlations(table, rows=["x"], columns=["y"], resamples=0)
    return float(found["correlation"][0].as_py())


@lru_cache
def chance(spread: float, seeds: int = 200_000) -> float:
    """The probability that the choice with one seed beats a random setting with another, from many seeds of each."""
    drawn = choices(spread)(np.random.default_rng(1), 1, seeds)
    a, b = (each.reshape(OBJECTIVES * VALUES, -1) for each in drawn.values())
    wins = np.array([((b < one).sum(0) + 0.5).mean() for one in b]) / len(b)
    return float(np.bincount(a.argmax(0), minlength=len(a)) @ wins / a.shape[1])


def normal_spearman(rho: float) -> float:
    return 6 / math.pi * math.asin(rho / 2)


def shares(objective: float, value: float) -> dict[str, float]:
    return {
        "objective": objective,
        "objective and hyperparameter": objective + value,
        "seed": 1 - objective - value,
    }


_MODELS, _SEEDS = (36, 300), (3, 5, 10, 50)
_VARIANCES = {
    "36 %, 25 %, normal": (0.36, 0.25, "normal"),
    "9 %, 9 %, normal": (0.09, 0.09, "normal"),
    "0 %, 0 %, normal": (0.0, 0.0, "normal"),
    "81 %, 16 %, normal": (0.81, 0.16, "normal"),
    "36 %, 25 %, unequal": (0.36, 0.25, "unequal"),
    "36 %, 25 %, skewed": (0.36, 0.25, "skewed"),
    "81 %, 16 %, skewed": (0.81, 0.16, "skewed"),
}
CASES: dict[tuple[str, str], Case] = {
    **{
        ("rank_correlations", f"normal, ρ = {rho:g}"): Case(_MODELS, two_metrics(rho), partial(normal_spearman, rho))
        for rho in (0.0, 0.5, 0.9)
    },
    **{
        ("rank_correlations", name): Case(_MODELS, draw, partial(spearman, draw))
        for name, draw in {
            "rounded to about 5 values, ρ = 0.5": two_metrics(0.5, 1),
            "12 settings, always the same": settings_with_seeds(fixed=True),
            "12 settings, others in each study": settings_with_seeds(fixed=False),
        }.items()
    },
    ("by_hyperparameter", "exponential"): Case((*_SEEDS, 300), skewed, partial(math.log, 2)),
    **{
        ("variance_explained", f"{source}: {name}"): Case(
            _SEEDS, effects(*sizes), partial(shares(*sizes[:2]).__getitem__, source)
        )
        for name, sizes in _VARIANCES.items()
        for source in ("objective", "seed")
    },
    **{
        ("model_selection", f"settings {spread:g} deviations apart"): Case(
            _SEEDS, choices(spread), partial(chance, spread)
        )
        for spread in (0.0, 2.0, 6.0)
    },
}


def estimates(name: str, case: str, scores: Scores) -> np.ndarray:
    """[3, tables]: the estimate, and both ends of its interval."""
    if name == "model_selection":
        tables = len(scores["a"])
        each = [long_table({m: array[i : i + 1] for m, array in scores.items()}) for i in range(tables)]
        rows = [analysis.model_selection(table).to_pylist()[1] for table in each]  # chosen by a, judged by b
        return np.array([[row[column] for row in rows] for column in ("probability", "low", "high")])
    table = long_table(scores)
    if name == "rank_correlations":
        found, column = analysis.rank_correlations(table, rows=["x"], columns=["y"]), "correlation"
    elif name == "by_hyperparameter":
        found, column = analysis.by_hyperparameter(table), "median"
    else:
        found, column = analysis.variance_explained(table), "unbiased"
        source = found["source"].to_numpy(zero_copy_only=False)
        found = found.filter(source == case.partition(":")[0])
    return np.stack([found[each].to_numpy() for each in (column, "low", "high")])


def measure(name: str, case: str, size: int, repetitions: int = REPETITIONS) -> Row:
    truth = CASES[name, case].truth()
    rng = np.random.default_rng([list(CASES).index((name, case)), size])
    scores = CASES[name, case].draw(rng, repetitions, size)
    value, low, high = estimates(name, case, scores)
    values = {
        "analysis": name,
        "case": case,
        "size": size,
        "repetitions": repetitions,
        "truth": f"{truth:.4f}",
        "mean": f"{value.mean():.4f}",
        "deviation": f"{value.std(ddof=1):.5f}",
        "holds": f"{np.mean((low <= truth) & (truth <= high)):.4f}",
        "width": f"{(high - low).mean() / (2 * 1.96 * value.std(ddof=1)):.4f}",
        "commit": commit(),
    }
    return {column: str(values[column]) for column in COVERAGE_COLUMNS}


def study_of(models: int, metrics: int) -> Scores:
    """A study like the one of 12,600 models: 7 data sets, 6 objectives, 6 values, and seeds to make up the number."""
    rng, seeds = np.random.default_rng(0), models // (7 * 6 * 6)
    shape = (7, 6, 6, seeds)
    effect = rng.normal(size=(*shape[:3], 1))
    return {f"metric{i:02d}": rng.normal() * effect + rng.normal(size=shape) for i in range(metrics)}


ANALYSES: dict[str, Callable[[Any], Any]] = {
    "rank_correlations": analysis.rank_correlations,
    "distributions": analysis.distributions,
    "by_hyperparameter": analysis.by_hyperparameter,
    "variance_explained": analysis.variance_explained,
    "model_selection": analysis.model_selection,
    "model_selection_summary": analysis.model_selection_summary,
    "exemplars": partial(analysis.exemplars, metric="metric00"),
}


def measure_speed(models: int = 12_600, metrics: int = 20) -> list[Row]:
    """Seconds of a core that each analysis takes, reading among them, the least of three."""
    table, rows = long_table(study_of(models, metrics)), []
    for name, function in ANALYSES.items():
        seconds = []
        for _ in range(3):
            start = time.process_time()
            found = function(table)
            seconds.append(time.process_time() - start)
        cells = (name, models, metrics, found.num_rows, f"{min(seconds):.2f}", machine(), commit())
        rows.append({column: str(cell) for column, cell in zip(SPEED_COLUMNS, cells)})
    return rows


def coverage_table(rows: Sequence[Row]) -> str:
    """A line for each case, its sizes side by side."""
    if not rows:
        return ABSENT
    found = {(row["analysis"], row["case"], int(row["size"])): row for row in rows}
    lines = []
    for (name, case), each in CASES.items():
        cells = [found[name, case, size] for size in each.sizes if (name, case, size) in found]
        if cells:
            lines.append(
                [
                    f"`{name}`",
                    case,
                    ", ".join(f"{int(cell['size']):,}" for cell in cells),
                    f"{float(cells[0]['truth']):.2f}",
                    ", ".join(f"{round(float(cell['mean']), 2) + 0:.2f}" for cell in cells),
                    ", ".join(f"{100 * float(cell['holds']):.0f}" for cell in cells),
                    ", ".join(f"{float(cell['width']):.2f}" for cell in cells),
                ]
            )
    header = ("analysis", "case", "models or seeds", "truth", "mean estimate", "holds the truth, %", "width")
    return "\n".join(markdown(header, lines)) + "\n"


def speed_table(rows: Sequence[Row]) -> str:
    if not rows:
        return ABSENT
    header = ("analysis", "rows of the result", "seconds")
    lines = [[f"`{row['analysis']}`", f"{int(row['rows']):,}", row["seconds"]] for row in rows]
    total = sum(float(row["seconds"]) for row in rows)
    return "\n".join(markdown(header, [*lines, ["all", "", f"{total:.2f}"]])) + "\n"


def tables() -> dict[str, str]:
    """The tables of the page, by the names in its markers."""
    return {"analysis-coverage": coverage_table(read(COVERAGE)), "analysis-speed": speed_table(read(SPEED))}


def main() -> None:
    append(measure_speed(), SPEED, SPEED_COLUMNS, SPEED_IDENTITY)
    for (name, case), each in CASES.items():
        for size in each.sizes:
            row = measure(name, case, size)
            append([row], COVERAGE, COVERAGE_COLUMNS, COVERAGE_IDENTITY)
            print(" ".join(row.values()), flush=True)
    pages.write(PAGE, tables())


if __name__ == "__main__":
    main()
