"""Models an hour: what is measured, and the table of it."""

from __future__ import annotations

import pytest

from bench import bench_stack
from bench.bench_stack import NETWORKS, configurations, measure, table
from bench.rows import Row
from disentangle_ext.training.plan import check_alike


@pytest.mark.parametrize("network", NETWORKS)
def test_the_runs_make_a_stack(network: str) -> None:
    configs = configurations(network, 3)
    check_alike(configs)
    assert [config.seed for config in configs] == [0, 1, 2]
    assert len({config.objective_options["beta"] for config in configs}) == 3
    assert {config.batch_size for config in configs} == {64}


def test_rows_and_table() -> None:
    rows = measure("mlp, width 32", (1, 2), "cpu", 0.1)
    assert [row["models"] for row in rows] == ["1", "2"]
    assert rows[0]["alone_per_hour"] == rows[1]["alone_per_hour"]
    for row in rows:
        ratio = float(row["stacked_per_hour"]) / float(row["alone_per_hour"])
        assert float(row["speedup"]) == pytest.approx(ratio, rel=0.01)
        assert float(row["q20"]) <= float(row["stacked_per_hour"]) <= float(row["q80"])
    text = table(rows)
    assert f"| 2 | {rows[1]['alone_per_hour']} | {rows[1]['stacked_per_hour']} | {rows[1]['speedup']}x |" in text


def test_a_rate_is_models_by_time() -> None:
    row: Row = bench_stack.row("mlp, width 32", "1 x 32 x 32", 4, "cpu", [0.2] * 5, [0.1] * 5)
    assert (row["alone_per_hour"], row["stacked_per_hour"], row["speedup"]) == ("3.6", "7.2", "2")
