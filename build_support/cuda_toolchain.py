"""Whether the CUDA kernels are compiled, with which toolkit and for which architectures.

DISENTANGLE_EXT_CUDA=auto, the default, compiles them where it can; =1, or FORCE_CUDA=1, stops where it cannot; =0 does
not. The build machine needs a toolkit, not a GPU. TORCH_CUDA_ARCH_LIST replaces the architectures below.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from glob import glob
from pathlib import Path

# A binary serves the devices of its major version from its minor version on. 8.6, which 8.9 resembles, has its own:
# its multiprocessor is another than that of 8.0. The PTX of the newest is for devices that come after it. That of the
# oldest is for those in between, as 8.7 and 11.0, the modules for robots: the driver compiles it once, and the build,
# which makes it on the way to a binary, is not longer for it.
DEFAULT_ARCHITECTURES = ("80", "86", "90", "100", "120")
OLDEST_ARCHITECTURE = 80
# The names that torch.utils.cpp_extension takes. Of an architecture that is too old only that matters.
TOO_OLD = "7.5"
NAMED = {
    **dict.fromkeys(("Kepler", "Kepler+Tesla", "Maxwell", "Maxwell+Tegra", "Pascal", "Volta", "Volta+Tegra"), TOO_OLD),
    "Turing": TOO_OLD,
    "Ampere": "8.0;8.6+PTX",
    "Ampere+Tegra": "8.7",
    "Ada": "8.9+PTX",
    "Hopper": "9.0+PTX",
    "Blackwell": "10.0;10.3;12.0;12.1+PTX",
    "Blackwell+Tegra": "11.0",
    "Rubin": "10.7+PTX",
}


class ImpossibleError(Exception):
    """The CUDA kernels cannot be compiled; the message says why."""


@dataclass(frozen=True)
class Toolkit:
    home: Path
    version: str
    known: tuple[str, ...]
    """What nvcc compiles for: 80, 90, ..."""
    include_dirs: tuple[str, ...]
    library_dirs: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What is compiled for CUDA: without a toolkit nothing, and ``reason`` says why."""

    toolkit: Toolkit | None
    architectures: tuple[str, ...] = ()
    """sm_80, ... are binaries, compute_120 is PTX."""
    reason: str = ""

    def __str__(self) -> str:
        if self.toolkit is None:
            return f"no CUDA: {self.reason}"
        return f"CUDA kernels with nvcc {self.toolkit.version} for {' '.join(self.architectures)}"

    def sources(self) -> list[str]:
        """The sources, those of nvcc first: one of them takes longest, and should not be what is left at the end."""
        return [*sorted(glob("csrc/cuda/*.cu")), *sorted(glob("csrc/cuda/*.cpp"))] if self.toolkit else []

    def host_flags(self, site_packages: Path) -> list[str]:
        """Flags for the C++ compiler. Headers installed with torch fill the gaps of a toolkit without libraries."""
        if self.toolkit is None:
            return []
        packaged = [f"-idirafter{path}" for path in sorted(site_packages.glob("nvidia/*/include"))]
        architectures = " ".join(self.architectures)
        return [
            f'-DDISENTANGLE_EXT_CUDA="{self.toolkit.version}"',
            f'-DDISENTANGLE_EXT_CUDA_ARCHITECTURES="{architectures}"',
            *packaged,
        ]

    def device_flags(self) -> list[str]:
        """Flags for nvcc. No --use_fast_math, for the reasons that the C++ compiler gets no -ffast-math."""
        codes = [f"-gencode=arch=compute_{name.partition('_')[2]},code={name}" for name in self.architectures]
        return ["-O3", "-DNDEBUG", *codes]

    def link_arguments(self) -> dict[str, list[str]]:
        """Where the linker looks and what it takes."""
        if self.toolkit is None:
            return {"library_dirs": [], "libraries": []}
        return {"library_dirs": list(self.toolkit.library_dirs), "libraries": ["c10_cuda", "torch_cuda", "cudart"]}


def switch(environment: Mapping[str, str]) -> str:
    value = environment.get("DISENTANGLE_EXT_CUDA") or ("1" if environment.get("FORCE_CUDA") == "1" else "auto")
    if value not in ("auto", "0", "1"):
        raise SystemExit(f"disentangle_ext: DISENTANGLE_EXT_CUDA must be auto, 0 or 1, got {value!r}")
    return value


def find_nvcc(environment: Mapping[str, str]) -> str:
    home = environment.get("CUDA_HOME") or environment.get("CUDA_PATH")
    if home:
        found, places = shutil.which("nvcc", path=str(Path(home, "bin"))), f"CUDA_HOME={home}"
    else:
        found = shutil.which("nvcc", path=environment.get("PATH")) or shutil.which("/usr/local/cuda/bin/nvcc")
        places = "PATH or /usr/local/cuda"
    if found is None:
        raise ImpossibleError(f"no nvcc found in {places}")
    return found


def _ask(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ImpossibleError(f"`{shlex.join(command)}` fails: {getattr(error, 'stdout', None) or error}") from None


def _directories(dry_run: str, variable: str, option: str) -> tuple[str, ...]:
    line = re.search(rf"^#\$ {variable}=(.*)$", dry_run, re.MULTILINE)
    words = shlex.split(line[1]) if line else []
    paths = [Path(word.removeprefix(option)).resolve() for word in words if word.startswith(option)]
    return tuple(str(path) for path in paths if path.is_dir() and path.name != "stubs")


def read_toolkit(nvcc: str) -> Toolkit:
    """Ask nvcc itself: on PATH there may be a link or a script that leads to it, so its own path says little."""
    release = re.search(r"release (\d+\.\d+)", _ask(nvcc, "--version"))
    known = re.findall(r"^compute_(\d+)$", _ask(nvcc, "--list-gpu-arch"), re.MULTILINE)
    with tempfile.NamedTemporaryFile(suffix=".cu") as empty:
        dry_run = _ask(nvcc, "--dryrun", "-c", empty.name, "-o", "/dev/null")
    top = re.search(r"^#\$ TOP=(.*)$", dry_run, re.MULTILINE)
    if not (release and known and top):
        raise ImpossibleError(f"{nvcc} does not say its version, its architectures or where its toolkit is")
    include_dirs = _directories(dry_run, "INCLUDES", "-I")
    library_dirs = _directories(dry_run, "LIBRARIES", "-L")
    return Toolkit(Path(top[1]).resolve(), release[1], tuple(sorted(known, key=int)), include_dirs, library_dirs)


def default_architectures(known: tuple[str, ...]) -> tuple[str, ...]:
    chosen = [number for number in DEFAULT_ARCHITECTURES if number in known]
    if not chosen:
        raise ImpossibleError(f"nvcc compiles for none of {', '.join(DEFAULT_ARCHITECTURES)}")
    ptx = dict.fromkeys((chosen[0], chosen[-1]))
    return (*(f"sm_{number}" for number in chosen), *(f"compute_{number}" for number in ptx))


def _unknown(word: str, known: tuple[str, ...]) -> SystemExit:
    accepted = ", ".join(f"{number[:-1]}.{number[-1]}" for number in known)
    return SystemExit(f"disentangle_ext: TORCH_CUDA_ARCH_LIST has {word!r}; this nvcc compiles for {accepted}")


def listed_architectures(
    text: str, known: tuple[str, ...], visible: Callable[[], list[tuple[int, int]]]
) -> tuple[str, ...]:
    """TORCH_CUDA_ARCH_LIST as torch reads it: "8.0;Ada;9.0+PTX", separated by semicolons or spaces, or "native".

    Architectures before 8.0 are left out, since lists that serve several projects often name them.
    """
    if text.strip() == "native":
        text = ";".join(f"{major}.{minor}" for major, minor in sorted(set(visible())))
        if not text:
            raise ImpossibleError("TORCH_CUDA_ARCH_LIST=native, and torch sees no CUDA device")
    words = [part for word in re.split(r"[;,\s]+", text) if word for part in NAMED.get(word, word).split(";")]
    binaries, ptx = [], []
    for word in words:
        parsed = re.fullmatch(r"(\d+)\.(\d)([af]?)(\+PTX)?", word)
        if parsed is None:
            raise _unknown(word, known)
        number = parsed[1] + parsed[2]
        if int(number) < OLDEST_ARCHITECTURE:
            continue
        if number not in known:
            raise _unknown(word, known)
        binaries.append(f"sm_{number}{parsed[3]}")
        ptx += [f"compute_{number}{parsed[3]}"] if parsed[4] else []
    if not binaries:
        raise ImpossibleError(f"TORCH_CUDA_ARCH_LIST={text!r} has nothing from 8.0 on, which the kernels need")
    return tuple(dict.fromkeys([*binaries, *ptx]))


def visible_devices() -> list[tuple[int, int]]:
    import torch

    return [torch.cuda.get_device_capability(index) for index in range(torch.cuda.device_count())]


def decide(environment: Mapping[str, str], torch: str, torch_cuda: str | None) -> Plan:
    """The plan for a version of torch that was built with this CUDA; raises ImpossibleError."""
    if torch_cuda is None:
        raise ImpossibleError(f"torch {torch} is a build without CUDA")
    toolkit = read_toolkit(find_nvcc(environment))
    if toolkit.version.split(".")[0] != torch_cuda.split(".")[0]:
        raise ImpossibleError(
            f"nvcc is of CUDA {toolkit.version} and torch of CUDA {torch_cuda}: the major versions differ"
        )
    listed = environment.get("TORCH_CUDA_ARCH_LIST")
    if listed:
        return Plan(toolkit, listed_architectures(listed, toolkit.known, visible_devices))
    return Plan(toolkit, default_architectures(toolkit.known))


def plan(environment: MutableMapping[str, str], torch: str, torch_cuda: str | None) -> Plan:
    """What to compile; the toolkit also goes into CUDA_HOME, where torch looks when its build tools are imported."""
    asked = switch(environment)
    if asked == "0":
        return Plan(None, reason="built with DISENTANGLE_EXT_CUDA=0")
    try:
        chosen = decide(environment, torch, torch_cuda)
    except ImpossibleError as error:
        if asked == "1":
            raise SystemExit(f"disentangle_ext: DISENTANGLE_EXT_CUDA=1 cannot be met: {error}") from None
        return Plan(None, reason=str(error))
    if chosen.toolkit:
        environment["CUDA_HOME"] = str(chosen.toolkit.home)
    return chosen
