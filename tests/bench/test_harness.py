"""The comparison before anything is timed, the order of samples, rows and their files."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from bench import bench_aggregate_posterior, bench_elbo_decomposition, bench_mmd, harness, rates
from bench.harness import BACKWARD, BEST, BOTH, COMPILED, FORWARD, KEOPS, OURS, PLAIN

RATES = rates.Rates(bytes=3e12, exponentials=4e12, multiply_adds=3e13, launch_seconds=2e-6)


@pytest.fixture
def several_blocks(monkeypatch):
    """Blocks of few rows, the last of which has fewer."""
    for bench, elements in ((bench_aggregate_posterior, 33 * 7), (bench_mmd, 66 * 7)):
        monkeypatch.setattr(bench, "BLOCK", elements)
    monkeypatch.setattr(bench_elbo_decomposition, "BLOCK", 33 * 10 * 7)


@pytest.fixture
def without_libraries(monkeypatch):
    """KeOps compiles its formulas, which takes seconds; whoever has it sees in `make bench` that it agrees."""
    monkeypatch.setattr(harness, "REQUIRES", dict.fromkeys(harness.REQUIRES, "no_such_module"))


def test_every_provider_computes_the_same(eager, several_blocks, without_libraries, case):
    sets, upstream = harness.all_inputs(case)
    ready = harness.steps(case, sets, upstream, runs=1)
    assert set(ready) == set(harness.providers(case))
    assert {PLAIN, OURS} < set(ready)
    results = ready[OURS][0]()
    outputs, inputs = len(upstream), len(sets[0])
    assert len(results) == {FORWARD: outputs, BACKWARD: inputs, BOTH: outputs + inputs}[case.passes]
    assert all(torch.isfinite(result).all() for result in results)


def test_a_wrong_result_is_not_timed(eager, without_libraries, case):
    def wrong(change):
        return lambda *inputs: tuple(change(t) for t in case.plain(*inputs))

    def all_steps(case):
        return harness.steps(case, *harness.all_inputs(case), runs=1)

    if case.passes != BACKWARD:  # alone, it does not depend on an offset
        with pytest.raises(AssertionError, match=f"{case.op} .*: disentangle_ext differs by .* from plain PyTorch"):
            all_steps(replace(case, ours=wrong(lambda t: t + 1)))
        with pytest.raises(AssertionError, match="best plain PyTorch has .*, plain PyTorch "):
            all_steps(replace(case, others={BEST: wrong(lambda t: torch.stack([t, t]))}, passes=FORWARD))
    with pytest.raises(AssertionError, match=r"disentangle_ext differs by (nan|1\.0e\+00)"):
        all_steps(replace(case, ours=wrong(lambda t: t * math.nan)))
    if case.passes == BOTH:
        detached = replace(case, others={BEST: wrong(lambda t: 2 * t - t.detach())})
        with pytest.raises(AssertionError, match="best plain PyTorch differs by 1.0e.00"):
            all_steps(detached)


def test_a_failing_compiler_is_reported_and_left_out(monkeypatch, without_libraries, capsys, mmd):
    def compiled(function, mode):
        def fail(*inputs):
            raise RuntimeError("no compiler\nand more")

        return fail

    monkeypatch.setattr(harness, "compiled", compiled)
    ready = harness.steps(mmd, *harness.all_inputs(mmd), runs=1)
    assert COMPILED not in ready
    assert OURS in ready
    assert "torch.compile of mmd 33 x 10 fails: no compiler\n" in capsys.readouterr().out


def test_our_own_failure_is_raised(eager, without_libraries, mmd):
    def fail(*inputs):
        raise RuntimeError("no kernel")

    with pytest.raises(RuntimeError, match="no kernel"):
        harness.steps(replace(mmd, ours=fail), *harness.all_inputs(mmd), runs=1)


def test_a_missing_provider_is_a_line_and_no_row(without_libraries, mmd):
    assert KEOPS in mmd.others
    assert KEOPS not in harness.providers(mmd)
    lines = harness.missing_providers()
    assert len(lines) == 2
    assert lines[0].startswith("no rows of KeOps: pip install ")


@pytest.mark.parametrize("module", ["pykeops", "geomloss"])
def test_what_is_installed_agrees(eager, module, mmd):
    pytest.importorskip(module)
    name = next(name for name, needed in harness.REQUIRES.items() if needed == module)
    only = replace(mmd, others={name: mmd.others[name]}, modes=())
    assert name in harness.steps(only, *harness.all_inputs(only), runs=1)


def test_providers_alternate_and_short_calls_are_repeated():
    order = []

    def sample(own, calls):
        order.append((own[0], calls))
        return {"slow": 50.0, "fast": 0.01}[own[0]]

    times = harness.time_all({PLAIN: ["slow"], OURS: ["fast"]}, seconds=0, sample=sample, least=1.0)
    assert order[-10:] == [("slow", 1), ("fast", 100)] * 5
    assert {name: len(taken) for name, taken in times.items()} == {PLAIN: 5, OURS: 5}


def test_medians_and_quantiles():
    row = harness.summary([9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    assert row == {"milliseconds": "5", "q20": "2", "q80": "8"}


def test_the_floor_is_the_largest_bound():
    assert RATES.floor(rates.Work(bytes=3e9)) == (1e-3, "bytes")
    assert RATES.floor(rates.Work(bytes=3e9, exponentials=8e9)) == (2e-3, "exponentials")
    assert RATES.floor(rates.Work(exponentials=1, multiply_adds=3e10)) == (1e-3, "multiply-adds")
    assert RATES.floor(rates.Work()) == (2e-6, "one launch")
    without = rates.Rates(bytes=3e12, exponentials=0, multiply_adds=0, launch_seconds=2e-6)
    assert without.floor(rates.Work(bytes=3e9, exponentials=8e9)) == (1e-3, "bytes")
