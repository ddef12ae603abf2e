"""The optional dependencies, choosing by name, and the doctor's report."""

from __future__ import annotations

import importlib.util
import re
import sys

import pytest
import torch

from disentangle_ext import _extension, _extras, _names, build_info, doctor
from disentangle_ext.ops import reference

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_require_returns_the_module():
    import json.decoder

    assert _extras.require("json.decoder", extra="train") is json.decoder


def test_require_names_the_line_that_installs():
    message = 'save_traversals needs no_such_module.part: pip install "disentangle_ext[report]"'
    with pytest.raises(ImportError, match=f"^{re.escape(message)}$") as caught:
        _extras.require("no_such_module.part", extra="report", what="save_traversals")
    assert caught.value.name == "no_such_module.part"


def test_require_does_not_blame_a_module_for_what_it_needs_itself(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_module'"):
        _extras.require("half_installed", extra="report")


def test_the_extras_are_those_of_the_metadata(root):
    declared = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, modules in _extras.EXTRAS.items():
        names = {each.partition(">")[0] for each in declared[extra]}
        assert {name for name in names if not name.startswith("disentangle_ext")} == set(modules.values())


def test_every_file_of_the_package_is_installed(root):
    declared = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    installed = {
        path
        for package, patterns in declared.items()
        for each in patterns
        for path in root.joinpath(*package.split(".")).glob(each)
    }
    built = {".py", ".pyc", ".so", ".pyd", ".json"}
    files = {path for path in (root / "disentangle_ext").rglob("*") if path.is_file() and path.suffix not in built}
    assert root / "disentangle_ext" / "study" / "grids" / "quick.yaml" in files
    assert files == installed


def test_choose_returns_a_known_name():
    assert _names.choose("train: model", "b", ["a", "b"]) == "b"


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("train: model", "mwx", "train: unknown model 'mwx': did you mean 'mws'? known: mss, mws"),
        ("estimator", "zzz", "unknown estimator 'zzz': known: mss, mws"),
    ],
)
def test_choose_suggests_the_nearest_name(kind, name, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        _names.choose(kind, name, {"mws": 1, "mss": 2})


def report(capsys) -> dict[str, str]:
    assert doctor.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len({re.match(r".+? {2,}", line).end() for line in lines}) == 1  # where the texts begin
    return dict(re.split(r" {2,}", line, maxsplit=1) for line in lines)


def test_the_doctor_says_what_there_is(capsys):
    lines = report(capsys)
    labels = ["disentangle_ext", "python", "extension", "torch", "SIMD", "networks", "threads", "OpenMP"]
    assert list(lines)[:9] == [*labels, "CUDA kernels"]
    assert all(lines.values())
    assert {f"extra {extra}" for extra in _extras.EXTRAS} <= set(lines)


def test_the_doctor_says_how_to_get_what_is_missing(capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("PIL", "rich") else find(name))
    lines = report(capsys)
    assert lines["extra report"] == 'missing Pillow: pip install "disentangle_ext[report]"'
    assert lines["extra train"].startswith("missing rich: ")
    assert lines["extra metrics"] == "installed (scikit-learn)"


@pytest.mark.skipif(not _extension.available("cpu"), reason="nothing is compiled")
def test_the_doctor_finds_kernels_that_compute_something_else(capsys, monkeypatch):
    assert report(capsys)["self-test"].endswith("kernels agree with the reference")
    correct = reference.aggregate_posterior
    monkeypatch.setattr(reference, "aggregate_posterior", lambda *inputs: [x + 1e-3 for x in correct(*inputs)])
    assert doctor.main([]) == 1
    assert "problem: the CPU kernels are off by 1.0e-03" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("architecture", "served", "not_served"),
    [
        ("sm_80", [(8, 0), (8, 6), (8, 9)], [(7, 5), (9, 0), (12, 0)]),
        ("sm_86", [(8, 6), (8, 9)], [(8, 0)]),
        ("sm_120", [(12, 0), (12, 1)], [(10, 0), (11, 0)]),
        ("compute_80", [(8, 0), (8, 7), (11, 0), (12, 1)], [(7, 5)]),
        ("compute_120", [(12, 0), (13, 0)], [(11, 0)]),
        ("sm_90a", [(9, 0)], [(9, 1), (10, 0)]),
        ("compute_90a", [(9, 0)], [(10, 0)]),
        ("compute_100f", [(10, 0), (10, 3)], [(11, 0)]),
    ],
)
def test_which_devices_an_architecture_serves(architecture, served, not_served):
    assert all(doctor.serves(architecture, capability) for capability in served)
    assert not any(doctor.serves(architecture, capability) for capability in not_served)


@pytest.mark.parametrize(("capability", "problem"), [((10, 3), False), ((8, 6), True)])
def test_the_doctor_names_a_device_without_kernels(capability, problem, capsys, monkeypatch):
    """Stands in for a machine with one GPU."""
    monkeypatch.setattr(doctor, "tested_devices", lambda: ["cuda"])
    monkeypatch.setattr(doctor, "problem_on", lambda device: "")
    info = build_info() | {"cuda_architectures": "sm_90 compute_90"}
    monkeypatch.setattr(doctor, "build_info", lambda: info)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    assert doctor.main([]) == int(problem)
    said = "problem: the CUDA kernels are compiled for sm_90 compute_90, of which nothing runs on a GPU (sm_86): set "
    assert (said in capsys.readouterr().out) == problem


def test_the_doctor_tries_every_device_that_has_kernels(capsys, monkeypatch):
    """Stands in for a machine with a GPU: the second device is the CPU under another name."""
    monkeypatch.setattr(doctor, "tested_devices", lambda: ["cpu", "cuda"])
    monkeypatch.setattr(_extension, "available", lambda device: True)
    tried = []
    monkeypatch.setattr(doctor, "problem_on", lambda device: tried.append(device) or "")
    assert report(capsys)["self-test"] == "the CPU and the CUDA kernels agree with the reference"
    assert tried == ["cpu", "cuda"]
    monkeypatch.setattr(doctor, "problem_on", lambda device: "the kernels are off" if device == "cuda" else "")
    assert doctor.main([]) == 1
    assert "problem: the kernels are off" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("built_for", "visible", "expected"),
    [
        (None, False, "is a build without CUDA"),
        ("13.0", False, "the driver shows no device"),
        ("13.0", True, "(sm_90)"),
    ],
)
def test_the_doctor_says_which_devices_torch_sees(capsys, monkeypatch, built_for, visible, expected):
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(doctor, "problem_on", lambda device: "")
    assert report(capsys)["CUDA devices"].endswith(expected)


def test_the_doctor_explains_itself(capsys):
    with pytest.raises(SystemExit) as end:
        doctor.main(["--help"])
    assert end.value.code == 0
    assert "compiled" in capsys.readouterr().out
    assert doctor.main(["--no-such-option"]) == 2
    assert capsys.readouterr().err == "doctor: unknown option '--no-such-option': known: --help\n"
