"""The table of `make resources`, from what ptxas prints."""

from __future__ import annotations

import resources
from resources import Kernel

PTXAS = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Zsweep' for 'sm_80'
ptxas info    : Function properties for _Zsweep
    32 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 32 bytes cumulative stack size, 1024 bytes smem
ptxas info    : Compile time = 5.452 ms
ptxas info    : Compiling entry function '_Zgather' for 'sm_80'
ptxas info    : Function properties for _Zgather
    8 bytes stack frame, 8 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers
ptxas info    : Function properties for _Zhelper
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Compiling entry function '_Zsweep' for 'sm_90'
ptxas info    : Function properties for _Zsweep
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 42 registers, used 1 barriers, 1024 bytes smem
"""
NAMES = {
    "_Zsweep": "void dx::cuda::(anonymous namespace)::sweep<float, 10, true>(dx::cuda::Stack<float>, int)",
    "_Zgather": "void dx::cuda::(anonymous namespace)::gather<double>(dx::cuda::Stack<double>)",
}


def test_what_ptxas_prints_is_read():
    assert resources.parse(PTXAS, NAMES) == [
        Kernel("sweep<float, 10, true>", "sm_80", 40, 1024, 0),
        Kernel("gather<double>", "sm_80", 255, 0, 24),
        Kernel("sweep<float, 10, true>", "sm_90", 42, 1024, 0),
    ]


def test_the_table_has_a_line_for_each_kernel():
    lines = resources.table(resources.parse(PTXAS, NAMES)).splitlines()
    assert lines[0].split() == ["kernel", "regs", "sm_80", "regs", "sm_90", "shared", "spilled"]
    assert lines[1].split() == ["gather<double>", "255", "0", "sm_80:24"]
    assert lines[2].split() == ["sweep<float,", "10,", "true>", "40", "42", "1024"]


def test_names_lose_all_but_their_template_arguments():
    long = (
        "void disentangle_ext::cuda::(anonymous namespace)::mmd_pairs<disentangle_ext::cuda::Half, "
        "(disentangle_ext::MmdFunction)3, 8, false>(disentangle_ext::cuda::MmdArguments<float>, void (*)(int))"
    )
    assert resources.shorten(long) == "mmd_pairs<Half, (MmdFunction)3, 8, false>"
    assert resources.shorten("void disentangle_ext::cuda::(anonymous namespace)::fill(float*, int)") == "fill"


def spilling(name: str) -> bool:
    failures, accepted = resources.verdict([Kernel(name, "sm_80", 255, 0, 8)])
    assert len(failures) + len(accepted) == 1
    return bool(failures)


def test_which_spills_fail():
    assert spilling("sweep<float, 10, true>")
    assert spilling("sweep<Half, 16>")
    assert spilling("merge<float>")
    assert spilling("pairs<float, (MmdFunction)4, 16, false>")
    assert not spilling("pairs<float, (MmdFunction)4, 32, false>")
    assert not spilling("sweep<double, 4, true>")
    assert resources.verdict([Kernel("sweep<float, 10>", "sm_80", 255, 0, 0)]) == ([], [])
