"""The stand-in for the CUDA execution model: it computes what a GPU would, and reports what on a GPU is undefined."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.cuda import harness
from tests.cuda.harness import HostRunError

pytestmark = pytest.mark.builds


def only(*modes: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("mode", modes, indirect=True)


def call(mode: str, name: str, *arguments: object) -> None:
    harness.library("execution_model", mode).call(name, *arguments)


def nans(n: int) -> Tensor:
    return torch.full((n,), math.nan)


def test_shuffles(mode: str, order: str) -> None:
    out = torch.zeros(8, 64, dtype=torch.int32)
    call(mode, "shuffles", out)
    t = torch.arange(64)
    warp, lane, eight, place = t & 32, t & 31, t & ~7, t & 7
    expected = [
        warp + (lane ^ 5),
        torch.where(lane + 3 < 32, t + 3, t),
        torch.where(lane >= 2, t - 2, t),
        warp + 7,
        t ^ 4,
        torch.where(place + 3 < 8, t + 3, t),
        torch.where(place >= 2, t - 2, t),
        eight + 1,
    ]
    assert torch.equal(out, 100 + torch.stack(expected).int())


def test_shuffle_of_eight_bytes(mode: str) -> None:
    out = torch.full((32,), math.nan, dtype=torch.float64)
    call(mode, "wide_shuffle", out)
    assert torch.equal(out, 1 / (1 + (torch.arange(32) ^ 16).double()))


def test_votes(mode: str, order: str) -> None:
    out = torch.zeros(2, 7, dtype=torch.int32)
    call(mode, "votes", out)
    ballot = sum(1 << i for i in range(0, 32, 3))
    second_ballot = sum(1 << i for i in range(16) if (32 + i) % 3 == 0)
    assert out[0].tolist() == [ballot, 10, 1, 0, 1, 0, 2]
    assert out[1].tolist() == [second_ballot, 10, 1, 0, 1, 0, 1]


def test_part_of_a_warp(mode: str, order: str) -> None:
    out = nans(32)
    call(mode, "partial_warps", out)
    assert out[0] == 1 + 5
    assert out[31] == 31 + 29 + 27 + 25


def test_last_block_sees_the_others(mode: str, order: str) -> None:
    x, parts, total = torch.full((40,), 1.5), nans(40), nans(1)
    call(mode, "last_block_sums", x, parts, torch.zeros(1, dtype=torch.int32), total, 40)
    assert total.item() == 60


def test_three_dimensions(mode: str, order: str) -> None:
    counts = torch.zeros(24, 24, dtype=torch.int32)
    call(mode, "three_dimensions", counts)
    assert (counts == 1).all()


def test_dynamic_shared_memory(mode: str, order: str) -> None:
    x, out = torch.arange(128.0), nans(128)
    call(mode, "reverse", x, out, 128, 256)
    assert torch.equal(out, x.view(2, 64).flip(1).view(-1))


def test_workspace(mode: str) -> None:
    x, out = torch.arange(64.0), nans(64)
    call(mode, "through_workspace", x, out)
    assert torch.equal(out, x)


def test_in_place(mode: str) -> None:
    x = torch.arange(64.0)
    call(mode, "reverse", x, x, 64, 256)
    assert torch.equal(x, torch.arange(63.0, -1, -1))


def test_strided_and_misaligned_buffers(mode: str) -> None:
    memory = torch.full((130,), math.nan)
    x, out = memory[1:65], memory[66:130]
    x.copy_(torch.arange(64.0))
    call(mode, "reverse", x, out, 64, 256)
    assert torch.equal(out, torch.arange(63.0, -1, -1))
    assert memory[[0, 65]].isnan().all()


def test_bits(mode: str) -> None:
    out = torch.zeros(5, dtype=torch.int32)
    call(mode, "bits", out)
    assert [v & 0xFFFFFFFF for v in out.tolist()] == [
        0x80000000 + 4 + 64,
        3 + 31 + 63 + 4 + 41,
        3,
        0x80000000,
        3 + 1,
    ]


@only("plain")
def test_shared_memory_starts_as_nan(mode: str) -> None:
    out = torch.zeros(4)
    call(mode, "uninitialised", out)
    assert out.isnan().tolist() == [True, False, True, True]


# What only the checker finds, whatever the order of the threads.
RACES = {
    "missing_barrier": 64,
    "missing_warp_barrier": 32,
    "shuffle_as_barrier": 32,
    "missing_second_barrier": 64,
    "blocks_race": 1,
}


@only("check")
@pytest.mark.parametrize("kernel", RACES)
@pytest.mark.parametrize("seed", ["fwd", "rev", "3"])
def test_race_is_reported(kernel: str, seed: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DX_ORDER", seed)
    message = r"data race in (shared memory|argument 0).*run_execution_model.cpp:\d+.*unordered with"
    with pytest.raises(HostRunError, match=message):
        call(mode, kernel, torch.zeros(RACES[kernel]))


@only("check")
def test_uninitialised_shared_memory_is_reported(mode: str) -> None:
    message = r"uninitialised value in shared memory: read by block 0 thread [023] at run_execution_model.cpp:\d+"
    with pytest.raises(HostRunError, match=message):
        call(mode, "uninitialised", torch.zeros(4))


@only("check")
def test_uninitialised_workspace_is_reported(mode: str) -> None:
    message = "uninitialised value in a workspace, byte 128 of 256: read by block 0 thread 32 at run_execution_model"
    with pytest.raises(HostRunError, match=message):
        call(mode, "half_a_workspace", torch.zeros(64))


# Name, arguments, and what the checker and the sanitizers say.
OVERRUN = "heap-buffer-overflow"
BAD_ACCESSES = [
    ("read_past_end", (torch.ones(5), torch.ones(1), 5), "out of bounds in argument 0, byte 20 of 20: read", OVERRUN),
    ("write_before_begin", (torch.ones(5),), "out of bounds in argument 0, byte -4 of 20: write", OVERRUN),
    ("dynamic_past_end", (torch.ones(64), 1), "out of bounds.*write", OVERRUN),
    ("misaligned", (torch.ones(8), torch.ones(4)), "misaligned access in argument 0, byte 4", "misaligned address"),
]


@only("check", "asan")
@pytest.mark.parametrize(("name", "arguments", "check", "asan"), BAD_ACCESSES, ids=[case[0] for case in BAD_ACCESSES])
def test_bad_access_is_reported(mode: str, name: str, arguments: tuple[object, ...], check: str, asan: str) -> None:
    with pytest.raises(HostRunError, match=check if mode == "check" else asan):
        call(mode, name, *arguments)


# Neighbouring static arrays are one range for the checker.
@only("asan")
def test_overrun_of_static_shared_memory_is_reported(mode: str) -> None:
    call(mode, "shared_past_end", torch.ones(64), 0)
    with pytest.raises(HostRunError, match="global-buffer-overflow|out of bounds"):
        call(mode, "shared_past_end", torch.ones(64), 1)


@only("asan")
@pytest.mark.parametrize(("name", "message"), [("divide", "division by zero"), ("shift", "shift exponent")])
def test_undefined_arithmetic_is_reported(mode: str, name: str, message: str) -> None:
    with pytest.raises(HostRunError, match=message):
        call(mode, name, torch.zeros(1, dtype=torch.int32), 0 if name == "divide" else 40)


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("missed_barrier", 3, "63 of 64 threads exited"),
        ("divergent_barrier", 0, r"divergent __syncthreads: block \(0,0,0\) thread"),
        ("lane_not_in_mask", 0, "mask lacks the calling lane"),
        ("masks_disagree", 0, "different masks"),
        ("deadlock", 0, r"deadlock; waiting are\n.*(warp operation|__syncthreads): block"),
    ],
)
def test_bad_synchronisation_is_reported(mode: str, order: str, name: str, argument: int, message: str) -> None:
    with pytest.raises(HostRunError, match=message):
        call(mode, name, argument)


@pytest.mark.parametrize(
    ("blocks", "threads", "shared_bytes", "message"),
    [(0, 32, 0, "grid"), (1, 0, 0, "threads"), (1, 1025, 0, "threads"), (1, 32, 50000, "shared memory")],
)
def test_impossible_launch_is_reported(mode: str, blocks: int, threads: int, shared_bytes: int, message: str) -> None:
    with pytest.raises(HostRunError, match=f"invalid launch.*{message}"):
        call(mode, "launch_nothing", blocks, threads, shared_bytes)


@only("check")
def test_static_shared_memory_counts(mode: str) -> None:
    most = 48 * 1024
    call(mode, "static_and_dynamic", torch.zeros(64), most - 256)
    with pytest.raises(HostRunError, match=f"invalid launch: 256 static and {most - 252} bytes of shared memory"):
        call(mode, "static_and_dynamic", torch.zeros(64), most - 252)


def test_runs_after_an_error(mode: str) -> None:
    with pytest.raises(HostRunError):
        call(mode, "missed_barrier", 3)
    test_dynamic_shared_memory(mode, "fwd")


def test_unknown_order_is_refused(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DX_ORDER", "backwards")
    with pytest.raises(HostRunError, match="DX_ORDER is fwd, rev or a number, got backwards"):
        call(mode, "launch_nothing", 1, 32, 0)


def test_arguments_are_checked(mode: str) -> None:
    out = torch.zeros(1, dtype=torch.float64)
    call(mode, "takes_numbers", out, 0.5, 1.25, 3, True)
    assert out.item() == 5.75
    call(mode, "takes_numbers", out, 1, 2, 3, False)
    assert out.item() == 6
    with pytest.raises(HostRunError, match="argument 3 must be an integer"):
        call(mode, "takes_numbers", out, 1.0, 2.0, 3.0, False)
    with pytest.raises(HostRunError, match="argument 0 must be a buffer"):
        call(mode, "takes_numbers", 1, 1.0, 2.0, 3, False)
    with pytest.raises(HostRunError, match="takes 5 arguments, got 1"):
        call(mode, "takes_numbers", out)
    with pytest.raises(HostRunError, match="there is no such entry"):
        call(mode, "takes_letters", out)
