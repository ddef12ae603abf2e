"""The command, the tables of the README and the plot."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

import bench.__main__ as command
from bench import bench_stack, cpu_harness, cuda_harness, harness, pages, plot, rates, registry, tables
from bench.cuda_harness import GRAPHED
from bench.harness import BEST, GEOMLOSS, KEOPS, OURS, PLAIN
from bench.rows import Row, read

RATES = rates.Rates(bytes=3e12, exponentials=4e12, multiply_adds=3e13, launch_seconds=2e-6)
WHERE = {"machine": "a CPU, 8 cores", "simd": "AVX2", "torch": "2.13", "disentangle_ext": "0.1.0", "commit": "1234abc"}
GPU = {"gpu": "a GPU", "driver": "1", "torch": "2.13", "cuda": "13.0", "disentangle_ext": "0.1.0", "commit": "1234abc"}


def cpu_rows(op: str, size: str, threads: str = "1", **milliseconds: float) -> list[Row]:
    names = {"plain": PLAIN, "best": BEST, "keops": KEOPS, "geomloss": GEOMLOSS, "ours": OURS}
    rows = []
    for name, time in milliseconds.items():
        row = {"op": op, "size": size, "pass": "forward", "threads": threads, "provider": names[name]}
        numbers = {"milliseconds": time, "speedup": milliseconds["plain"] / time, "over_floor": time / 0.5}
        rows.append({**row, **{key: f"{number:.3g}" for key, number in numbers.items()}, **WHERE})
    return rows


def call_rows(op: str) -> list[Row]:
    row = {"op": op, "size": "64 x 10", "pass": cpu_harness.CALL, "threads": "1", **WHERE}
    ours = {"provider": OURS, "milliseconds": "0.05", "over_floor": "2"}
    return [{**row, "provider": cpu_harness.MUL, "milliseconds": "0.025", "over_floor": "1"}, {**row, **ours}]


def cuda_rows(case: harness.Case, ours: float) -> list[Row]:
    times = {PLAIN: [4.0] * 5, OURS: [ours] * 5, GRAPHED: [ours / 2] * 5}
    return cuda_harness.rows(case, times, RATES, 3, GPU)


def test_the_table_of_a_cpu_shows_where_ours_loses_and_what_was_not_measured():
    rows = cpu_rows("mmd", "64 x 10", plain=4.0, best=1.0, keops=8.0, geomloss=6.0, ours=2.0)
    rows = cpu_rows("mmd", "1024 x 10", plain=4000.0, ours=8.0) + call_rows("mmd") + rows  # measured earlier
    lines = tables.cpu_table(rows).splitlines()
    assert lines[2] == "| `mmd`, forward | 64 x 10 | 1 | 4 | **1** |  | 8 / 6 | 2 | 2x | 4 |"
    assert lines[3] == "| `mmd`, forward | 1024 x 10 | 1 | 4000 |  |  |  | **8** | 500x | 16 |"
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert lines[7] == "| `mmd` | 1 | 50.0 | 25.0 | 2 |"
    assert lines[-1] == "Medians; a CPU, 8 cores, AVX2, torch 2.13, 1234abc."


def test_machines_are_not_mixed_in_a_table():
    rows = cpu_rows("mmd", "64 x 10", plain=4.0, ours=2.0)
    other = [{**row, "machine": "another CPU, 2 cores", "milliseconds": "7"} for row in rows]
    lines = tables.cpu_table([*rows, *other]).splitlines()
    assert sum(line.startswith("Medians; ") for line in lines) == 2
    assert sum(line.startswith("| op |") for line in lines) == 2


def test_the_table_of_a_gpu_has_a_line_for_each_case(mmd):
    assert tables.cuda_table([]) == tables.cpu_table([]) == "Not measured yet.\n"
    lines = tables.cuda_table(cuda_rows(mmd, 2.0)).splitlines()
    assert lines[2] == "| `mmd` | 33 x 10 | forward and backward | 4 |  | 2 | 1 | 500 (one launch) |"
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")


@pytest.mark.parametrize(
    ("name", "table"), {**tables.tables(), "bench-stack": bench_stack.table(read(bench_stack.RESULTS))}.items()
)
def test_the_tables_in_the_readme_are_those_of_the_results(name, table):
    assert pages.parts("README.md", name)[1] == table


def test_the_plot_has_a_panel_for_each_op_and_number_of_threads():
    figure = pytest.importorskip("matplotlib.figure").Figure
    rows = [*cpu_rows("mmd", "64 x 10", plain=4.0, ours=2.0), *cpu_rows("mmd", "128 x 10", plain=4.0, ours=1.0)]
    rows += cpu_rows("permute_dims", "64 x 10", threads="2", plain=4.0, best=1.0, ours=2.0)
    made = plot.draw(figure, rows)
    assert len(made.axes) == 4
    curves = {line.get_label(): list(line.get_ydata()) for line in made.axes[0].lines}
    assert curves == {PLAIN: [1, 1], OURS: [2, 4]}
    assert [text.get_text() for text in made.legends[0].get_texts()] == [PLAIN, BEST, OURS]


@pytest.fixture
def pretended_gpu(monkeypatch, tmp_path, mmd) -> Path:
    """The command on a machine where a GPU is said to be; what it measures is given. Returns where the rows go."""
    path = tmp_path / "cuda.csv"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(command._extension, "available", lambda device: True)
    monkeypatch.setattr(command, "measure_rates", lambda: RATES)
    monkeypatch.setattr(cuda_harness, "RESULTS", path)
    permute = next(registry.cases("cpu", "permute"))
    cases = {case.op: case for case in (mmd, permute)}
    monkeypatch.setattr(registry, "cases", lambda device, only, quick: (c for op, c in cases.items() if only in op))
    return path


def arguments(**changed: object) -> Namespace:
    return Namespace(**{"seconds": 1.0, "in_all": 60.0, "only": "", "quick": False, **changed})


def test_a_case_that_fails_keeps_no_other_from_being_measured(pretended_gpu, monkeypatch):
    def measure(case, rates, seconds):
        if case.op == "mmd":
            raise RuntimeError("out of memory\nand so on")
        return cuda_rows(case, 2.0)

    monkeypatch.setattr(cuda_harness, "measure", measure)
    assert command.measure_cuda(arguments()) == ["mmd 33 x 10 forward and backward: out of memory"]
    assert [row["op"] for row in read(pretended_gpu)] == ["permute_dims"] * 3


def test_what_there_is_no_time_for_is_said(pretended_gpu):
    late = command.measure_cuda(arguments(in_all=-1.0, only="permute"))
    assert late == ["permute_dims 64 x 10 forward: the time was up"]
    assert not pretended_gpu.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device, which would be measured")
def test_without_a_device_nothing_is_measured():
    with pytest.raises(SystemExit, match="bench: nothing measured: "):
        command.measure_cuda(arguments())


def test_each_number_of_threads_has_a_process_that_was_started_with_it(monkeypatch):
    started = []

    def run(call, env, check):
        started.append((call[1:], env["OMP_NUM_THREADS"]))
        return subprocess.CompletedProcess(call, returncode=int(env["OMP_NUM_THREADS"] == "4"))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["bench", "--seconds", "2"])
    assert command.in_processes([1, 4]) == ["with 4 threads: see above"]
    assert started == [(["-m", "bench", "--seconds", "2", "--threads", n], n) for n in ("1", "4")]
