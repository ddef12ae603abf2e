"""disentangle_ext.load."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import disentangle_ext
from disentangle_ext._errors import MistakeError
from disentangle_ext.models import build_vae
from disentangle_ext.runs.checkpoint import save_tensors
from disentangle_ext.runs.folder import RunFolder
from disentangle_ext.runs.load import load_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What a finished run leaves, as far as loading goes."""
    torch.manual_seed(0)
    model = build_vae("conv", (1, 32, 32), 4, base_channels=4, init="torch")
    (tmp_path / "config.yaml").touch()
    save_tensors(tmp_path / "model.safetensors", model.state_dict(), {"vae": model.architecture})
    return tmp_path


def test_round_trip(run: Path) -> None:
    torch.manual_seed(0)
    want = build_vae("conv", (1, 32, 32), 4, base_channels=4, init="torch")
    torch.manual_seed(1)
    for path in (run, str(run), run / "model.safetensors"):
        model = disentangle_ext.load(path)
        images = torch.rand(3, 1, 32, 32)
        mu, logvar = model.encode(images)
        assert torch.equal(mu, want.encode(images)[0])
        assert torch.equal(logvar, want.encode(images)[1])
        assert torch.equal(model.decode(mu), want.decode(mu))
        assert model.traverse(images, 3).shape == (3, 9, 1, 32, 32)


def test_in_eval_mode_without_gradients(run: Path) -> None:
    model = disentangle_ext.load(run)
    assert not model.training
    assert not model.encode(torch.rand(1, 1, 32, 32))[0].requires_grad
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_every_network_option_is_remembered(tmp_path: Path) -> None:
    for options in (
        {"network": "conv", "image_shape": (3, 64, 64), "base_channels": 3, "kernels": "4x4"},
        {"network": "mlp", "image_shape": (1, 6, 6), "width": 5, "likelihood": "laplace"},
    ):
        model = build_vae(**options, latent_dim=2)
        save_tensors(tmp_path / "model.safetensors", model.state_dict(), {"vae": model.architecture})
        again = disentangle_ext.load(tmp_path)
        assert again.architecture == model.architecture
        assert again.likelihood == model.likelihood
        z = torch.randn(4, 2)
        assert torch.equal(again.decode(z), model.decode(z))


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"load: .*/none does not exist"):
        disentangle_ext.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"is no run folder: it has neither config.yaml nor model.safetensors"):
        disentangle_ext.load(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(FileNotFoundError, match=r"has no model.safetensors: the run is not finished, .*--resume"):
        disentangle_ext.load(tmp_path)
    RunFolder(tmp_path).fail("train: loss is nan at step 3")
    with pytest.raises(
        FileNotFoundError, match=r"has no model.safetensors: the run failed \(train: loss is nan .* 3\)$"
    ):
        disentangle_ext.load(tmp_path)


def test_a_folder_of_runs_names_them(tmp_path: Path) -> None:
    for name in ("beta-1", "beta-4", "no-run"):
        (tmp_path / name).mkdir()
    for name in ("beta-1", "beta-4"):
        (tmp_path / name / "config.yaml").touch()
    for where, load in (("load:", disentangle_ext.load), ("report: RUN", lambda path: load_run(path, "report"))):
        message = f"^{where} {tmp_path} holds runs, give the folder of one: beta-1, beta-4$"
        with pytest.raises((FileNotFoundError, MistakeError), match=message):
            load(tmp_path)
    for k in range(10, 20):
        (tmp_path / f"beta-{k}").mkdir()
        (tmp_path / f"beta-{k}" / "config.yaml").touch()
    with pytest.raises(FileNotFoundError, match=r": beta-1, (beta-1\d, ){6}beta-16 and 4 more$"):
        disentangle_ext.load(tmp_path)


@pytest.mark.parametrize("keep", [0, 7, 500, -1])
def test_damaged_file(run: Path, keep: int) -> None:
    path = run / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"load: .*model.safetensors is damaged or no safetensors file"):
        disentangle_ext.load(run)


def test_files_of_others(run: Path) -> None:
    path = run / "model.safetensors"
    save_tensors(path, {"a": torch.zeros(1)}, {})
    with pytest.raises(ValueError, match=r"load: .* is no model that disentangle_ext.train has written"):
        disentangle_ext.load(run)
    architecture = {"network": "conv", "image_shape": [1, 32, 32], "latent_dim": 4, "base_channels": 4}
    save_tensors(path, {"a": torch.zeros(1)}, {"vae": architecture})
    with pytest.raises(ValueError, match=r"load: .* does not fit the network in its header"):
        disentangle_ext.load(run)
    save_tensors(path, {}, {"vae": {**architecture, "network": "transformer"}})
    with pytest.raises(ValueError, match="load: .*unknown network 'transformer'"):
        disentangle_ext.load(run)
    save_tensors(path, {}, {"vae": {"network": "conv"}})
    with pytest.raises(ValueError, match="load: .*header"):
        disentangle_ext.load(run)
