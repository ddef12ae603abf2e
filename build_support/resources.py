"""``make resources``: the registers, shared memory and spills of every CUDA kernel, from ptxas; needs nvcc alone.

Fails where a kernel for float32 or a half type spills with up to 16 dimensions, or with any number where its name does
not say. Other spills are listed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cuda_toolchain import ImpossibleError, Plan, Toolkit, default_architectures, find_nvcc, read_toolkit

MOST_DIMENSIONS = 16
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Kernel:
    name: str
    """name<template arguments>"""
    architecture: str
    registers: int
    shared: int
    spilled: int
    """Bytes stored and loaded."""

    def arguments(self) -> list[str]:
        return re.split(r",\s*", self.name.partition("<")[2].rstrip(">"))

    def dimensions(self) -> int | None:
        """The first number among the template arguments; one of an enumeration is written as a cast."""
        return next((int(argument) for argument in self.arguments() if argument.isdigit()), None)

    def must_not_spill(self) -> bool:
        return self.arguments()[0] != "double" and (self.dimensions() or 0) <= MOST_DIMENSIONS


def demangle(symbols: list[str]) -> dict[str, str]:
    program = shutil.which("cu++filt") or shutil.which("c++filt")
    if program is None:
        raise SystemExit("resources: c++filt is not installed (it comes with binutils): kernels would have no names")
    answer = subprocess.run([program], input="\n".join(symbols), capture_output=True, text=True, check=True).stdout
    return dict(zip(symbols, answer.splitlines(), strict=True))


def shorten(name: str) -> str:
    """Strip the return type, the namespaces and the parameters."""
    name = re.sub(r"\(anonymous namespace\)::|<unnamed>::|\b_GLOBAL__N_\w*::", "", name)
    name = re.sub(r"\b(?:\w+::)+", "", name.removeprefix("void "))
    depth = 0
    for place, letter in enumerate(name):
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == "(" and depth == 0:
            return name[:place]
    return name


def parse(text: str, names: dict[str, str] | None = None) -> list[Kernel]:
    """The kernels in what ``ptxas -v`` prints; ``names`` replaces the demangler."""
    found: list[tuple[str, str, str]] = []
    pattern = r"Compiling entry function '(\S+)' for '(\w+)'(.*?)(?=Compiling entry function|\Z)"
    found = re.findall(pattern, text, re.DOTALL)
    names = demangle([symbol for symbol, _, _ in found]) if names is None and found else names or {}
    return [_kernel(shorten(names[symbol]), architecture, body) for symbol, architecture, body in found]


def _kernel(name: str, architecture: str, body: str) -> Kernel:
    registers = re.search(r"Used (\d+) registers", body)
    # Functions that are not inlined come after the kernel, with lines of their own: the first is the kernel's.
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", body)
    if registers is None or spills is None:
        raise SystemExit(f"resources: ptxas says nothing of {name} that can be read")
    shared = re.search(r"(\d+) bytes smem", body)
    return Kernel(
        name, architecture, int(registers[1]), int(shared[1]) if shared else 0, sum(map(int, spills.groups()))
    )


def compile_verbosely(nvcc: str, source: Path, architectures: tuple[str, ...], toolkit: Toolkit) -> str:
    flags = Plan(toolkit, architectures).device_flags()
    command = [nvcc, "-std=c++20", *flags, f"-I{ROOT / 'csrc'}", "-Xptxas", "-v", "-c", str(source), "-o", os.devnull]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        raise SystemExit(f"resources: {source.name} does not compile:\n{answer.stdout}{answer.stderr}")
    return answer.stdout + answer.stderr


def table(kernels: Iterable[Kernel]) -> str:
    """A line for each kernel: its registers on each architecture, its static shared memory, its spills."""
    kernels = list(kernels)
    architectures = list(dict.fromkeys(kernel.architecture for kernel in kernels))
    rows = [("kernel", *(f"regs {name}" for name in architectures), "shared", "spilled")]
    for name in sorted({kernel.name for kernel in kernels}):
        own = {kernel.architecture: kernel for kernel in kernels if kernel.name == name}
        registers = [str(own[a].registers) if a in own else "" for a in architectures]
        spilled = " ".join(f"{a}:{own[a].spilled}" for a in architectures if a in own and own[a].spilled)
        rows.append((name, *registers, str(max(kernel.shared for kernel in own.values())), spilled))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def verdict(kernels: list[Kernel]) -> tuple[list[Kernel], list[Kernel]]:
    """The kernels whose spills fail, and those whose spills are known of."""
    spilling = [kernel for kernel in kernels if kernel.spilled]
    return [k for k in spilling if k.must_not_spill()], [k for k in spilling if not k.must_not_spill()]


def main() -> int:
    parser = argparse.ArgumentParser(prog="build_support/resources.py", description=__doc__)
    parser.add_argument("architectures", nargs="*", help="sm_80, sm_90 and the newest by default")
    parser.add_argument("--source", default="*", help="the stem of one source in csrc/cuda, as in mmd_kernels")
    arguments = parser.parse_args()
    try:
        nvcc = find_nvcc(os.environ)
        toolkit = read_toolkit(nvcc)
        newest = [name for name in default_architectures(toolkit.known) if name.startswith("sm_")][-1]
    except ImpossibleError as error:
        raise SystemExit(f"resources: {error}") from None
    architectures = tuple(dict.fromkeys(arguments.architectures or ("sm_80", "sm_90", newest)))
    sources = sorted((ROOT / "csrc" / "cuda").glob(f"{arguments.source}.cu"))
    if not sources:
        raise SystemExit(f"resources: there is no csrc/cuda/{arguments.source}.cu")
    kernels: list[Kernel] = []
    for source in sources:
        start = time.perf_counter()
        own = parse(compile_verbosely(nvcc, source, architectures, toolkit))
        kernels += own
        print(f"{source.name}: compiled in {time.perf_counter() - start:.0f} s\n\n{table(own)}\n", flush=True)
    failures, known = verdict(kernels)
    for title, chosen in (("spills that are accepted", known), ("SPILLS", failures)):
        for kernel in chosen:
            print(f"{title}: {kernel.name} on {kernel.architecture}, {kernel.spilled} bytes")
    print(f"{len(kernels)} kernels with nvcc {toolkit.version}, {len(failures)} that must not spill and do")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
