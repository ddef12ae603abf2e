"""Mistakes planted into the kernels, to see that the tests of the ops catch them; and the run that decides it."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cuda import harness

HERE = Path(__file__).resolve().parent
SHORTEST_FOREVER = 120.0  # seconds, or ten times what kernels without a mistake take: they run forever


@dataclass(frozen=True)
class Plant:
    """A text of a source that occurs once, and what replaces it.

    `modes` are tried in turn until one catches it. Name the one that should: it is the only one that is built then.
    """

    name: str
    op: str
    file: str
    old: str
    new: str
    modes: tuple[str, ...] = ("plain", "check", "asan")

    def source(self) -> str:
        text = (harness.ROOT / "csrc" / self.file).read_text(encoding="utf-8")
        count = text.count(self.old)
        assert count == 1, f"{self.name}: {self.old!r} occurs {count} times in {self.file}"
        return text.replace(self.old, self.new)


# Which mode should catch what.
RACE = ("check", "plain", "asan")
OVERRUN = ("check", "asan", "plain")

PLANTS = [
    Plant(
        "no barrier before the rows are summed",
        "rsample_kl",
        "cuda/rsample_kl.cuh",
        "store_vector(terms + group.at, kl); });\n  __syncthreads();",
        "store_vector(terms + group.at, kl); });",
        RACE,
    ),
    Plant(
        "no barrier before the warps are summed",
        "rsample_kl",
        "cuda/rsample_kl.cuh",
        "warps[threadIdx.x / 32] = x;\n  __syncthreads();",
        "warps[threadIdx.x / 32] = x;",
        RACE,
    ),
    Plant(
        "last element of a group lost",
        "rsample_kl",
        "cuda/rsample_kl.cuh",
        "high = after < N ? after : N;",
        "high = after < N ? after - 1 : N;",
    ),
    Plant(
        "ragged group taken for a whole one",
        "rsample_kl",
        "cuda/rsample_kl.cuh",
        "before <= 0 && after >= N;",
        "before <= 0;",
        OVERRUN,
    ),
    Plant(
        "unaligned pointers taken for aligned",
        "rsample_kl",
        "cuda/rsample_kl.cuh",
        "fast = aligned && before",
        "fast = before",
        OVERRUN,
    ),
    Plant(
        "last lane left out of a row's sum",
        "rsample_kl",
        "cuda/rsample_kl.cuh",
        "for (int offset = lanes / 2; offset > 0;",
        "for (int offset = lanes / 2; offset > 1;",
    ),
    Plant(
        "every group with the noise of the first",
        "rsample_kl",
        "cuda/rsample_kl.cuh",
        "uint64_t(tile.start) / 4 + uint32_t(at) / 4;",
        "uint64_t(tile.start) / 4;",
    ),
    Plant(
        "gradient of the next row",
        "rsample_kl",
        "cuda/rsample_kl.cuh",
        "++column == D) ++row",
        "++column == D - 1) ++row",
    ),
    Plant(
        "subnormal halves rounded down",
        "rsample_kl",
        "cuda/storage.cuh",
        "bit_cast<float>(magnitude) + 0.5f) - 0x3F000000u",
        "bit_cast<float>(magnitude & ~0xFFFFFu) + 0.5f) - 0x3F000000u",
    ),
    Plant(
        "no barrier between clearing and counting",
        "permute_dims",
        "cuda/permute_dims.cuh",
        "buckets.clear();\n  __syncthreads();",
        "buckets.clear();",
        RACE,
    ),
    Plant(
        "no barrier before the scan",
        "permute_dims",
        "cuda/permute_dims.cuh",
        "__syncthreads();\n  buckets.scan();",
        "buckets.scan();",
        RACE,
    ),
    Plant(
        "no barrier before ranking",
        "permute_dims",
        "cuda/permute_dims.cuh",
        "uint32_t(row);\n  });\n  __syncthreads();",
        "uint32_t(row);\n  });",
        RACE,
    ),
    Plant(
        "scan of a warp reads upward",
        "permute_dims",
        "cuda/permute_dims.cuh",
        "__shfl_up_sync(0xFFFFFFFFu, through, offset)",
        "__shfl_down_sync(0xFFFFFFFFu, through, offset)",
    ),
    Plant(
        "lane mask of half a warp",
        "permute_dims",
        "cuda/permute_dims.cuh",
        "__shfl_xor_sync(0xFFFFFFFFu, x, offset);\n  return x;",
        "__shfl_xor_sync(0x0000FFFFu, x, offset);\n  return x;",
    ),
    Plant(
        "last of a bucket not counted",
        "permute_dims",
        "cuda/permute_dims.cuh",
        "buckets.start(bucket + 1) : rows;",
        "buckets.start(bucket + 1) - 1 : rows;",
    ),
    Plant(
        "equal keys of merged runs on one place",
        "permute_dims",
        "cuda/permute_dims.cuh",
        "count_below(keys + pair, middle - pair, key, true)",
        "count_below(keys + pair, middle - pair, key, false)",
    ),
    Plant(
        "right run merged one element short",
        "permute_dims",
        "cuda/permute_dims.cuh",
        "end = min(pair + 2 * run, length);",
        "end = min(pair + 2 * run, length) - 1;",
    ),
    Plant(
        "inverse that is none", "permute_dims", "cuda/permute_dims.cuh", "to = a.inverse ? row : rank;", "to = rank;"
    ),
    Plant(
        "no warp barrier before columns are read",
        "mmd",
        "cuda/mmd.cuh",
        "column_pull[d] = T(0);\n    }\n    __syncwarp();",
        "column_pull[d] = T(0);\n    }",
        RACE,
    ),
    Plant(
        "no warp barrier before columns are overwritten",
        "mmd",
        "cuda/mmd.cuh",
        "load_columns(const T* from, int count, int dims) {\n    __syncwarp();",
        "load_columns(const T* from, int count, int dims) {",
        RACE,
    ),
    Plant(
        "no barrier in the block's sum",
        "mmd",
        "cuda/mmd.cuh",
        "/ 32] = sum;\n  __syncthreads();",
        "/ 32] = sum;",
        RACE,
    ),
    Plant(
        "no barrier after the scales", "mmd", "cuda/mmd.cuh", "a.exponent);\n  __syncthreads();", "a.exponent);", RACE
    ),
    Plant(
        "pulls wander the wrong way", "mmd", "cuda/mmd.cuh", "column_pull[d], lane + 1);", "column_pull[d], lane - 1);"
    ),
    Plant("a point that meets itself", "mmd", "cuda/mmd.cuh", " && row + shift != column; }", "; }"),
    Plant("one row too many", "mmd", "cuda/mmd.cuh", "return row < rows && column", "return row <= rows && column"),
    Plant(
        "pulls of the fourth warp lost",
        "mmd",
        "cuda/mmd.cuh",
        "(all[2 * kRegion + e] + all[3 * kRegion + e]);",
        "all[2 * kRegion + e];",
    ),
    Plant(
        "columns' pulls overwritten by later rows",
        "mmd",
        "cuda/mmd.cuh",
        "count, dims, r > 0);",
        "count, dims, false);",
    ),
    Plant(
        "tiles of y placed among those of x",
        "mmd",
        "cuda/mmd.cuh",
        "const int64_t pooled = of_y ? a.M + first : first;",
        "const int64_t pooled = first;",
    ),
    Plant(
        "tail of a tile read past the end",
        "mmd",
        "cuda/mmd.cuh",
        "? tile.data[int64_t(row) * dims + d0 + d] : T(0);",
        "? tile.data[int64_t(row) * dims + d0 + d + 1] : T(0);",
        OVERRUN,
    ),
    Plant(
        "last item left out of the value",
        "mmd",
        "cuda/mmd.cuh",
        "i < plan.items(); i += kMmdMergeThreads",
        "i + 1 < plan.items(); i += kMmdMergeThreads",
    ),
    Plant(
        "no barrier before components are overwritten",
        "aggregate_posterior",
        "cuda/aggregate_posterior_forward.cuh",
        "__syncthreads();\n    load_components<T, D>",
        "load_components<T, D>",
        RACE,
    ),
    Plant(
        "no barrier before the groups are merged",
        "aggregate_posterior",
        "cuda/aggregate_posterior_forward.cuh",
        "sums.put(mine, plan);\n  __syncthreads();",
        "sums.put(mine, plan);",
        RACE,
    ),
    Plant(
        "last component of a tile lost",
        "aggregate_posterior",
        "cuda/aggregate_posterior_forward.cuh",
        "if (j < count && d < dims) {",
        "if (j < count - 1 && d < dims) {",
    ),
    Plant(
        "group whose sums are not merged",
        "aggregate_posterior",
        "cuda/aggregate_posterior_forward.cuh",
        "for (int g = 0; g < groups; ++g) sum += memory",
        "for (int g = 1; g < groups; ++g) sum += memory",
    ),
    Plant(
        "splits whose joint sums are not merged",
        "aggregate_posterior",
        "cuda/aggregate_posterior_forward.cuh",
        "k < splits; k += kWarp) {",
        "k < 1; k += kWarp) {",
    ),
    Plant(
        "wrong stride between splits",
        "aggregate_posterior",
        "cuda/aggregate_posterior_forward.cuh",
        "stride = s.rows() * s.D;",
        "stride = s.queries * s.D;",
    ),
    Plant(
        "maximum swapped with the sum",
        "aggregate_posterior",
        "cuda/aggregate_posterior_forward.cuh",
        "part.sum = row[D], part.max = row[D + 1];",
        "part.sum = row[D + 1], part.max = row[D];",
    ),
    Plant(
        "warp sum that stops early",
        "aggregate_posterior",
        "cuda/aggregate_posterior_common.cuh",
        "for (int mask = 16; mask; mask >>= 1) v += __shfl_xor_sync",
        "for (int mask = 16; mask > 1; mask >>= 1) v += __shfl_xor_sync",
    ),
    Plant(
        "tail of the slices lost",
        "aggregate_posterior",
        "cuda/aggregate_posterior_common.cuh",
        "for (; k < count; ++k) sum += at[k * stride];",
        "",
    ),
    Plant(
        "no barrier before queries are overwritten",
        "aggregate_posterior",
        "cuda/aggregate_posterior_backward.cuh",
        "__syncthreads();\n      const bool left = load_queries",
        "const bool left = load_queries",
        RACE,
    ),
    Plant(
        "no barrier before shares are added",
        "aggregate_posterior",
        "cuda/aggregate_posterior_backward.cuh",
        "__syncthreads();\n      T* query_slice",
        "T* query_slice",
        RACE,
    ),
    Plant(
        "slice that each range starts anew",
        "aggregate_posterior",
        "cuda/aggregate_posterior_backward.cuh",
        "*out = start ? sum : *out + sum;",
        "*out = sum;",
    ),
    Plant(
        "halves of a scattered sum exchanged",
        "aggregate_posterior",
        "cuda/aggregate_posterior_backward.cuh",
        "w[i] = (upper ? high : low) +",
        "w[i] = (upper ? low : high) +",
    ),
    Plant(
        "no barrier after a tile of pairs",
        "aggregate_posterior",
        "cuda/aggregate_posterior_joint.cuh",
        "T(0);\n    }\n    __syncthreads();",
        "T(0);\n    }",
        RACE,
    ),
    Plant(
        "what is left to float64 is never done",
        "aggregate_posterior",
        "cuda/aggregate_posterior_far.cuh",
        "if (!out.get_left(",
        "if (out.get_left(",
    ),
    Plant(
        "transposed place off by a component",
        "aggregate_posterior",
        "cuda/aggregate_posterior_joint.cuh",
        "to = k * kPairComponents + j;",
        "to = k * kPairComponents + (j ^ 1);",
    ),
    Plant(
        "place of any size kept in float32",
        "aggregate_posterior",
        "cuda/aggregate_posterior_backward.cuh",
        "sizeof(T) == sizeof(float) ? T(1e10) : kInfinity<T>;",
        "kInfinity<T>;",
    ),
    Plant(
        "precision of any size kept in float32",
        "aggregate_posterior",
        "cuda/aggregate_posterior_backward.cuh",
        "sizeof(T) == sizeof(float) ? T(1e17) : kInfinity<T>;",
        "kInfinity<T>;",
    ),
    Plant(
        "queries too large for float32 not noticed",
        "aggregate_posterior",
        "cuda/aggregate_posterior_backward.cuh",
        "large || any_too_large(s, block)",
        "large",
    ),
    Plant(
        "query at infinity not moved",
        "aggregate_posterior",
        "cuda/aggregate_posterior_backward.cuh",
        " && !nowhere ? z",
        " ? z",
    ),
    Plant(
        "squared distance that overflows",
        "aggregate_posterior",
        "cuda/aggregate_posterior_backward.cuh",
        "if (!kFolded<T>) x[d] = min(x[d], T(1e300));",
        "",
    ),
    Plant(
        "squared distance of a pair that overflows",
        "aggregate_posterior",
        "cuda/aggregate_posterior_joint.cuh",
        "min(t * t, kLargest)",
        "t * t",
    ),
    Plant(
        "scale of zero for a query at infinity",
        "aggregate_posterior",
        "cuda/aggregate_posterior_joint.cuh",
        "scale_of(logvar) : T(1),",
        "scale_of(logvar) : T(0),",
    ),
    Plant(
        "sum of densities taken as it is, however large",
        "aggregate_posterior",
        "cuda/aggregate_posterior_forward.cuh",
        "sum >= least && sum <= most",
        "sum >= least",
    ),
    Plant(
        "sum of densities taken as it is, however small",
        "aggregate_posterior",
        "cuda/aggregate_posterior_forward.cuh",
        "sum >= least && sum <= most",
        "sum > T(0) && sum <= most",
    ),
    Plant(
        "density in float64 that wraps around",
        "aggregate_posterior",
        "cuda/aggregate_posterior_forward.cuh",
        "exp2_of_any(",
        "exp2(",
    ),
    Plant(
        "first chunk of a range alone left to float64",
        "aggregate_posterior",
        "cuda/aggregate_posterior_far.cuh",
        "block.first_component + k * chunk < block.last_component;",
        "k < 1;",
    ),
    Plant(
        "chunks that the last range does not have",
        "aggregate_posterior",
        "cuda/aggregate_posterior_far.cuh",
        "block.first_component + k * chunk < block.last_component;",
        "k < chunks;",
        ("check",),
    ),
]


class Copies:
    """Copies of csrc, each with one mistake in it, and one without."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._copies: dict[Plant | None, Path] = {}

    def folder(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="planted-"))
        return self._folder

    def of(self, plant: Plant | None) -> Path:
        """With this mistake, or with none."""
        if plant not in self._copies:
            csrc = Path(tempfile.mkdtemp(dir=self.folder())) / "csrc"
            for part in ("cuda", "math", "testing"):
                shutil.copytree(harness.ROOT / "csrc" / part, csrc / part)
            if plant is not None:
                (csrc / plant.file).write_text(plant.source(), encoding="utf-8")
            self._copies[plant] = csrc
        return self._copies[plant]

    def prepare(self, plant: Plant) -> None:
        """Begins to build what the test of this plant will run. That its text is gone is for the test to say."""
        with contextlib.suppress(AssertionError):
            harness.builder.start(plant.op, plant.modes[0], self.of(plant))

    def remove(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


copies = Copies()

# For the summary at the end of the tests: plant, the mode that caught it, how.
MISSED = "MISSED"
verdicts: list[tuple[Plant, str, str]] = []


class FirstFailure:
    """A pytest plugin: which test failed first, and with what."""

    def __init__(self) -> None:
        self.test = ""
        self.message = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.test:
            crash = getattr(report.longrepr, "reprcrash", None)
            self.test = report.nodeid.rpartition("::")[2]
            self.message = getattr(crash, "message", str(report.longrepr))


def _run_tests(answer: Any, op: str, mode: str, csrc: str, output: str) -> None:
    """In a process of its own: a mistake may crash it."""
    os.environ.update(DX_CSRC=csrc, DX_MODES=mode)
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(harness.ROOT)
    first = FirstFailure()
    arguments = ["-x", "-q", "-p", "no:cacheprovider", str(HERE / f"test_{op}.py")]
    status = int(pytest.main(arguments, plugins=[first]))
    answer.send((status, first.test, first.message))


@dataclass(frozen=True)
class Outcome:
    caught: bool
    how: str
    seconds: float


def _preload() -> Any:
    """Processes are forked from one that has torch but has not run anything: importing it takes seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "pytest", "disentangle_ext"])
    return context


@functools.cache
def control(op: str, mode: str) -> Outcome:
    """Of kernels without a mistake, from a copy like any other."""
    return outcome(op, mode, copies.of(None), None)


def outcome(op: str, mode: str, csrc: Path, longest: float | None) -> Outcome:
    """Runs the tests of the op on the kernels of this copy in this mode."""
    harness.builder.start(op, mode, csrc).result()
    context = _preload()
    receiver, sender = context.Pipe(duplex=False)
    output = copies.folder() / f"{op}-{mode}.txt"
    process = context.Process(target=_run_tests, args=(sender, op, mode, str(csrc), str(output)))
    start = time.monotonic()
    process.start()
    sender.close()
    process.join(longest)
    seconds = time.monotonic() - start
    if process.is_alive():
        process.kill()
        process.join()
        return Outcome(True, "ran forever", seconds)
    if process.exitcode and process.exitcode < 0:
        return Outcome(True, f"crashed with signal {-process.exitcode}", seconds)
    assert process.exitcode == 0, output.read_text()[-4000:]
    status, test, message = receiver.recv()
    assert status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), output.read_text()[-4000:]
    return Outcome(status == pytest.ExitCode.TESTS_FAILED, f"{test}: {message}", seconds)
