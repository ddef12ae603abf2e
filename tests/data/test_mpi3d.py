"""MPI3D, on small files in the layout of the published ones."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from disentangle_ext._errors import MistakeError
from disentangle_ext.data import MPI3D
from disentangle_ext.data import mpi3d as module
from disentangle_ext.data.published import FILES
from tests.data.files import RNG, files_in, grid, save_npz


@pytest.mark.parametrize(("variant", "compress"), [("toy", True), ("real_complex", False)])
def test_mpi3d_reads_back(tmp_path, monkeypatch, variant, compress):
    sizes = (2, 2, 2, 1, 3, 4, 5)
    monkeypatch.setitem(module.SIZES, variant, sizes)
    images = RNG.integers(0, 256, (math.prod(sizes), 64, 64, 3), dtype=np.uint8)
    (np.savez_compressed if compress else np.savez)(tmp_path / module.SOURCES[variant].file, images=images)
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


def test_a_file_that_is_another_published_one_is_told_as_that(tmp_path, cache, monkeypatch):
    path = save_npz(tmp_path / "mpi3d_real.npz", images=np.zeros((10, 64, 64, 3), np.uint8))
    toy = replace(module.SOURCES["toy"], checksum="sha256:" + hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setitem(FILES, "mpi3d", (toy, *FILES["mpi3d"][1:]))
    with pytest.raises(MistakeError, match=f"{path} has MD5 .*, expected 0f33f609.*: it is mpi3d_toy.npz$"):
        MPI3D(path, variant="real")
    path.write_bytes(b"PK")
    with pytest.raises(MistakeError, match=r"has MD5 .*, expected 0f33f609.*: it is damaged, incomplete or not"):
        MPI3D(path, variant="real")
    assert not files_in(cache)


def test_the_file_that_only_a_person_can_fetch_says_where():
    for download in (False, True):
        with pytest.raises(FileNotFoundError, match="no real3d_.*: fetch it by hand from https:.*and give"):
            MPI3D(variant="real_complex", download=download)
