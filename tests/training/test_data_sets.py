"""Training on every data set of --data, from the command line, with few steps."""

from __future__ import annotations

import gzip
import json
import math
import struct
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from disentangle_ext import train as train_module
from disentangle_ext.data import DATASETS, cars3d, dsprites, faces_like, mpi3d, shapes3d, smallnorb

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISENTANGLE_EXT_CACHE", str(tmp_path / "cache"))


def bytes_(*shape: int, high: int = 256) -> np.ndarray:
    return RNG.integers(0, high, shape, dtype=np.uint8)


def grid(*sizes: int) -> np.ndarray:
    return np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes), 1)


def write_dsprites(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dsprites, "SIZES", (2, 2, 2, 2, 2))
    classes = np.pad(grid(2, 2, 2, 2, 2), ((0, 0), (1, 0)))
    np.savez(folder / dsprites.NPZ.file, imgs=bytes_(32, 64, 64, high=2), latents_classes=classes)


def write_shapes3d(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(shapes3d, "SIZES", (2, 2, 2, 2, 2, 1))
    with h5py.File(folder / shapes3d.HDF5.file, "w") as file:
        file["images"] = bytes_(32, 64, 64, 3)
        file["labels"] = grid(2, 2, 2, 2, 2, 1) / 10


def write_mpi3d(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(mpi3d.SIZES, "toy", (2, 2, 2, 1, 1, 2, 2))
    np.savez(folder / "mpi3d_toy.npz", images=bytes_(32, 64, 64, 3))


def write_cars3d(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cars3d, "SIZES", (2, 3, 4))
    patch.setattr(cars3d, "MESH", (128, 128, 3, 3, 2))
    cars = folder / "data" / "cars"
    cars.mkdir(parents=True)
    for name in "abcd":
        scipy.io.savemat(cars / f"{name}.mat", {"im": bytes_(128, 128, 3, 3, 2)})
    (cars / "list.txt").write_text("a\nb\nc\nd\n")
    with tarfile.open(folder / cars3d.TAR.file, "w:gz", compresslevel=1) as archive:
        archive.add(folder / "data", "data")


def write_smallnorb(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(smallnorb, "SIZES", (2, 2, 2, 2))
    patch.setattr(smallnorb, "INSTANCES", 2)
    factors = grid(2, 2, 2, 2, 2)  # instance, category, elevation, azimuth, lighting
    for source, part in zip(smallnorb.SOURCES, [factors[:16]] * 3 + [factors[16:]] * 3):
        if "-dat" in source.file:
            content = struct.pack("<6i", 507333717, 4, 16, 2, 96, 96) + bytes_(16, 2, 96, 96).tobytes()
        elif "-cat" in source.file:
            content = struct.pack("<5i", 507333716, 1, 16, 1, 1) + part[:, 1].astype("<i4").tobytes()
        else:
            info = part[:, [0, 2, 3, 4]] * [1, 1, 2, 1]
            content = struct.pack("<5i", 507333716, 2, 16, 4, 1) + info.astype("<i4").tobytes()
        (folder / source.file).write_bytes(gzip.compress(content, 1))


def write_arrays(folder: Path, patch: pytest.MonkeyPatch) -> None:
    np.savez(folder / "own.npz", images=bytes_(32, 3, 64, 64), factors=grid(8, 4))


def write_images(folder: Path, patch: pytest.MonkeyPatch) -> None:
    for k in range(32):
        Image.fromarray(bytes_(40, 50, 3)).save(folder / f"{k}.png")


WRITERS = {
    "dsprites": write_dsprites,
    "shapes3d": write_shapes3d,
    "mpi3d": write_mpi3d,
    "cars3d": write_cars3d,
    "smallnorb": write_smallnorb,
    "arrays": write_arrays,
    "image_folder": write_images,
}
UNVERIFIED = ("dsprites", "shapes3d", "mpi3d", "cars3d", "smallnorb")
DRAWN = ("arrays", "cars3d", "image_folder")
"""Rows that form no grid, colour, no factors: here every picture is drawn, which takes longer than the run."""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISENTANGLE_EXT_CACHE", str(tmp_path / "cache"))
    rows, _, size, samples = faces_like.VARIANTS["quick"]
    monkeypatch.setitem(faces_like.VARIANTS, "quick", (rows[:2], (3, 2, 15), size, samples))


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_beta_tcvae_trains_on_every_data_set(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if name not in DRAWN:
        request.getfixturevalue("one_picture")
    arguments = ["--model", "beta_tcvae", "--data", name, "--quick", "--output-dir", str(tmp_path / "run")]
    arguments += ["--base-channels", "4", "--batch-size", "16", "--max-steps", "4", "--log-every", "2"]
    if name in WRITERS:
        folder = tmp_path / "files"
        folder.mkdir()
        WRITERS[name](folder, monkeypatch)
        arguments += ["--data-path", str(folder / "own.npz" if name == "arrays" else folder)]
    if name in UNVERIFIED:
        arguments += ["--no-data-verify"]
    assert train_module.main(arguments) == 0
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert ("mig" in scores) == (name != "image_folder")
    again = ["--resume", "--output-dir", str(tmp_path / "run")]
    assert train_module.main(again) == 0  # its config.yaml, path included, reads back


@pytest.mark.usefixtures("one_picture")
@pytest.mark.parametrize("model", ["ada_gvae", "ml_vae", "dcign"])
def test_pairs_and_groups_of_images_that_share_their_factors(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_smallnorb(tmp_path, monkeypatch)
    arguments = ["--model", model, "--data", "smallnorb", "--data-path", str(tmp_path), "--no-data-verify", "--quick"]
    arguments += ["--base-channels", "4", "--batch-size", "8", "--max-steps", "2"]
    assert train_module.main([*arguments, "--output-dir", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize("model", ["ada_gvae", "ml_vae", "dcign"])
def test_one_factor_is_too_few_for_pairs_and_groups(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_module.main(["--model", model, "--data", "digits", "--output-dir", str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert "data must have at least 2 factors" in message
    assert message.endswith("digits has 1\n")
    assert not (tmp_path / "run").exists()


def test_a_missing_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in UNVERIFIED:
        assert train_module.main(["--model", "beta_vae", "--data", name, "--output-dir", str(tmp_path / "run")]) == 2
        message = capsys.readouterr().err
        assert "there is no" in message
        assert "--data-path" in message
        assert message.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_help_lists_every_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train_module.main(["--help"])
    text = capsys.readouterr().out
    named = ("dsprites_like", "shapes3d_like", "faces_like", "torus_like", "dsprites", "shapes3d", "cars3d")
    for name in (*named, "smallnorb", "mpi3d", "digits", "image_folder", "arrays"):
        assert name in text.replace("\n", " ").replace(",", " ").split()
