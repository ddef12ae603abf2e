"""SmallNORB, on small files in the layout of the published ones: intact, damaged and hostile."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from disentangle_ext.data import SmallNORB
from disentangle_ext.data import smallnorb as module
from tests.data.files import RNG, damage, files_in, grid

TOY_SIZES = (2, 2, 3, 2)


def norb(array, *, magic=None):
    magic = magic or {"uint8": 507333717, "int32": 507333716}[array.dtype.name]
    dims = [*array.shape, 1, 1][: max(3, array.ndim)]
    return struct.pack(f"<{2 + len(dims)}i", magic, array.ndim, *dims) + array.tobytes()


@pytest.fixture
def toys(monkeypatch, tmp_path):
    """Six files for 2 categories, 4 instances, 2 elevations, 3 azimuths and 2 lightings; and the images by factors."""
    monkeypatch.setattr(module, "SIZES", TOY_SIZES)
    monkeypatch.setattr(module, "INSTANCES", 4)
    factors = RNG.permutation(grid(2, 4, 2, 3, 2))  # category, instance, elevation, azimuth, lighting
    factors = factors[np.argsort(factors[:, 1] % 2, kind="stable")]
    images = RNG.integers(0, 256, (len(factors), 2, 96, 96), dtype=np.uint8)
    folder = tmp_path / "norb"
    folder.mkdir()
    half = len(factors) // 2
    stems = ("smallnorb-5x46789x9x18x6x2x96x96-training", "smallnorb-5x01235x9x18x6x2x96x96-testing")
    for stem, part in zip(stems, (slice(0, half), slice(half, None))):
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
            packed = folder / module.SOURCES[0].file
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
    path = folder / module.SOURCES[which].file
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes())), 1))
    with pytest.raises(ValueError, match=f"SmallNORB: {path} .*{message}"):
        SmallNORB(folder, verify=False)
    assert not files_in(cache)


def test_smallnorb_checks_what_lies_there(toys, cache):
    folder, _, _ = toys
    path = folder / module.SOURCES[0].file
    with pytest.raises(ValueError, match=f"{path} has SHA256 .*, expected 5ffd6272"):
        SmallNORB(folder)
    damage(path, "truncated")
    with pytest.raises(ValueError, match=f"SmallNORB: {path} is truncated, damaged or of another format"):
        SmallNORB(folder, verify=False)
    with pytest.raises(ValueError, match="SmallNORB: path must be the folder of the 6 files, got the file"):
        SmallNORB(path, verify=False)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"SmallNORB: there is no smallnorb-.*training-dat.mat.gz in "):
        SmallNORB(folder, verify=False)
    assert not files_in(cache)
