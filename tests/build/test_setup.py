"""setup.py: the toolchain it accepts, the flags it passes, what it says when it stops."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

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


def test_without_a_compiler_it_stops_with_one_sentence(tree, run, no_programs):
    result = run("setup.py", "-q", "build_ext", "--inplace", cwd=tree, PATH=no_programs)
    assert result.returncode == 1
    sentence = result.stderr.strip().splitlines()[-1]
    assert sentence.startswith("disentangle_ext: no C++ compiler found: install one (")
    assert "DISENTANGLE_EXT_BUILD=python" in sentence
    assert "Traceback" not in result.stderr
    assert not (tree / "disentangle_ext" / "_build_config.json").exists()


def test_a_compiler_that_is_not_there_is_named(tree, run):
    result = run("setup.py", "-q", "build_ext", "--inplace", cwd=tree, CXX="no-such-compiler -O1")
    assert result.returncode == 1
    assert "CXX=no-such-compiler -O1 is not installed" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", [["--version"], ["build_ext", "--inplace"]])
def test_an_unknown_build_mode_is_refused(tree, run, command):
    result = run("setup.py", *command, cwd=tree, DISENTANGLE_EXT_BUILD="pyton")
    assert result.returncode == 1
    expected = "disentangle_ext: DISENTANGLE_EXT_BUILD must be auto or python, got 'pyton'"
    assert result.stderr.strip() == expected


@pytest.fixture
def commands(tree: Path, tmp_path: Path, run) -> list[list[str]]:
    """The command lines of a whole build with a compiler that compiles nothing."""
    compiler, log = tmp_path / "g++", tmp_path / "log"
    compiler.write_text(RECORDING_COMPILER.format(log=log))
    compiler.chmod(0o755)
    result = run("setup.py", "build_ext", "--inplace", cwd=tree, CXX=str(compiler))
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if line.startswith("disentangle_ext: ")]
    assert len(lines) == ONE_SENTENCE
    assert f"C++ files with {compiler} for torch {torch.__version__}; no CUDA: " in lines[0]
    return [line.split() for line in log.read_text().splitlines()]


def test_the_compile_commands(tree, commands):
    *compiled, linked = commands
    sources = {str(path.relative_to(tree)) for path in (tree / "csrc").rglob("*.cpp")}
    assert {str(Path(c[c.index("-c") + 2 - (c.count("-c") < 2)]).relative_to(tree)) for c in compiled} == sources
    for command in compiled:
        assert {"-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"} <= set(command)
        assert f"-I{tree / 'csrc'}" in command
        assert not {"-march=native", "-ffast-math", "-Ofast"} & set(command)
        assert sum(argument.startswith("-std=") for argument in command) == 1  # torch's own
    linux = sys.platform.startswith("linux")
    assert all(("-fopenmp" in command) == linux for command in [*compiled, linked])
    assert "-ltorch_cpu" in linked


def test_the_build_records_what_it_built_for(tree, commands):
    config = json.loads((tree / "disentangle_ext" / "_build_config.json").read_text())
    assert config["build"] == "compiled"
    assert config["torch"] == torch.__version__
    assert config["reason"] == ""
    assert "CUDA" in config["cuda_reason"]
    assert list((tree / "disentangle_ext").glob("_C*.so"))
