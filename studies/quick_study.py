"""``python -m studies.quick_study STUDY OTHER...``: docs/study/quick.md from a finished study of the grid "quick".

Each OTHER is the same study computed in another way, after which its folder is named: with workers that were killed, or
by another engine. The page says how many of its scores are the same numbers.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import pages
from disentangle_ext.study.analysis import Scores
from disentangle_ext.study.page import write_page
from disentangle_ext.study.page.published import comparison, differences
from disentangle_ext.study.page.sections import Study
from disentangle_ext.study.records import collect, long_table

PAGE = "docs/study/quick.md"
FIGURES = ("correlations", "hyperparameters", "variance")
_SECONDS = "seconds"


def main(folders: Sequence[str]) -> None:
    """Write the page and its figures."""
    first, *others = map(Path, folders)
    collected = collect([first], first)
    runs, records = collected.runs, collected.records
    report = first / "report"
    write_page(report, runs, records, title="quick")
    for name in FIGURES:
        shutil.copyfile(report / "figures" / f"{name}.png", pages.ROOT / "docs" / "images" / f"study_{name}.png")
    long = long_table(runs, records)
    paths = {run: Path(path) for run, path in zip(*(runs.column(name).to_pylist() for name in ("run", "path")))}
    study = Study(Scores.read(long, "quick_study"), paths, report)
    held = comparison(study.roles, study.correlations, study.shares, study.transfer, study.spread)
    pages.write(
        PAGE,
        {
            "study-published": markdown(("finding", "published", "here"), held),
            "study-differences": markdown(("what", "published", "here"), differences(runs, paths)),
            "study-again": "".join(f"- {same(first, other)}\n" for other in others),
        },
    )


def same(first: Path, other: Path) -> str:
    """How many scores of two studies are the same numbers."""
    one, two = (numbers(folder) for folder in (first, other))
    shared = one.keys() & two.keys()
    equal = sum(one[key] == two[key] for key in shared)
    runs = len({run for run, _, _ in shared})
    return (
        f"{other.name.replace('_', ' ')}: {runs} runs, {equal:,} of {len(shared):,} scores and parts are the same bits"
    )


def numbers(folder: Path) -> dict[tuple[str, str, str], float]:
    """All scores of a study and their parts, but for the seconds that they took."""
    table: Any = collect([folder], folder).records
    rows = zip(*(table.column(name).to_pylist() for name in ("run", "metric", "part", "value")))
    return {(run, metric, part): value for run, metric, part, value in rows if part != _SECONDS}


def markdown(columns: Sequence[str], rows: Sequence[dict[str, str]]) -> str:
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*head, *(f"| {' | '.join(row[name] for name in columns)} |" for row in rows)]) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
