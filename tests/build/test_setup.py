"""setup.py: the toolchain it accepts, the flags it passes, what it says when it stops."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

pytestmark = pytest.mark.builds

ONE_SENTENCE = 1

RECORDING_COMPILER = """#!/bin/sh
case "$*" in *-dumpversion*) echo 12.2.0; exit;; *-v*) echo "gcc version 12.2.0"; exit;; esac
echo "$@" >> {log}
while [ $# -gt 0 ]; do [ "$1" = -o ] && : > "$2"; shift; done
"""


@pytest.fixture
def no_programs(tmp_path: Path) -> str:
    """A PATH on which there is nothing."""
    folder = tmp_path / "no-programs"
    folder.mkdir()
    return str(folder)


SETUP = """
import runpy, sys
sys.argv = ["setup.py", "-q", "build_ext", "--inplace"]
runpy.run_path("setup.py", run_name="__main__")
"""


def test_without_a_compiler_it_stops_with_one_sentence(tree, run_code, no_programs):
    result = run_code(SETUP, path=tree, cwd=tree, PATH=no_programs)
    assert result.returncode == 1
    sentence = result.stderr.strip().splitlines()[-1]
    assert sentence.startswith("disentangle_ext: no C++ compiler found: install one (")
    assert "DISENTANGLE_EXT_BUILD=python" in sentence
    assert "Traceback" not in result.stderr
    assert not (tree / "disentangle_ext" / "_build_config.json").exists()


def test_a_compiler_that_is_not_there_is_named(tree, run_code):
    result = run_code(SETUP, path=tree, cwd=tree, CXX="no-such-compiler -O1")
    assert result.returncode == 1
    assert "CXX=no-such-compiler -O1 is not installed" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", [["--version"], ["build_ext", "--inplace"]])
def test_an_unknown_build_mode_is_refused(tree, run, command):
    result = run("setup.py", *command, cwd=tree, DISENTANGLE_EXT_BUILD="pyton")
    assert result.returncode == 1
    expected = "disentangle_ext: DISENTANGLE_EXT_BUILD must be auto or python, got 'pyton'"
    assert result.stderr.strip() == expected


class Build(NamedTuple):
    tree: Path
    commands: list[list[str]]


@pytest.fixture(scope="module")
def build(shared_tree, run) -> Build:
    """The command lines of a whole build with a compiler that compiles nothing."""
    tree = shared_tree()
    compiler, log = tree.parent / "g++", tree.parent / "log"
    compiler.write_text(RECORDING_COMPILER.format(log=log))
    compiler.chmod(0o755)
    result = run("setup.py", "build_ext", "--inplace", cwd=tree, CXX=str(compiler), DISENTANGLE_EXT_CUDA="0")
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if line.startswith("disentangle_ext: ")]
    assert len(lines) == ONE_SENTENCE
    assert f"C++ files with {compiler} for torch {torch.__version__}; no CUDA: built with " in lines[0]
    return Build(tree, [line.split() for line in log.read_text().splitlines()])


def test_the_compile_commands(build):
    tree, (*compiled, linked) = build
    sources = {str(path.relative_to(tree)) for glob in ("*.cpp", "cpu/*.cpp") for path in (tree / "csrc").glob(glob)}
    assert {str(Path(c[c.index("-c") + 2 - (c.count("-c") < 2)]).relative_to(tree)) for c in compiled} == sources
    for command in compiled:
        assert {"-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"} <= set(command)
        assert f"-I{tree / 'csrc'}" in command
        assert not {"-march=native", "-ffast-math", "-Ofast"} & set(command)
        assert sum(argument.startswith("-std=") for argument in command) == 1  # torch's own
    linux = sys.platform.startswith("linux")
    assert all(("-fopenmp" in command) == linux for command in [*compiled, linked])
    assert "-ltorch_cpu" in linked


def test_the_build_records_what_it_built_for(build):
    config = json.loads((build.tree / "disentangle_ext" / "_build_config.json").read_text())
    assert config["build"] == "compiled"
    assert config["torch"] == torch.__version__
    assert config["reason"] == ""
    assert config["cuda_reason"] == "built with DISENTANGLE_EXT_CUDA=0"
    assert list((build.tree / "disentangle_ext").glob("_C*.so"))


# A toolkit that compiles nothing, and setup.py under a torch that says it was built with CUDA.
RECORDING_NVCC = """#!/bin/sh
case "$*" in
  --version) echo "Cuda compilation tools, release 13.0, V13.0.88"; exit ;;
  --list-gpu-arch) printf 'compute_80\\ncompute_90\\n'; exit ;;
  *--dryrun*) printf '#$ TOP={home}/bin/..\\n#$ INCLUDES="-I{home}/include"\\n#$ LIBRARIES="-L{home}/lib"\\n'; exit ;;
esac
echo "nvcc $@" >> {log}
while [ $# -gt 0 ]; do [ "$1" = -o ] && : > "$2"; shift; done
"""
SETUP_WITH_CUDA = """
import sys, torch
torch.version.cuda, torch.cuda._is_compiled, torch.cuda.is_available = "13.0", lambda: True, lambda: False
sys.argv = ["setup.py", "build_ext", "--inplace"]
exec(compile(open("setup.py").read(), "setup.py", "exec"))
"""


@pytest.fixture(scope="module")
def cuda_build(shared_tree, run) -> Build:
    tree = shared_tree()
    compiler, log, home = (tree.parent / name for name in ("g++", "log", "cuda"))
    for folder in ("bin", "include", "lib"):
        (home / folder).mkdir(parents=True)
    for path, text in ((compiler, RECORDING_COMPILER), (home / "bin" / "nvcc", RECORDING_NVCC)):
        path.write_text(text.format(log=log, home=home))
        path.chmod(0o755)
    result = run("-c", SETUP_WITH_CUDA, cwd=tree, CXX=str(compiler), CUDA_HOME=str(home), DISENTANGLE_EXT_CUDA="1")
    assert result.returncode == 0, result.stderr
    assert "; CUDA kernels with nvcc 13.0 for sm_80 sm_90 compute_80 compute_90\n" in result.stdout
    return Build(tree, [line.split() for line in log.read_text().splitlines()])


def test_the_compile_commands_with_cuda(cuda_build):
    tree = cuda_build.tree
    kernels = [command for command in cuda_build.commands if command[0] == "nvcc"]
    *host, linked = [command for command in cuda_build.commands if command[0] != "nvcc"]
    compiled = {Path(word).name for command in (*kernels, *host) for word in command if word.startswith(str(tree))}
    sources = [*(tree / "csrc" / "cuda").glob("*.cpp"), *(tree / "csrc" / "cuda").glob("*.cu")]
    assert sources
    assert {path.name for path in sources} <= compiled
    assert len(kernels) == len(list((tree / "csrc" / "cuda").glob("*.cu")))
    for command in kernels:
        assert "-gencode=arch=compute_90,code=sm_90" in command
        assert sum("arch" in word for word in command) == 4  # ours alone, none of torch's
        assert sum(word.startswith("-std=") for word in command) == 1
        assert "--use_fast_math" not in command
    for command in host:
        assert '-DDISENTANGLE_EXT_CUDA="13.0"' in command
        assert f"-I{tree.parent}/cuda/include" in command
    assert {"-lc10_cuda", "-ltorch_cuda", "-lcudart", f"-L{tree.parent}/cuda/lib"} <= set(linked)


def test_a_build_with_cuda_gives_no_reason_against_it(cuda_build):
    config = json.loads((cuda_build.tree / "disentangle_ext" / "_build_config.json").read_text())
    assert (config["build"], config["cuda_reason"]) == ("compiled", "")
