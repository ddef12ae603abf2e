"""``python -m disentangle_ext.doctor``: what this installation has, what it lacks and how to get it."""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from disentangle_ext import _extension, _extras, build_info
from disentangle_ext._program import Parser, launch, outcome
from disentangle_ext.engine.device import fastest_precision

Line = tuple[str, str]
LABELS = {"cpu": "CPU", "cuda": "CUDA"}


def extension_lines() -> Iterator[Line]:
    """What was built, and what it runs on."""
    info = build_info()
    yield "disentangle_ext", f"{info['version']} in {Path(__file__).resolve().parent}"
    yield "python", f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    yield "extension", extension(info)
    yield "torch", f"built for {info['torch_built_for'] or 'any'}, running {info['torch_running']}"
    yield "SIMD", info["simd"] or "that of torch: the ops run as plain PyTorch"
    yield "networks", f"fastest with --precision {fastest_precision(torch.device('cpu'))} on this CPU"
    yield "threads", str(info["threads"])
    yield "OpenMP", openmp(info["openmp"])
    yield "CUDA kernels", cuda_kernels(info["cuda"], info["cuda_architectures"], info["cuda_reason"])
    yield "CUDA devices", cuda_devices()


def extension(info: dict[str, Any]) -> str:
    if _extension.PROBLEM:
        return "broken: see the problem below"
    if info["build"] == "compiled":
        return f"compiled with {info['compiler']}"
    found = next((path for path in map(shutil.which, ("c++", "g++", "clang++")) if path), None)
    return f"not compiled: {info['reason']} ({f'{found} could compile it' if found else 'there is no C++ compiler'})"


def openmp(compiled_in: bool) -> str:
    if compiled_in:
        return "yes"
    if _extension.MODULE is None:
        return "not used: nothing is compiled"
    return "no: the kernels run on one thread (the compilers of macOS come without it)"


def cuda_kernels(toolkit: str, architectures: str, reason: str) -> str:
    return f"compiled with CUDA {toolkit} for {architectures}" if toolkit else f"not compiled: {reason}"


def cuda_devices() -> str:
    if torch.version.cuda is None:
        return f"none: torch {torch.__version__} is a build without CUDA"
    if not torch.cuda.is_available():
        return f"none: torch is built for CUDA {torch.version.cuda}, the driver shows no device"
    return ", ".join(map(cuda_device, range(torch.cuda.device_count())))


def cuda_device(index: int) -> str:
    major, minor = torch.cuda.get_device_capability(index)
    return f"{torch.cuda.get_device_name(index)} (sm_{major}{minor})"


def serves(architecture: str, capability: tuple[int, int]) -> bool:
    """Whether code for sm_80, a binary, or compute_80, PTX, runs on a device of this compute capability.

    A binary serves its major version from its minor version on, PTX all that is not older. What uses the features of
    one architecture ("a") or of its family ("f") serves no other.
    """
    parsed = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", architecture)
    assert parsed, architecture
    kind, major, minor, features = parsed[1], int(parsed[2]), int(parsed[3]), parsed[4]
    if features == "a":
        return capability == (major, minor)
    if kind == "sm" or features == "f":
        return capability[0] == major and capability[1] >= minor
    return capability >= (major, minor)


def unserved_device() -> str:
    """Say what is wrong if the CUDA kernels are compiled for other GPUs than those of this machine; "" if nothing."""
    architectures = build_info()["cuda_architectures"]
    for index in range(torch.cuda.device_count()) if "cuda" in tested_devices() else ():
        if not any(serves(name, torch.cuda.get_device_capability(index)) for name in architectures.split()):
            return (
                f"the CUDA kernels are compiled for {architectures}, of which nothing runs on {cuda_device(index)}: "
                f"set TORCH_CUDA_ARCH_LIST=native and build them again with {_extension.BUILD_AGAIN}"
            )
    return ""


def kernel_problem() -> str:
    """Say what is wrong with the kernels in use, by one small problem; "" if nothing, as without kernels."""
    return unserved_device() or next(filter(None, map(problem_on, tested_devices())), "")


def tested_devices() -> list[str]:
    """The devices that have compiled kernels to try."""
    usable = {"cpu": True, "cuda": torch.cuda.is_available()}
    return [device for device, there in usable.items() if there and _extension.available(device)]


def problem_on(device: str) -> str:
    """Say how the kernel of a device differs from the formula; "" if it does not."""
    from disentangle_ext import ops
    from disentangle_ext.ops import reference

    inputs = torch.linspace(-2, 2, 3 * 37 * 5, dtype=torch.float64).sin().view(3, 37, 5).to(device)
    try:
        pairs = zip(ops.aggregate_posterior(*inputs), reference.aggregate_posterior(*inputs))
        errors = [float((kernel - expected).abs().max()) for kernel, expected in pairs]
    except (RuntimeError, AttributeError) as error:
        again = _extension.BUILD_AGAIN
        return f"the {LABELS[device]} kernels do not run ({error}): build them again with {again}"
    if max(errors) < 1e-10:
        return ""
    off = f"the {LABELS[device]} kernels are off by {max(errors):.1e} from the reference"
    return f"{off}: please report this with the lines above"


def self_test(problem: str) -> str:
    if problem:
        return "failed"
    return f"the {' and the '.join(LABELS[device] for device in tested_devices())} kernels agree with the reference"


def extra_lines() -> Iterator[Line]:
    for extra, modules in _extras.EXTRAS.items():
        missing = [name for module, name in modules.items() if importlib.util.find_spec(module) is None]
        if missing:
            remedy = f'pip install "disentangle_ext[{extra}]"'
            yield f"extra {extra}", f"missing {', '.join(missing)}: {remedy}"
        else:
            yield f"extra {extra}", f"installed ({', '.join(modules.values())})"


def main(arguments: list[str] | None = None) -> int:
    """Print the report and return the exit code."""
    return outcome("doctor", lambda: _report(arguments))


def _report(arguments: list[str] | None) -> int:
    parser = Parser(
        prog="python -m disentangle_ext.doctor",
        description="Say what of disentangle_ext is compiled, for what, and why not more. "
        "Exits with 1 if the compiled extension is broken, else with 0.",
    )
    parser.read(arguments)
    problem = _extension.PROBLEM or kernel_problem()
    tested = [("self-test", self_test(problem))] if _extension.available("cpu") else []
    lines = [*extension_lines(), *tested, *extra_lines()]
    width = max(len(label) for label, _ in lines)
    for label, text in lines:
        print(f"{label:<{width}}  {text}")
    if problem:
        print(f"\nproblem: {problem}")
    return 1 if problem else 0


if __name__ == "__main__":
    launch(main)
