"""The loaders of published files, on small files in their layouts: intact, damaged and hostile."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import struct
import tarfile
import zipfile

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from disentangle_ext.data import MPI3D, Cars3D, DSprites, DSpritesLike, Shapes3D, SmallNORB, official
from disentangle_ext.data import cars3d as cars3d_file
from disentangle_ext.data import dsprites as dsprites_file
from disentangle_ext.data import mpi3d as mpi3d_file
from disentangle_ext.data import shapes3d as shapes3d_file
from disentangle_ext.data import smallnorb as smallnorb_file
from disentangle_ext.data.npy import npz_pieces

RNG = np.random.default_rng(0)


def grid(*sizes):
    return np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes), 1)


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, where):
        self.where = str(where)

    def __reduce__(self):
        return os.mkdir, (self.where,)


def save_npz(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def save_hdf5(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return path


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


# dSprites ------------------------------------------------------------------------------------------------------------

SPRITE_SIZES = (3, 2, 4, 2, 2)


@pytest.fixture
def sprites(monkeypatch):
    """The content of the .npz for part of the grid of dsprites_like, official variant."""
    monkeypatch.setattr(dsprites_file, "SIZES", SPRITE_SIZES)
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
    path = save_npz(tmp_path / dsprites_file.NPZ.file, **content, metadata=metadata)
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
    save_hdf5(tmp_path / dsprites_file.HDF5.file, imgs=content["imgs"], latents__classes=content["latents_classes"])
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
    monkeypatch.setattr(dsprites_file, "_from_npz", None)
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


def damaged(path, how):
    content = path.read_bytes()
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = b""
    elif how == "a page":
        content = b"<!DOCTYPE html><html>404</html>" * 100
    elif how == "a flipped byte":
        middle = len(content) // 2
        content = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "empty", "a page", "a flipped byte"])
def test_a_damaged_npz_is_named_and_leaves_nothing(sprites, tmp_path, cache, how):
    content, _ = sprites
    content["imgs"] = RNG.integers(0, 2, content["imgs"].shape, dtype=np.uint8)  # most of the file
    path = save_npz(tmp_path / "a.npz", **content)
    damaged(path, how)
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


# Checksums and downloads ---------------------------------------------------------------------------------------------


def published(monkeypatch, module, name, path, checksum=None):
    """Publish a file at a file:// address."""
    kind = getattr(module, name).checksum.split(":")[0]
    checksum = checksum or f"{kind}:{hashlib.new(kind, path.read_bytes()).hexdigest()}"
    source = official.Source(getattr(module, name).file, path.as_uri(), checksum)
    monkeypatch.setattr(module, name, source)
    return source


def test_a_checksum_is_compared(sprites, tmp_path, cache, monkeypatch):
    content, images = sprites
    path = save_npz(tmp_path / "a.npz", **content)
    with pytest.raises(ValueError, match=f"{path} has MD5 [0-9a-f]+, expected 7da33b31.*: .*verify"):
        DSprites(path)
    assert not files_in(cache)
    published(monkeypatch, dsprites_file, "NPZ", path)
    assert torch.equal(DSprites(path).images(range(96)), images)


def test_a_download_is_verified_and_kept(sprites, tmp_path, cache, monkeypatch):
    content, images = sprites
    path = save_npz(tmp_path / "there.npz", **content)
    source = published(monkeypatch, dsprites_file, "NPZ", path)
    with pytest.raises(FileNotFoundError, match=r"DSprites: there is no dsprites_.*: give path, or download=True"):
        DSprites()
    assert torch.equal(DSprites(download=True).images(range(96)), images)
    assert (cache / "dsprites" / source.file).read_bytes() == path.read_bytes()
    path.unlink()
    assert torch.equal(DSprites(download=True).images(range(96)), images)


def test_a_download_that_is_not_what_was_published_leaves_nothing(sprites, tmp_path, cache, monkeypatch):
    content, _ = sprites
    path = save_npz(tmp_path / "there.npz", **content)
    published(monkeypatch, dsprites_file, "NPZ", path, checksum="md5:" + "0" * 32)
    with pytest.raises(ValueError, match="has MD5 .*, expected 00000000000000000000000000000000"):
        DSprites(download=True)
    assert not files_in(cache)
    path.unlink()
    with pytest.raises(OSError, match=f"DSprites: cannot download {path.as_uri()}: "):
        DSprites(download=True)
    assert not files_in(cache)


# 3D Shapes -----------------------------------------------------------------------------------------------------------

ROOM_SIZES = (3, 2, 2, 4, 2, 3)


@pytest.fixture
def rooms(monkeypatch):
    monkeypatch.setattr(shapes3d_file, "SIZES", ROOM_SIZES)
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
    damaged(path, how)
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


# MPI3D ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("variant", "compress"), [("toy", True), ("real_complex", False)])
def test_mpi3d_reads_back(tmp_path, monkeypatch, variant, compress):
    sizes = (2, 2, 2, 1, 3, 4, 5)
    monkeypatch.setitem(mpi3d_file.SIZES, variant, sizes)
    images = RNG.integers(0, 256, (math.prod(sizes), 64, 64, 3), dtype=np.uint8)
    (np.savez_compressed if compress else np.savez)(tmp_path / f"mpi3d_{variant}.npz", images=images)
    data = MPI3D(tmp_path, variant=variant, verify=compress is False)  # none is published for real_complex
    rows = torch.arange(len(data))
    assert torch.equal(data.images(rows).permute(0, 2, 3, 1), torch.from_numpy(images))
    assert torch.equal(data.factors(rows), torch.from_numpy(grid(*sizes)))
    assert data.name == f"mpi3d ({variant})"


def test_wrong_mpi3d_files_are_named(tmp_path, cache):
    path = save_npz(tmp_path / "mpi3d_toy.npz", images=np.zeros((10, 64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match=r"mpi3d_toy.npz: images must be \[1036800, 64, 64, 3\] of uint8, got \[10"):
        MPI3D(path, verify=False)
    with pytest.raises(ValueError, match="MPI3D: unknown variant 'realist': did you mean 'realistic'"):
        MPI3D(path, variant="realist")
    with pytest.raises(FileNotFoundError, match=r"MPI3D: there is no mpi3d_real.npz in .*: give path, or download"):
        MPI3D(tmp_path, variant="real")
    assert not files_in(cache)


# Cars3D --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cars(monkeypatch, tmp_path):
    """The unpacked folder for 2 azimuths, 2 elevations and 3 cars of 16 x 16 pixels, listed in another order."""
    monkeypatch.setattr(cars3d_file, "SIZES", (2, 2, 3))
    monkeypatch.setattr(cars3d_file, "MESH", (16, 16, 3, 2, 2))
    monkeypatch.setattr(cars3d_file, "SIDE", 8)
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


# SmallNORB -----------------------------------------------------------------------------------------------------------

TOY_SIZES = (2, 2, 3, 2)


def norb(array, *, magic=None):
    magic = magic or {"uint8": 507333717, "int32": 507333716}[array.dtype.name]
    dims = [*array.shape, 1, 1][: max(3, array.ndim)]
    return struct.pack(f"<{2 + len(dims)}i", magic, array.ndim, *dims) + array.tobytes()


@pytest.fixture
def toys(monkeypatch, tmp_path):
    """Six files for 2 categories, 4 instances, 2 elevations, 3 azimuths and 2 lightings; and the images by factors."""
    monkeypatch.setattr(smallnorb_file, "SIZES", TOY_SIZES)
    monkeypatch.setattr(smallnorb_file, "INSTANCES", 4)
    factors = RNG.permutation(grid(2, 4, 2, 3, 2))  # category, instance, elevation, azimuth, lighting
    factors = factors[np.argsort(factors[:, 1] % 2, kind="stable")]
    images = RNG.integers(0, 256, (len(factors), 2, 96, 96), dtype=np.uint8)
    folder = tmp_path / "norb"
    folder.mkdir()
    half = len(factors) // 2
    for stem, part in ((smallnorb_file._TRAIN, slice(0, half)), (smallnorb_file._TEST, slice(half, None))):
        info = factors[part][:, [1, 2, 3, 4]] * [1, 1, 2, 1]
        for name, array in (("dat", images[part]), ("cat", factors[part][:, 0]), ("info", info)):
            content = norb(array if name == "dat" else array.astype(np.int32))
            with gzip.open(folder / f"{stem}-{name}.mat.gz", "wb", compresslevel=1) as file:
                file.write(content)
    return folder, factors, images[:, 0]


def test_smallnorb_reads_back_packed_and_unpacked(toys):
    folder, factors, images = toys
    expected = {}
    for (category, instance, elevation, azimuth, lighting), image in zip(factors.tolist(), images):
        small = Image.fromarray(image).resize((64, 64), Image.Resampling.LANCZOS)
        expected[category, elevation, azimuth, lighting, instance] = np.asarray(small)
    for round_ in range(2):
        data = SmallNORB(folder, verify=False)
        assert len(data) == 96
        assert (data.factor_names, data.factor_sizes) == (("category", "elevation", "azimuth", "lighting"), TOY_SIZES)
        for row, key in enumerate(sorted(expected)):
            assert np.array_equal(data.images([row])[0, 0].numpy(), expected[key])
            assert data.factors([row]).tolist() == [list(key[:4])]
        if round_ == 0:
            packed = folder / smallnorb_file.SOURCES[0].file
            packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
            packed.unlink()


def test_smallnorb_draws_an_instance(toys):
    data = SmallNORB(toys[0], verify=False)
    factors = torch.tensor([[1, 0, 2, 1]]).expand(400, -1)
    assert data.factors(data.index(factors[:1])).tolist() == [[1, 0, 2, 1]]
    assert data.index(factors[:1]).tolist() == [4 * (12 + 5)]
    images = data.sample_images(factors, generator=torch.Generator().manual_seed(0)).flatten(1)
    rows = data.images([68, 69, 70, 71]).flatten(1)
    counts = (images[:, None] == rows).all(2).sum(0)
    assert counts.sum() == 400
    assert counts.min() > 60
    assert torch.equal(images, data.sample_images(factors, generator=torch.Generator().manual_seed(0)).flatten(1))
    assert set(data.sample_index(factors).tolist()) == {68, 69, 70, 71}


@pytest.mark.parametrize(
    ("which", "change", "message"),
    [
        (0, lambda c: c[: len(c) // 2], r"is truncated, damaged or of another format: it ends in row 23 of 48"),
        (0, lambda c: c[:6], "is truncated, damaged or of another format"),
        (0, lambda c: c + b"x", "must end after 48 rows, it does not"),
        (0, lambda c: b"<!DOCTYPE html>" + c, "is not in the format of NORB: it begins with"),
        (0, lambda c: struct.pack("<i", 507333716) + c[4:], r"must be \[48, 2, 96, 96\] of uint8, got .* of int32"),
        (1, lambda c: c[:8] + struct.pack("<i", 7) + c[12:], r"must be \[48\] of int32, got \[7\] of int32"),
        (1, lambda c: c[:4] + struct.pack("<i", 1 << 30) + c[8:], "is not in the format of NORB"),
        (2, lambda c: c[:-4] + struct.pack("<i", 99), "or its cat file has a factor out of range"),
        (2, lambda c: c[:-32] + c[-16:] * 2, "must list every combination of the factors once"),
    ],
)
def test_wrong_smallnorb_files_are_named(toys, cache, which, change, message):
    folder, _, _ = toys
    path = folder / smallnorb_file.SOURCES[which].file
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes())), 1))
    with pytest.raises(ValueError, match=f"SmallNORB: {path} .*{message}"):
        SmallNORB(folder, verify=False)
    assert not files_in(cache)


def test_smallnorb_checks_what_lies_there(toys, cache):
    folder, _, _ = toys
    path = folder / smallnorb_file.SOURCES[0].file
    with pytest.raises(ValueError, match=f"{path} has SHA256 .*, expected 5ffd6272"):
        SmallNORB(folder)
    damaged(path, "truncated")
    with pytest.raises(ValueError, match=f"SmallNORB: {path} is truncated, damaged or of another format"):
        SmallNORB(folder, verify=False)
    with pytest.raises(ValueError, match="SmallNORB: path must be the folder of the 6 files, got the file"):
        SmallNORB(path, verify=False)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"SmallNORB: there is no smallnorb-.*training-dat.mat.gz in "):
        SmallNORB(folder, verify=False)
    assert not files_in(cache)
