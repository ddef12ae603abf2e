"""Whether the CUDA kernels are compiled, with what and for which devices: every answer, without a GPU or a toolkit."""

from __future__ import annotations

from pathlib import Path

import cuda_toolchain
import pytest
from cuda_toolchain import ImpossibleError, Plan, Toolkit

KNOWN = ("75", "80", "86", "87", "89", "90", "100", "103", "110", "120", "121")
DEFAULT = ("sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_80", "compute_120")
TOOLKIT = Toolkit(Path("/cuda"), "13.0", KNOWN, ("/cuda/include",), ("/cuda/lib",))

# What nvcc 13.0 answers, cut to what is read.
NVCC = """#!/bin/sh
case "$*" in
  --version) echo "Cuda compilation tools, release {version}, V{version}.88" ;;
  --list-gpu-arch) printf 'compute_75\\ncompute_80\\ncompute_90\\ncompute_120\\n' ;;
  *--dryrun*) cat >&2 <<END
#\\$ _HERE_={home}/bin
#\\$ TOP={home}/bin/..
#\\$ INCLUDES="-I{home}/bin/../targets/x86_64-linux/include"
#\\$ LIBRARIES=  "-L{home}/bin/../lib/stubs" "-L{home}/bin/../lib"
#\\$ gcc -D__CUDA_ARCH_LIST__=750 -E
END
  ;;
esac
"""


@pytest.fixture
def toolkit(tmp_path: Path):
    """A toolkit of the given version that only answers; returns its folder."""

    def make(version: str = "13.0") -> Path:
        home = tmp_path / f"cuda-{version}"
        for folder in ("bin", "targets/x86_64-linux/include", "lib/stubs"):
            (home / folder).mkdir(parents=True)
        (home / "bin" / "nvcc").write_text(NVCC.format(version=version, home=home))
        (home / "bin" / "nvcc").chmod(0o755)
        return home

    return make


@pytest.fixture
def made_by_hand(monkeypatch):
    monkeypatch.setattr(cuda_toolchain, "find_nvcc", lambda environment: "nvcc")
    monkeypatch.setattr(cuda_toolchain, "read_toolkit", lambda nvcc: TOOLKIT)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "auto"),
        ({"DISENTANGLE_EXT_CUDA": ""}, "auto"),
        ({"DISENTANGLE_EXT_CUDA": "0"}, "0"),
        ({"DISENTANGLE_EXT_CUDA": "1"}, "1"),
        ({"FORCE_CUDA": "1"}, "1"),
        ({"FORCE_CUDA": "0"}, "auto"),
        ({"FORCE_CUDA": "1", "DISENTANGLE_EXT_CUDA": "0"}, "0"),
    ],
)
def test_the_switch(environment, expected):
    assert cuda_toolchain.switch(environment) == expected


def test_another_value_of_the_switch_is_refused():
    with pytest.raises(SystemExit, match="DISENTANGLE_EXT_CUDA must be auto, 0 or 1, got 'yes'"):
        cuda_toolchain.switch({"DISENTANGLE_EXT_CUDA": "yes"})


@pytest.mark.parametrize("torch_cuda", ["13.0", "13.2"])
def test_equal_major_versions_are_compiled(made_by_hand, torch_cuda):
    environment: dict[str, str] = {}
    plan = cuda_toolchain.plan(environment, "2.14.1", torch_cuda)
    assert (plan.toolkit, plan.architectures, plan.reason) == (TOOLKIT, DEFAULT, "")
    assert environment["CUDA_HOME"] == "/cuda"
    assert str(plan) == f"CUDA kernels with nvcc 13.0 for {' '.join(DEFAULT)}"


@pytest.mark.parametrize(
    ("environment", "torch_cuda", "reason"),
    [
        ({"DISENTANGLE_EXT_CUDA": "0"}, "13.0", "built with DISENTANGLE_EXT_CUDA=0"),
        ({}, None, "torch 2.14.1 is a build without CUDA"),
        ({}, "12.8", "nvcc is of CUDA 13.0 and torch of CUDA 12.8: the major versions differ"),
        ({"TORCH_CUDA_ARCH_LIST": "7.0 7.5"}, "13.0", "TORCH_CUDA_ARCH_LIST='7.0 7.5' has nothing from 8.0 on"),
        ({"TORCH_CUDA_ARCH_LIST": "Turing"}, "13.0", "TORCH_CUDA_ARCH_LIST='Turing' has nothing from 8.0 on"),
    ],
)
def test_what_is_not_compiled_says_why(made_by_hand, environment, torch_cuda, reason):
    plan = cuda_toolchain.plan(environment, "2.14.1", torch_cuda)
    assert plan.toolkit is None
    assert plan.reason.startswith(reason)
    assert str(plan) == f"no CUDA: {plan.reason}"
    assert (plan.sources(), plan.host_flags(Path())) == ([], [])
    assert "CUDA_HOME" not in environment


@pytest.mark.parametrize("name", ["DISENTANGLE_EXT_CUDA", "FORCE_CUDA"])
def test_what_is_asked_for_and_cannot_be_compiled_stops(made_by_hand, name):
    with pytest.raises(SystemExit, match="DISENTANGLE_EXT_CUDA=1 cannot be met: torch 2.13.0.cpu is a build"):
        cuda_toolchain.plan({name: "1"}, "2.13.0+cpu", None)


def test_the_toolkit_is_found_behind_a_script_on_the_path(toolkit, tmp_path):
    home = toolkit()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").write_text(f'#!/bin/sh\nexec {home}/bin/nvcc "$@"\n')
    (tmp_path / "bin" / "nvcc").chmod(0o755)
    found = cuda_toolchain.read_toolkit(cuda_toolchain.find_nvcc({"PATH": str(tmp_path / "bin")}))
    assert (found.home, found.version, found.known) == (home, "13.0", ("75", "80", "90", "120"))
    assert found.include_dirs == (str(home / "targets/x86_64-linux/include"),)
    assert found.library_dirs == (str(home / "lib"),)


@pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH"])
def test_the_toolkit_that_is_named_comes_first(toolkit, variable):
    old, new = toolkit("12.8"), toolkit("13.0")
    nvcc = cuda_toolchain.find_nvcc({"PATH": str(old / "bin"), variable: str(new)})
    assert cuda_toolchain.read_toolkit(nvcc).version == "13.0"


def test_a_named_toolkit_without_nvcc_is_said(toolkit, tmp_path):
    path = str(toolkit() / "bin")
    with pytest.raises(ImpossibleError, match=f"no nvcc found in CUDA_HOME={tmp_path}"):
        cuda_toolchain.find_nvcc({"PATH": path, "CUDA_HOME": str(tmp_path)})


def test_an_nvcc_that_fails_is_said(tmp_path):
    (tmp_path / "nvcc").write_text("#!/bin/sh\necho no licence; exit 1\n")
    (tmp_path / "nvcc").chmod(0o755)
    with pytest.raises(ImpossibleError, match="nvcc --version` fails: no licence"):
        cuda_toolchain.read_toolkit(str(tmp_path / "nvcc"))


def test_the_default_keeps_to_what_the_toolkit_knows():
    assert cuda_toolchain.default_architectures(KNOWN) == DEFAULT
    assert cuda_toolchain.default_architectures(("75", "80", "90")) == ("sm_80", "sm_90", "compute_80", "compute_90")
    assert cuda_toolchain.default_architectures(("75", "80")) == ("sm_80", "compute_80")
    with pytest.raises(ImpossibleError, match="nvcc compiles for none of 80, "):
        cuda_toolchain.default_architectures(("70", "75"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9.0", ("sm_90",)),
        ("8.0;9.0+PTX", ("sm_80", "sm_90", "compute_90")),
        ("7.5 8.0 12.0+PTX", ("sm_80", "sm_120", "compute_120")),
        ("9.0a", ("sm_90a",)),
        ("Hopper", ("sm_90", "compute_90")),
        ("Ampere;8.0", ("sm_80", "sm_86", "compute_86")),
        ("Volta;Ampere", ("sm_80", "sm_86", "compute_86")),
        ("Pascal Turing Volta+Tegra Ada", ("sm_89", "compute_89")),
        ("Ampere+Tegra", ("sm_87",)),
        ("Ampere+Tegra;Blackwell+Tegra", ("sm_87", "sm_110")),
        ("Blackwell", ("sm_100", "sm_103", "sm_120", "sm_121", "compute_121")),
        ("native", ("sm_80", "sm_90")),
    ],
)
def test_the_list_of_architectures(text, expected):
    visible = [(9, 0), (8, 0), (9, 0)]
    assert cuda_toolchain.listed_architectures(text, KNOWN, lambda: visible) == expected


@pytest.mark.parametrize("word", ["9,0x", "13.0", "sm_90", "Rubin", "Fermi", "Ampere+PTX"])
def test_an_unknown_architecture_stops_the_build(word):
    with pytest.raises(SystemExit, match="TORCH_CUDA_ARCH_LIST has .*; this nvcc compiles for 7.5, 8.0, "):
        cuda_toolchain.listed_architectures(f"8.0;{word}", KNOWN, list)


def test_native_needs_a_device():
    with pytest.raises(ImpossibleError, match="torch sees no CUDA device"):
        cuda_toolchain.listed_architectures("native", KNOWN, list)


def test_the_flags(tmp_path):
    (tmp_path / "nvidia" / "cu13" / "include").mkdir(parents=True)
    plan = Plan(TOOLKIT, ("sm_80", "sm_90a", "compute_120"))
    assert plan.host_flags(tmp_path) == [
        '-DDISENTANGLE_EXT_CUDA="13.0"',
        '-DDISENTANGLE_EXT_CUDA_ARCHITECTURES="sm_80 sm_90a compute_120"',
        f"-idirafter{tmp_path}/nvidia/cu13/include",
    ]
    assert plan.device_flags()[-3:] == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90a,code=sm_90a",
        "-gencode=arch=compute_120,code=compute_120",
    ]
    assert not any("fast" in flag or flag.startswith("-std") for flag in plan.device_flags())


def test_no_two_sources_share_an_object_file(root, monkeypatch):
    monkeypatch.chdir(root)
    sources = [*map(str, Path("csrc").glob("*.cpp")), *map(str, Path("csrc/cpu").glob("*.cpp"))]
    objects = [str(Path(source).with_suffix(".o")) for source in [*sources, *Plan(TOOLKIT).sources()]]
    assert len(objects) == len(set(objects))


@pytest.mark.parametrize(
    ("version", "standard"), [("2.11.0+cu130", True), ("2.12.0", False), ("2.14.1", False), ("3.0.0", False)]
)
def test_the_language_standard_is_given_once(version, standard):
    from cxx_toolchain import language

    assert bool(language(version)) == standard


def test_a_build_without_compiled_code_that_must_have_cuda_is_refused(tree, run):
    result = run("setup.py", "--version", cwd=tree, DISENTANGLE_EXT_BUILD="python", FORCE_CUDA="1")
    assert result.returncode == 1
    assert "DISENTANGLE_EXT_BUILD=python compiles nothing" in result.stderr
