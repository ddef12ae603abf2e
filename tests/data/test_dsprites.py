"""DSprites, on small files in the layout of the published ones: intact, damaged and hostile."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from disentangle_ext.data import DSprites, DSpritesLike
from disentangle_ext.data import dsprites as module
from disentangle_ext.data.npy import npz_pieces
from tests.data.files import RNG, Bomb, damage, files_in, grid, save_hdf5, save_npz

SPRITE_SIZES = (3, 2, 4, 2, 2)


@pytest.fixture
def sprites(monkeypatch):
    """The content of the .npz for part of the grid of dsprites_like, official variant."""
    monkeypatch.setattr(module, "SIZES", SPRITE_SIZES)
    classes = grid(*SPRITE_SIZES)
    data = DSpritesLike("official")
    images = data.sample_images(classes)
    return {
        "imgs": images[:, 0].numpy() // 255,
        "latents_classes": np.pad(classes, ((0, 0), (1, 0))).astype(np.int64),
        "latents_values": np.pad(classes, ((0, 0), (1, 0))).astype(np.float64),
    }, images


def test_dsprites_npz_reads_back_and_never_unpickles(sprites, tmp_path):
    content, images = sprites
    metadata = np.empty(1, object)
    metadata[0] = Bomb(tmp_path / "exploded")
    path = save_npz(tmp_path / module.NPZ.file, **content, metadata=metadata)
    for where in (path, tmp_path):
        data = DSprites(where, verify=False)
        rows = torch.arange(len(data))
        assert torch.equal(data.images(rows), images)
        assert torch.equal(data.factors(rows), torch.from_numpy(grid(*SPRITE_SIZES)))
        assert (data.factor_names, data.factor_sizes) == (DSpritesLike().factor_names, SPRITE_SIZES)
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(ValueError, match=r"metadata is a pickled array, which is never read"):
        next(npz_pieces("DSprites", path, "metadata", (1,), np.uint8))
    assert not (tmp_path / "exploded").exists()
    assert data._stored.shape == (96, 512)


def test_dsprites_hdf5_reads_back(sprites, tmp_path):
    content, images = sprites
    save_hdf5(tmp_path / module.HDF5.file, imgs=content["imgs"], latents__classes=content["latents_classes"])
    data = DSprites(tmp_path, verify=False, effect="noisy")
    noisy = DSpritesLike("official", effect="noisy")._with_effect(images[95:], torch.tensor([95]))
    assert torch.equal(data.images([95]), noisy)


def test_a_group_of_another_hdf5_file_is_refused(sprites, tmp_path, cache):
    content, _ = sprites
    other = save_hdf5(tmp_path / "secret.h5", latents__classes=content["latents_classes"])
    path = save_hdf5(tmp_path / "a.hdf5", imgs=content["imgs"])
    with h5py.File(path, "a") as file:
        file["latents"] = h5py.ExternalLink(str(other), "latents")
    with pytest.raises(ValueError, match=f"DSprites: {path}: latents/classes must lie in this file"):
        DSprites(path, verify=False)
    assert not files_in(cache)


def test_a_second_load_maps_what_the_first_has_converted(sprites, tmp_path, cache, monkeypatch):
    content, images = sprites
    path = save_npz(tmp_path / "a.npz", **content)
    DSprites(path, verify=False)
    (file,) = files_in(cache)
    assert np.load(file).shape == (96, 512)
    monkeypatch.setattr(module, "_from_npz", None)
    assert torch.equal(DSprites(path, verify=False).images(range(96)), images)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"the cached file {file} is damaged .*: delete it"):
        DSprites(path, verify=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imgs": None}, r"must hold an array 'imgs', it holds latents_classes, latents_values"),
        ({"imgs": lambda x: x[1:]}, r"imgs must be \[96, 64, 64\] of uint8, got \[95, 64, 64\] of uint8"),
        ({"imgs": lambda x: x.astype(bool)}, r"imgs must be \[96, 64, 64\] of uint8, got .* of bool"),
        ({"imgs": lambda x: x * 255}, "imgs must be 0 or 1, got 255"),
        ({"imgs": lambda x: np.asfortranarray(x)}, "imgs must be in C order, got Fortran order"),
        ({"imgs": lambda x: x.astype(object)}, "imgs is a pickled array, which is never read"),
        ({"latents_classes": lambda x: x[::-1]}, r"C order of .*; row 0 has \[0, 2, 1, 3"),
        ({"latents_classes": lambda x: x[:, 1:]}, r"latents_classes must be \[96, 6\] of int64, got \[96, 5\]"),
    ],
)
def test_a_wrong_dsprites_npz_is_named(sprites, tmp_path, cache, change, message):
    content, _ = sprites
    (key, how) = next(iter(change.items()))
    values = {name: value for name, value in content.items() if name != key or how is not None}
    if how is not None:
        values[key] = how(values[key])
    path = save_npz(tmp_path / "wrong.npz", **values)
    with pytest.raises(ValueError, match=message) as caught:
        DSprites(path, verify=False)
    assert str(caught.value).startswith(f"DSprites: {path}")
    assert "\n" not in str(caught.value)
    assert not files_in(cache)


@pytest.mark.parametrize("how", ["truncated", "empty", "a page", "a flipped byte"])
def test_a_damaged_npz_is_named_and_leaves_nothing(sprites, tmp_path, cache, how):
    content, _ = sprites
    content["imgs"] = RNG.integers(0, 2, content["imgs"].shape, dtype=np.uint8)  # most of the file
    path = save_npz(tmp_path / "a.npz", **content)
    damage(path, how)
    with pytest.raises(ValueError, match=f"DSprites: {path} is truncated, damaged or of another format"):
        DSprites(path, verify=False)
    assert not files_in(cache)


def test_an_array_shorter_than_its_header_says_is_named(sprites, tmp_path, cache):
    content, _ = sprites
    path = save_npz(tmp_path / "a.npz", latents_classes=content["latents_classes"])
    buffer = io.BytesIO()
    np.save(buffer, content["imgs"])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("imgs.npy", buffer.getvalue()[:-5000])
    with pytest.raises(ValueError, match=f"{path} is truncated, damaged or of another format: imgs ends early"):
        DSprites(path, verify=False)
    assert not files_in(cache)


def test_a_checksum_is_compared(sprites, tmp_path, cache, monkeypatch):
    content, images = sprites
    path = save_npz(tmp_path / "a.npz", **content)
    with pytest.raises(ValueError, match=f"{path} has MD5 [0-9a-f]+, expected 7da33b31.*: .*verify"):
        DSprites(path)
    assert not files_in(cache)
    checksum = "md5:" + hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(module, "NPZ", replace(module.NPZ, checksum=checksum))
    assert torch.equal(DSprites(path).images(range(96)), images)
