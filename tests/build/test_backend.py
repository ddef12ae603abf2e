"""The PEP 517 backend: the torch it builds against, the metadata that follows, and what goes into an archive."""

from __future__ import annotations

import email
import json
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import setuptools
import torch

pytestmark = pytest.mark.builds

MINOR = ".".join(torch.__version__.split(".")[:2])

# What pip does to the interpreter of its build environment: the prefix stays, site-packages goes. The build
# requirements come back in a folder of their own.
ISOLATED = """
import json, sys
sys.path[:] = [p for p in sys.path if not p.endswith(("site-packages", "dist-packages"))]
sys.path[:0] = [{requirements!r}, {backend!r}]
import backend
result = getattr(backend, {hook!r})({arguments})
torch = sys.modules.get("torch") or __import__("importlib.util").util.find_spec("torch")
print(json.dumps(dict(result=result, torch=torch and str(getattr(torch, "origin", None) or torch.__file__))))
"""


@pytest.fixture
def hook(tree: Path, tmp_path: Path, run):
    """Call a hook of the backend, in the source tree, from within an isolated build."""
    requirements = tmp_path / "requirements"
    requirements.mkdir()
    site = Path(setuptools.__file__).parents[1]
    for part in [*site.glob("setuptools*"), *site.glob("_distutils_hack")]:  # its metadata lists the commands
        (requirements / part.name).symlink_to(part)

    def call(name: str, arguments: str = "", *, cwd: Path = tree, python: str = sys.executable, **variables: str):
        code = ISOLATED.format(
            requirements=str(requirements), backend=str(cwd / "build_support"), hook=name, arguments=arguments
        )
        result = run("-c", code, cwd=cwd, python=python, **variables)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout.splitlines()[-1])

    return call


@pytest.fixture
def bare_python(tmp_path: Path) -> str:
    """The interpreter of an environment in which nothing is installed."""
    venv.create(tmp_path / "bare", symlinks=True, with_pip=False)
    return str(tmp_path / "bare" / "bin" / "python")


def dependencies(metadata: str) -> list[str]:
    """The Requires-Dist lines that belong to no extra."""
    required = email.message_from_string(metadata).get_all("Requires-Dist") or []
    return [line for line in required if "extra ==" not in line]


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_torch_of_the_environment_is_found(hook, kind):
    answer = hook(f"get_requires_for_build_{kind}")
    assert not [line for line in answer["result"] if line.startswith("torch")]
    assert Path(answer["torch"]) == Path(torch.__file__)


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_torch_is_required_where_there_is_none(hook, bare_python, kind):
    answer = hook(f"get_requires_for_build_{kind}", python=bare_python)
    assert answer["torch"] is None
    assert "torch>=2.11" in answer["result"]


def test_a_pure_python_build_requires_no_torch(hook, bare_python):
    answer = hook("get_requires_for_build_wheel", python=bare_python, DISENTANGLE_EXT_BUILD="python")
    assert not [line for line in answer["result"] if line.startswith("torch")]


@pytest.mark.parametrize(("mode", "expected"), [("auto", f"torch=={MINOR}.*"), ("python", "torch>=2.11")])
def test_the_metadata_names_the_torch_it_was_built_for(hook, tmp_path, mode, expected):
    answer = hook("prepare_metadata_for_build_wheel", repr(str(tmp_path)), DISENTANGLE_EXT_BUILD=mode)
    metadata = (tmp_path / answer["result"] / "METADATA").read_text()
    assert sorted(dependencies(metadata)) == ["numpy>=1.26", expected]


@pytest.fixture
def unpacked(hook, bare_python, tmp_path: Path) -> Path:
    """The contents of an sdist, made where there is no torch."""
    name = hook("build_sdist", repr(str(tmp_path)), python=bare_python)["result"]
    with tarfile.open(tmp_path / name) as archive:
        archive.extractall(tmp_path / "unpacked", **({"filter": "data"} if sys.version_info >= (3, 12) else {}))
    (folder,) = (tmp_path / "unpacked").iterdir()
    return folder


def files(tree: Path, folder: str) -> set[Path]:
    found = (path.relative_to(tree) for path in (tree / folder).rglob("*") if path.is_file())
    return {path for path in found if "__pycache__" not in path.parts}


def test_an_sdist_has_what_a_build_needs_and_nothing_built(tree, unpacked):
    for folder in ("csrc", "build_support", "disentangle_ext"):
        assert files(unpacked, folder) == files(tree, folder)
    assert (unpacked / "setup.py").is_file()


OPS = """
import torch, disentangle_ext as dx
from disentangle_ext import _extension, ops
assert dx.build_info()["build"] == "python" and not _extension.available("cpu")
mu, logvar = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
z, kl = ops.rsample_kl(mu.requires_grad_(), logvar)
kl.sum().backward()
torch.testing.assert_close(kl, 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1))
torch.testing.assert_close(mu.grad, mu.detach())
parts = ops.elbo_decomposition(z.detach(), mu, logvar, dataset_size=100)
assert all(torch.isfinite(part).all() for part in parts)
print(dx.__file__)
"""


def test_a_pure_python_wheel_of_an_sdist_runs_the_ops(hook, bare_python, unpacked, tmp_path, run, run_code):
    wheel = hook("build_wheel", repr(str(tmp_path)), cwd=unpacked, python=bare_python, DISENTANGLE_EXT_BUILD="python")[
        "result"
    ]
    assert wheel.endswith("py3-none-any.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(tmp_path / wheel) as archive:
        archive.extractall(installed)
    assert (installed / "disentangle_ext" / "py.typed").is_file()

    result = run_code(OPS, path=installed)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).is_relative_to(installed)
    doctor = run("-m", "disentangle_ext.doctor", PYTHONPATH=str(installed))
    assert doctor.returncode == 0, doctor.stderr
    assert "not compiled: installed with DISENTANGLE_EXT_BUILD=python" in doctor.stdout
