"""The table of DC-IGN: from scores to rows to lines, and what its rows are of."""

from __future__ import annotations

from typing import Any

import pytest

from bench.rows import read
from studies import dcign_faces


def scores_of(held_out: bool = True) -> dict[str, Any]:
    names = ("identity", *dcign_faces.FACTORS)
    return {
        "correlation": {
            "held_out": held_out,
            "correlations": dict(zip(names, (None, 0.9, 0.8, 0.7), strict=True)),
            "latents": dict(zip(names, (-1, 0, 1, 2), strict=True)),
            "matrix": [[0.1, 0.9, 0.2, 0.3], [0.1, 0.4, 0.8, 0.2], [0.3, 0.1, 0.2, 0.7], [0.2, 0.1, 0.85, 0.1]],
        }
    }


def test_measures_are_those_of_held_out_heads() -> None:
    row = dcign_faces.score(scores_of())
    assert row == {
        **{"azimuth": "0.9000", "elevation": "0.8000", "light": "0.7000"},
        **{"azimuth_other": "0.4000", "elevation_other": "0.8500", "light_other": "0.3000"},
    }
    row |= {"steps": "9", "torch": "2", "cpu_seconds": "0"}
    rows = [{**row, "seed": str(k), "azimuth": azimuth} for k, azimuth in enumerate("010")]
    lines = dcign_faces.table(rows).splitlines()
    assert lines[2] == "| 0 | 0.00 | 0.80 | 0.70 | 0.40, 0.85, 0.30 | 0 |"
    assert lines[5].startswith("| median | 0.00 |")
    with pytest.raises(SystemExit, match="was not scored on held-out identities"):
        dcign_faces.score(scores_of(held_out=False))


def test_what_was_measured() -> None:
    rows = read(dcign_faces.RESULTS)
    wanted = [run.identity() for run in dcign_faces.wanted_runs()]
    assert [(row["seed"], row["recipe"]) for row in rows] == [(one["seed"], one["recipe"]) for one in wanted]
    assert min(dcign_faces.medians(rows)[name] for name in dcign_faces.FACTORS) > 0.6
    assert max(float(row["cpu_seconds"]) for row in rows) <= 1200
