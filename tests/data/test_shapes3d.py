"""Shapes3D, on small files in the layout of the published one: intact, damaged and hostile."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from disentangle_ext.data import Shapes3D
from disentangle_ext.data import shapes3d as module
from tests.data.files import RNG, damage, files_in, grid, save_hdf5

ROOM_SIZES = (3, 2, 2, 4, 2, 3)


@pytest.fixture
def rooms(monkeypatch):
    monkeypatch.setattr(module, "SIZES", ROOM_SIZES)
    classes = grid(*ROOM_SIZES)
    values = classes * [0.1, 0.1, 0.1, 0.07, 1, 4.3] + [0, 0, 0, 0.75, 0, -30]
    return {"images": RNG.integers(0, 256, (len(classes), 64, 64, 3), dtype=np.uint8), "labels": values}


def test_shapes3d_reads_back(rooms, tmp_path):
    save_hdf5(tmp_path / "3dshapes.h5", **rooms)
    data = Shapes3D(tmp_path, verify=False)
    rows = torch.arange(len(data))
    assert torch.equal(data.images(rows).permute(0, 2, 3, 1), torch.from_numpy(rooms["images"]))
    assert torch.equal(data.factors(rows), torch.from_numpy(grid(*ROOM_SIZES)))
    assert data.factor_names == ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "azimuth")
    with pytest.raises(ValueError, match=r"3dshapes.h5 has SHA256 .*, expected 0a0f6ed9"):
        Shapes3D(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": lambda x: x[::-1].copy()}, r"labels must .* C order .*; row 0 has \[2, 1, 1, 3, 1, 2\]"),
        ({"labels": None}, "must hold a dataset 'labels', it holds images"),
        ({"images": lambda x: x[:, 0]}, r"images must be \[288, 64, 64, 3\] of uint8, got \[288, 64, 3\] of uint8"),
        ({"images": lambda x: x.astype(np.float32)}, r"images must be .* of uint8, got .* of float32"),
    ],
)
def test_a_wrong_shapes3d_file_is_named(rooms, tmp_path, cache, change, message):
    (key, how) = next(iter(change.items()))
    content = {name: value if name != key else how and how(value) for name, value in rooms.items()}
    path = save_hdf5(tmp_path / "a.h5", **{name: value for name, value in content.items() if value is not None})
    with pytest.raises(ValueError, match=f"Shapes3D: {path}:? {message}"):
        Shapes3D(path, verify=False)
    assert not files_in(cache)


@pytest.mark.parametrize("how", ["truncated", "empty", "a page"])
def test_a_damaged_hdf5_is_named_and_leaves_nothing(rooms, tmp_path, cache, how):
    path = save_hdf5(tmp_path / "a.h5", **rooms)
    damage(path, how)
    with pytest.raises(ValueError, match=f"Shapes3D: {path} is truncated, damaged or of another format"):
        Shapes3D(path, verify=False)
    assert not files_in(cache)


def test_a_damaged_node_of_an_hdf5_file_is_named(rooms, tmp_path, cache):
    path = save_hdf5(tmp_path / "a.h5", **rooms)
    with h5py.File(path, "r") as file:
        header = h5py.h5o.get_info(file["labels"].id).addr
    content = bytearray(path.read_bytes())
    content[header] = 99
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} is truncated, damaged or of another format: .*object header"):
        Shapes3D(path, verify=False)
    assert not files_in(cache)


@pytest.mark.parametrize("key", ["images", "labels"])
def test_an_empty_hdf5_dataset_is_named(rooms, tmp_path, cache, key):
    path = save_hdf5(tmp_path / "a.h5", **{**rooms, key: h5py.Empty("u1")})
    with pytest.raises(ValueError, match=f"Shapes3D: {path}: {key} must be .* of .*, it is empty"):
        Shapes3D(path, verify=False)
    assert not files_in(cache)


@pytest.mark.parametrize("kind", ["soft", "external link", "external bytes", "virtual", "group"])
def test_an_hdf5_file_that_points_elsewhere_is_refused(rooms, tmp_path, cache, kind):
    other = save_hdf5(tmp_path / "secret.h5", **rooms)
    path = save_hdf5(tmp_path / "a.h5", labels=rooms["labels"], real=rooms["images"])
    shape = rooms["images"].shape
    with h5py.File(path, "a") as file:
        if kind == "soft":
            file["images"] = h5py.SoftLink("/real")
        elif kind == "external link":
            file["images"] = h5py.ExternalLink(str(other), "images")
        elif kind == "external bytes":
            file.create_dataset("images", shape, np.uint8, external=[(str(other), 0, h5py.h5f.UNLIMITED)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout(shape, np.uint8)
            layout[:] = h5py.VirtualSource(str(other), "images", shape)
            file.create_virtual_dataset("images", layout)
        else:
            file.create_group("images")
    with pytest.raises(ValueError, match=f"Shapes3D: {path}.*(must hold a dataset 'images'|must lie in this file)"):
        Shapes3D(path, verify=False)
    assert not files_in(cache)
