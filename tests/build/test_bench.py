"""The benchmarks, at sizes that take no time: providers agree, floors are what they say, nothing is claimed."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import bench.__main__ as command
from bench import (
    bench_aggregate_posterior,
    bench_elbo_decomposition,
    bench_mmd,
    bench_permute_dims,
    bench_rsample_kl,
    cuda_harness,
    data_sets,
    harness,
    rates,
)
from bench.cuda_harness import BACKWARD, BOTH, FORWARD, GRAPHED, OURS, PLAIN, CudaCase

ROOT = Path(__file__).resolve().parents[2]
SMALL: dict[str, list[CudaCase]] = {
    "aggregate_posterior": list(bench_aggregate_posterior.cuda_cases("cpu", (33,))),
    "elbo_decomposition": list(bench_elbo_decomposition.cuda_cases("cpu", (33,))),
    "mmd": list(bench_mmd.cuda_cases("cpu", (33,))),
    "rsample_kl": list(bench_rsample_kl.cuda_cases("cpu", ((33, 10),))),
    "permute_dims": list(bench_permute_dims.cuda_cases("cpu", (33,))),
}
RATES = rates.Rates(bytes=3e12, exponentials=4e12, multiply_adds=3e13, launch_seconds=2e-6)


@pytest.fixture
def eager(monkeypatch):
    """Without torch.compile, which would take most of a minute."""
    monkeypatch.setattr(cuda_harness, "compiled", lambda function, mode: function)


@pytest.mark.parametrize(
    "case", [case for cases in SMALL.values() for case in cases], ids=lambda case: f"{case.op}-{case.passes}"
)
def test_every_provider_computes_the_same(eager, case):
    sets, upstream = cuda_harness.all_inputs(case)
    ready = cuda_harness.steps(case, sets, upstream)
    assert {PLAIN, OURS, *case.others} <= set(ready)
    results = case.comparable(ready[OURS][0]())
    outputs, inputs = len(upstream), len(sets[0])
    expected = {FORWARD: outputs, BACKWARD: inputs, BOTH: outputs + inputs}[case.passes]
    assert 0 < len(results) <= expected
    assert all(torch.isfinite(result).all() for result in results)


@pytest.mark.parametrize("op", SMALL)
def test_a_wrong_result_is_not_timed(eager, op):
    case = SMALL[op][0]
    wrong = replace(case, ours=lambda *inputs: tuple(t + 1 for t in case.plain(*inputs)))
    with pytest.raises(AssertionError, match=f"{op} .*: disentangle_ext differs by .* from plain PyTorch"):
        cuda_harness.steps(wrong, *cuda_harness.all_inputs(wrong))
    nan = replace(case, ours=lambda *inputs: tuple(t * math.nan for t in case.plain(*inputs)))
    with pytest.raises(AssertionError, match="differs by nan"):
        cuda_harness.steps(nan, *cuda_harness.all_inputs(nan))


def test_a_failing_compiler_is_reported_and_left_out(monkeypatch, capsys):
    def compiled(function, mode):
        def fail(*inputs):
            raise RuntimeError("no triton\nand more")

        return fail

    monkeypatch.setattr(cuda_harness, "compiled", compiled)
    case = SMALL["mmd"][0]
    ready = cuda_harness.steps(case, *cuda_harness.all_inputs(case))
    assert cuda_harness.COMPILED not in ready
    assert OURS in ready
    assert "torch.compile of mmd 33 x 10 fails: no triton\n" in capsys.readouterr().out


def test_the_floor_is_the_largest_bound():
    assert RATES.floor(rates.Work(bytes=3e9)) == (1e-3, "bytes")
    assert RATES.floor(rates.Work(bytes=3e9, exponentials=8e9)) == (2e-3, "exponentials")
    assert RATES.floor(rates.Work(exponentials=1, multiply_adds=3e10)) == (1e-3, "multiply-adds")
    assert RATES.floor(rates.Work()) == (2e-6, "one launch")
    without = rates.Rates(bytes=3e12, exponentials=0, multiply_adds=0, launch_seconds=2e-6)
    assert without.floor(rates.Work(bytes=3e9, exponentials=8e9)) == (1e-3, "bytes")


def test_large_inputs_take_turns():
    megabyte = torch.empty(1 << 18)
    assert cuda_harness.input_sets((megabyte,), cache=50 << 20) == 1
    assert cuda_harness.input_sets((megabyte,) * 20, cache=50 << 20) == 6
    assert cuda_harness.input_sets((megabyte,) * 200, cache=50 << 20) == 2


def rows_of(case: CudaCase, ours: float) -> list[dict[str, str]]:
    where = dict.fromkeys(("gpu", "driver", "torch", "cuda", "disentangle_ext", "commit"), "x")
    times = {PLAIN: [4.0] * 5, OURS: [ours] * 5, GRAPHED: [ours / 2] * 5}
    return cuda_harness.rows(case, times, RATES, 3, where)


def test_rows_have_every_column_and_replace_older_ones(tmp_path):
    case = replace(SMALL["mmd"][0], work=rates.Work(bytes=3e9))
    path = tmp_path / "cuda.csv"
    for ours in (2.0, 1.0):
        harness.append(rows_of(case, ours), path, cuda_harness.COLUMNS, cuda_harness.IDENTITY)
    rows = harness.read(path)
    assert [row["provider"] for row in rows] == [PLAIN, OURS, GRAPHED]
    assert [row["milliseconds"] for row in rows] == ["4", "1", "0.5"]
    assert [row["speedup"] for row in rows] == ["1", "4", "8"]
    assert [(row["floor"], row["over_floor"], row["bound"]) for row in rows][1] == ("1", "1", "bytes")
    assert all(row["input_sets"] == "3" for row in rows)


def test_the_readme_has_a_line_for_each_case():
    assert command.cuda_table([]) == "Not measured yet.\n"
    lines = command.cuda_table(rows_of(SMALL["mmd"][0], 2.0)).splitlines()
    assert lines[2] == "| `mmd` | 33 x 10 | forward and backward | 4 |  | 2 | 1 | 500 (one launch) |"
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")


def test_the_tables_in_the_readme_are_those_of_the_results():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, table in (
        ("bench", command.table(harness.read())),
        ("bench-cuda", command.cuda_table(harness.read(cuda_harness.RESULTS))),
    ):
        assert f"<!-- {name}: begin -->\n{table}<!-- {name}: end -->" in text


@pytest.fixture
def pretended_gpu(monkeypatch, tmp_path) -> Path:
    """The command on a machine where a GPU is said to be; what it measures is given. Returns where the rows go."""
    path = tmp_path / "cuda.csv"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(command._extension, "available", lambda device: True)
    monkeypatch.setattr(command, "measure_rates", lambda: RATES)
    monkeypatch.setattr(cuda_harness, "RESULTS", path)
    cases = [*SMALL["mmd"], *SMALL["permute_dims"]]
    monkeypatch.setattr(command, "CUDA_BENCHES", [SimpleNamespace(cuda_cases=lambda device: cases)])
    return path


def test_a_case_that_fails_keeps_no_other_from_being_measured(pretended_gpu, monkeypatch):
    def measure(case, rates, seconds):
        if case.op == "mmd":
            raise RuntimeError("out of memory\nand so on")
        return rows_of(case, 2.0)

    monkeypatch.setattr(cuda_harness, "measure", measure)
    with pytest.raises(SystemExit, match="not measured:\nmmd 33 x 10 forward and backward: out of memory$"):
        command.measure_cuda(1.0, 60.0, "")
    assert [row["op"] for row in harness.read(pretended_gpu)] == ["permute_dims"] * 3


def test_what_there_is_no_time_for_is_said(pretended_gpu):
    with pytest.raises(SystemExit, match="permute_dims 33 x 10 forward: the time was up"):
        command.measure_cuda(1.0, -1.0, "permute")
    assert not pretended_gpu.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device, which would be measured")
def test_without_a_device_nothing_is_measured(root, run):
    result = run("-m", "bench", "--device", "cuda", cwd=root)
    assert result.returncode == 1
    assert result.stderr.startswith("bench: nothing measured: ")


def test_the_commit_can_be_named(monkeypatch):
    monkeypatch.setenv("DISENTANGLE_EXT_COMMIT", "1234abc")
    monkeypatch.setenv("PATH", "")
    assert harness.commit() == "1234abc"
    monkeypatch.delenv("DISENTANGLE_EXT_COMMIT")
    assert harness.commit() == "unknown"


def device(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(ROOT / "bench" / "device.sh"), *arguments]
    environment = {**os.environ, "PYTHON": sys.executable, **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device, on which everything would be run")
@pytest.mark.parametrize("steps", [(), ("test",), ("build", "bench")])
def test_device_sh_skips_without_a_device_and_says_so(steps, tmp_path):
    result = device("--logs", str(tmp_path / "logs"), *steps)
    assert result.returncode == 3
    assert "skipped, nothing was built, tested or measured: torch " in result.stdout
    assert not (tmp_path / "logs").exists()


def test_device_sh_refuses_what_it_does_not_know():
    assert device("tests").returncode == 2
    assert device("--logs").returncode == 2


def test_device_sh_needs_an_interpreter_with_torch(tmp_path):
    assert device(PYTHON=str(tmp_path / "no-python")).returncode == 3


def test_data_sets_are_measured_and_tabulated():
    from disentangle_ext.data import DSpritesLike

    (row,) = data_sets.measure({"dsprites_like": DSpritesLike("quick")}, batch=8, seconds=0)
    assert list(row) == list(data_sets.COLUMNS)
    assert int(row["images_per_second"]) > 0
    other = {**row, "threads": "2", "images_per_second": "12345"}
    lines = data_sets.table([{**row, "threads": "1", "images_per_second": "1000"}, other]).splitlines()
    assert lines[0] == "| set | images | C x H x W | images/s, 1 thread | images/s, 2 threads |"
    assert lines[2] == "| `dsprites_like` | 1,536 | 1 x 32 x 32 | 1,000 | 12,345 |"
    assert data_sets.table([]) == "Not measured yet.\n"
