"""Times, page faults, peak memory and the cost of a call on a CPU."""

from __future__ import annotations

import statistics
import time

import pytest
import torch

from bench import cpu_harness, harness, memory, rates, registry
from bench.cpu_harness import MUL, RAW
from bench.harness import BOTH, OURS, PLAIN
from bench.rows import append, read
from disentangle_ext import _extension

RATES = rates.Rates(bytes=1e10, exponentials=1e9, multiply_adds=0, launch_seconds=0)
needs_proc = pytest.mark.skipif(not (memory.PROCESS / "clear_refs").exists(), reason="no /proc/self/clear_refs")


def test_a_sample_is_the_time_of_one_call():
    assert 2 <= cpu_harness.Sampler()([lambda: time.sleep(0.002)], 5) < 20


def test_a_row_has_every_column(eager, monkeypatch, mmd, tmp_path):
    monkeypatch.setattr(cpu_harness, "peak_mib", lambda case, provider: {PLAIN: None}.get(provider, 1.25))
    monkeypatch.setattr(harness, "REQUIRES", dict.fromkeys(harness.REQUIRES, "no_such_module"))
    rows = cpu_harness.measure(mmd, RATES, seconds=0, memory=True)
    append(rows, tmp_path / "ops.csv", cpu_harness.COLUMNS, cpu_harness.IDENTITY)
    rows = read(tmp_path / "ops.csv")
    assert [row["provider"] for row in rows] == harness.providers(mmd)
    assert {row["peak_mib"] for row in rows if row["provider"] != PLAIN} == {"1.2"}
    assert rows[0]["peak_mib"] == ""
    for row in rows:
        assert all(value for name, value in row.items() if name != "peak_mib")
        assert float(row["q20"]) <= float(row["milliseconds"]) <= float(row["q80"])
        assert row["bound"] == "exponentials"
        assert float(row["over_floor"]) == pytest.approx(float(row["milliseconds"]) / float(row["floor"]), rel=0.01)


def test_page_faults_are_those_of_the_call():
    ready = torch.ones(1 << 20)
    new, old = [lambda: (torch.ones(1 << 24),)], [lambda: (ready.add_(1),)]
    sample = cpu_harness.Sampler()
    for own in (new, old):
        sample(own, 4)
    assert sample.faults[id(new)] > 15  # 64 MiB, in pages of 4 KiB or 4 MiB
    assert sample.faults[id(old)] < 15


@needs_proc
def test_growth_is_the_peak_and_not_what_is_left():
    def step():
        torch.ones(1 << 24).add_(1)
        return (torch.ones(1 << 20),)

    assert 63 < memory.growth(step) / 2**20 < 72


@pytest.mark.forks
@needs_proc
def test_memory_is_measured_in_another_process():
    case = next(registry.cases("cpu", "elbo", quick=True))
    assert case.size == "64 x 10"
    plain = memory.peak_mib(case, PLAIN)
    assert plain is not None
    assert 1 < plain < 10
    assert memory.peak_mib(case, "no such provider") is None


@pytest.mark.skipif(not _extension.available("cpu"), reason="there are no kernels")
@pytest.mark.parametrize("case", list(registry.small_cases("cpu")), ids=lambda case: case.op)
def test_the_raw_ops_are_those_of_the_op(case):
    rows = cpu_harness.measure_call(case, seconds=0)  # raises where they differ
    assert case.passes == BOTH
    assert [row["provider"] for row in rows] == [MUL, OURS]
    assert rows[0]["over_floor"] == "1"


def test_the_cost_of_a_call_is_what_the_kernels_do_not_take(mmd):
    times = {OURS: [3.0, 4.0, 8.0, 4.0, 4.0], RAW: [1.0, 2.0, 6.0, 1.0, 1.0], MUL: [2.0] * 5}
    ours = cpu_harness.call_rows(mmd, times)[1]
    assert float(ours["milliseconds"]) == statistics.median([2, 2, 2, 3, 3])
    assert (ours["over_floor"], ours["bound"]) == ("1", "one torch.mul")


def test_rates_are_those_of_a_computer():
    assert 1e8 < rates.cpu_copy_rate(1 << 20) < 1e13
    threads = torch.get_num_threads()
    assert 1e7 < rates.cpu_exponential_rate(samples=2) / threads < 1e11
    assert torch.get_num_threads() == threads
