"""Cars3D, on small files in the layout of the published ones: intact, damaged and hostile."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest
import scipy.io
from PIL import Image

from disentangle_ext.data import Cars3D
from disentangle_ext.data import cars3d as module
from tests.data.files import RNG, files_in, grid


@pytest.fixture
def cars(monkeypatch, tmp_path):
    """The unpacked folder for 2 azimuths, 2 elevations and 3 cars of 16 x 16 pixels, listed in another order."""
    monkeypatch.setattr(module, "SIZES", (2, 2, 3))
    monkeypatch.setattr(module, "MESH", (16, 16, 3, 2, 2))
    monkeypatch.setattr(module, "SIDE", 8)
    folder = tmp_path / "data" / "cars"
    folder.mkdir(parents=True)
    names = ["car_007_mesh", "car_001_mesh", "car_100_mesh"]
    meshes = [RNG.integers(0, 256, (16, 16, 3, 2, 2), dtype=np.uint8) for _ in names]
    for name, mesh in zip(names, meshes):
        scipy.io.savemat(folder / f"{name}.mat", {"im": mesh, "mask": np.zeros((16, 16, 2, 2))}, do_compression=True)
    (folder / "list.txt").write_text("\n".join(names) + "\n")
    return folder, meshes


def pack(folder, path):
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder.parent, "data")
    return path


def test_cars3d_reads_back_from_archive_and_folder(cars, tmp_path):
    folder, meshes = cars
    archive = pack(folder, tmp_path / "nips2015-analogy-data.tar.gz")
    for where in (archive, tmp_path, folder):
        data = Cars3D(where, verify=False)
        assert (data.factor_names, len(data)) == (("elevation", "azimuth", "object"), 12)
        for row, (elevation, azimuth, car) in enumerate(grid(2, 2, 3)):
            picture = Image.fromarray(meshes[car][..., azimuth, elevation]).resize((8, 8), Image.Resampling.LANCZOS)
            assert np.array_equal(data.images([row])[0].permute(1, 2, 0).numpy(), np.asarray(picture))
            assert data.factors([row]).tolist() == [[elevation, azimuth, car]]


def test_a_changed_car_is_converted_again(cars):
    folder, meshes = cars
    before = Cars3D(folder).images(range(12))
    scipy.io.savemat(folder / "car_100_mesh.mat", {"im": 255 - meshes[2]})
    after = Cars3D(folder).images(range(12))
    changed = (before != after).flatten(1).any(1)
    assert changed.tolist() == [False, False, True] * 4


def test_wrong_cars_are_named(cars, tmp_path, cache):
    folder, _ = cars
    archive = tmp_path / "a.tar.gz"
    mat = folder / "car_001_mesh.mat"
    good = mat.read_bytes()

    def fails(message, where=None):
        pack(folder, archive)
        with pytest.raises(ValueError, match=f"Cars3D: .*{message}") as caught:
            Cars3D(where or archive, verify=False)
        assert "\n" not in str(caught.value)
        assert str(where or archive) in str(caught.value)
        assert not files_in(cache)

    mat.write_bytes(good[: len(good) // 2])
    fails("car_001_mesh.mat cannot be read: ")
    scipy.io.savemat(mat, {"im": np.zeros((16, 16, 3, 2, 3), np.uint8)})
    fails(r"car_001_mesh.mat must be \[16, 16, 3, 2, 2\] of uint8, got \[16, 16, 3, 2, 3\]", folder)
    scipy.io.savemat(mat, {"mask": np.zeros(3)})
    fails("car_001_mesh.mat cannot be read: it must hold an array 'im', it holds mask")
    mat.unlink()
    fails("must hold car_001_mesh.mat, which its list.txt names, it does not")
    fails("car_001_mesh.mat is truncated, damaged or of another format: .*No such file", folder)
    mat.write_bytes(good)
    (folder / "list.txt").write_text("car_007_mesh\n../car_001_mesh\ncar_100_mesh\n")
    fails("must list 3 different names")
    (folder / "list.txt").unlink()
    fails("must hold cars/list.txt, it does not")
    archive.write_bytes(archive.read_bytes()[:-600])
    with pytest.raises(ValueError, match=f"Cars3D: {archive} is truncated, damaged or of another format"):
        Cars3D(archive, verify=False)
    with pytest.raises(ValueError, match=f"{archive} has MD5 .*, expected 4e866a79"):
        Cars3D(archive)
