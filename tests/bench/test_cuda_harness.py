"""What is measured on a GPU, tried on the CPU."""

from __future__ import annotations

from dataclasses import replace

import torch

from bench import cuda_harness, harness, rates
from bench.cuda_harness import GRAPHED
from bench.harness import BOTH, OURS, PLAIN
from bench.rows import append, read

RATES = rates.Rates(bytes=3e12, exponentials=4e12, multiply_adds=3e13, launch_seconds=2e-6)


def test_large_inputs_take_turns():
    megabyte = torch.empty(1 << 18)
    assert cuda_harness.input_sets((megabyte,), cache=50 << 20) == 1
    assert cuda_harness.input_sets((megabyte,) * 20, cache=50 << 20) == 6
    assert cuda_harness.input_sets((megabyte,) * 200, cache=50 << 20) == 2
    assert cuda_harness.count_sets((megabyte,) * 200) == 1  # of a CPU


def test_every_set_of_inputs_has_its_turn(eager, mmd):
    sets, upstream = harness.all_inputs(mmd, lambda inputs: 3)
    ready = cuda_harness.steps(mmd, sets, upstream)
    values = {float(step()[0].detach()) for step in ready[OURS]}
    assert len(values) == 3


def test_rows_have_every_column_and_replace_older_ones(mmd, tmp_path):
    case = replace(mmd, work=rates.Work(bytes=3e9))
    where = dict.fromkeys(("gpu", "driver", "torch", "cuda", "disentangle_ext", "commit"), "x")
    path = tmp_path / "cuda.csv"
    for ours in (2.0, 1.0):
        times = {PLAIN: [4.0] * 5, OURS: [ours] * 5, GRAPHED: [ours / 2] * 5}
        rows = cuda_harness.rows(case, times, RATES, 3, where)
        append(rows, path, cuda_harness.COLUMNS, cuda_harness.IDENTITY)
    rows = read(path)
    assert [row["provider"] for row in rows] == [PLAIN, OURS, GRAPHED]
    assert [row["milliseconds"] for row in rows] == ["4", "1", "0.5"]
    assert [row["speedup"] for row in rows] == ["1", "4", "8"]
    assert [(row["floor"], row["over_floor"], row["bound"]) for row in rows][1] == ("1", "1", "bytes")
    assert all(row["input_sets"] == "3" for row in rows)
    assert all(row["pass"] == BOTH for row in rows)
    assert all(set(row) == set(cuda_harness.COLUMNS) and all(row.values()) for row in rows)
