"""Importing: what is refused and how that is explained, what is loaded and when."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import disentangle_ext
from disentangle_ext import _extension

MINOR = ".".join(torch.__version__.split(".")[:2])


def configure(package: Path, **settings: str) -> None:
    config = {"build": "compiled", "torch": torch.__version__, "reason": "", "cuda_reason": "", **settings}
    (package / "disentangle_ext" / "_build_config.json").write_text(json.dumps(config))


@pytest.fixture
def broken(package: Path) -> None:
    """Puts a compiled module there that does not load, as one that misses a symbol."""
    (package / "disentangle_ext" / "_C.py").write_text("raise ImportError('_C.so: undefined symbol: _ZN5torch')")


@pytest.fixture
def last_line(package: Path, run_code):
    """The last line of the error that ``import disentangle_ext`` ends with."""

    def last_line() -> str:
        result = run_code("import disentangle_ext", path=package)
        assert result.returncode == 1
        return result.stderr.strip().splitlines()[-1]

    return last_line


def test_another_torch_than_the_one_built_for_explains_itself(package, last_line):
    configure(package, torch="2.3.1")
    line = last_line()
    assert line.startswith(f"ImportError: disentangle_ext was built for torch 2.3.1 and met torch {torch.__version__}")
    assert "`python -m pip install" in line
    assert "'torch==2.3.*'" in line


def test_another_patch_release_of_torch_is_accepted(package, broken, last_line):
    configure(package, torch=f"{MINOR}.99+other")
    assert "undefined symbol" in last_line()  # past the version check


def test_a_compiled_module_that_does_not_load_explains_itself(package, broken, last_line):
    configure(package)
    line = last_line()
    assert "the compiled part of disentangle_ext does not load under Python " in line
    assert "(_C.so: undefined symbol: _ZN5torch)" in line
    assert "build it again with `python -m pip install" in line


def test_a_tree_that_was_not_built_explains_itself(package, last_line):
    line = last_line()
    assert f"{package / 'disentangle_ext'} is a source tree that was not built" in line
    assert f"`python -m pip install -e {package}`, or work from another folder" in line


@pytest.mark.parametrize("torch_version", ["2.3.1", torch.__version__])
def test_the_doctor_runs_where_the_import_fails(package, broken, run, torch_version):
    configure(package, torch=torch_version)
    result = run("-m", "disentangle_ext.doctor", PYTHONPATH=str(package))
    assert result.returncode == 1
    assert result.stderr == ""
    assert f"built for {torch_version}, running {torch.__version__}" in result.stdout
    problem = result.stdout.strip().splitlines()[-1]
    assert problem.startswith("problem: ")
    assert "`python -m pip install" in problem


def test_build_info_describes_this_installation():
    info = disentangle_ext.build_info()
    assert info["version"] == disentangle_ext.__version__
    assert info["torch_running"] == torch.__version__
    assert info["threads"] == torch.get_num_threads()
    assert json.loads(json.dumps(info)) == info
    compiled = info["build"] == "compiled"
    assert _extension.available("cpu") == compiled
    assert _extension.available("cuda") == bool(info["cuda"])
    assert not _extension.available("mps")
    assert bool(info["compiler"]) == bool(info["simd"]) == compiled
    assert bool(info["reason"]) != compiled
    assert bool(info["cuda"]) != bool(info["cuda_reason"])
    if compiled:
        assert ".".join(info["torch_built_for"].split(".")[:2]) == MINOR
        assert info["openmp"] == sys.platform.startswith("linux")


@pytest.mark.parametrize(("cuda", "devices"), [("", ("cpu",)), ("13.0", ("cpu", "cuda"))])
def test_the_devices_are_those_that_the_module_names(cuda, devices):
    module = SimpleNamespace(build_info=lambda: {"cuda": cuda})
    assert _extension._devices(module) == devices
    assert _extension._devices(None) == ()


def test_the_version_is_that_of_the_metadata(root):
    assert f'version = "{disentangle_ext.__version__}"' in (root / "pyproject.toml").read_text()


def test_the_import_brings_torch_and_numpy_only(run, here):
    code = """
import sys, torch, numpy
before = set(sys.modules)
import disentangle_ext
new = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(sorted(name for name in new if not name.startswith("__editable__")))
"""
    result = run("-c", code, PYTHONPATH=here)
    assert result.stdout.strip() == "['disentangle_ext']", result.stderr


def test_submodules_come_by_attribute(run_code, here):
    code = """
import disentangle_ext as dx
for name in ("data", "metrics", "models", "objectives", "ops", "report", "training"):
    assert getattr(dx, name).__name__ == f"disentangle_ext.{name}"
assert set(dx.__all__) <= set(dir(dx))
"""
    result = run_code(code, path=here)
    assert result.returncode == 0, result.stderr


def test_code_that_hangs_is_ended(run_code, here):
    with pytest.raises(subprocess.TimeoutExpired):
        run_code("import time; time.sleep(60)", path=here, timeout=0.2)
    assert run_code("print(1)", path=here).stdout == "1\n"


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'opps'"):
        disentangle_ext.opps  # noqa: B018


@pytest.mark.parametrize("first", ["pass", "import disentangle_ext.runs.load"])
def test_load_is_the_function_whatever_was_imported_before(run_code, here, first):
    code = f"{first}\nimport disentangle_ext as dx; print(type(dx.load).__name__, dx.load.__name__)"
    result = run_code(code, path=here)
    assert result.stdout.strip() == "function load", result.stderr
