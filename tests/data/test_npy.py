"""The arrays in a file: what is asked for is read, nothing is unpickled, and nothing a header says is believed."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import torch

from disentangle_ext._errors import MistakeError
from disentangle_ext.data import arrays

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8)


def test_arrays_come_from_a_file(tmp_path):
    factors = np.array([[0, 2], [1, 5]] * 3)
    np.savez(tmp_path / "own.npz", images=IMAGES, factors=factors, names=["a", "b"])
    data = arrays(tmp_path / "own.npz")
    assert (data.name, data.factor_names, data.factor_sizes) == ("own", ("a", "b"), (2, 2))
    assert torch.equal(data.images(range(6))[:, 0], torch.from_numpy(IMAGES))
    assert data.factors(range(2)).tolist() == [[0, 0], [1, 1]]
    np.save(tmp_path / "own.npy", IMAGES)
    assert torch.equal(arrays(tmp_path / "own.npy").images([3])[0, 0], torch.from_numpy(IMAGES[3]))


def test_wrong_files_of_arrays_are_named(tmp_path):
    path = tmp_path / "own.npz"

    def fails(message):
        with pytest.raises(MistakeError, match=f"arrays: {path}.*{message}") as caught:
            arrays(path)
        assert "\n" not in str(caught.value)

    np.savez(path, pictures=IMAGES)
    fails("must hold an array 'images', it holds pictures")
    np.savez(path, images=IMAGES.astype(object))
    fails("images is a pickled array, which is never read")
    np.savez(path, images=IMAGES / 255)
    fails("ArrayData: images must be uint8")
    np.savez(path, images=IMAGES)
    path.write_bytes(path.read_bytes()[:150])
    fails("truncated, damaged")
    path.write_text("<html>")
    fails("is no array of NumPy.s format")
    with pytest.raises(FileNotFoundError, match="arrays: there is no file"):
        arrays(tmp_path / "none.npz")
    with pytest.raises(MistakeError, match="arrays: path is not given"):
        arrays()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def with_header(shape, descr="|u1", data=b"\0" * 120):
    """The bytes of an .npy whose header says ``shape``, in Python's words."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}"
    header = header.ljust(-(10 + len(header) + 1) % 64 + len(header)) + "\n"
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode() + data


def test_only_what_is_asked_for_is_unpacked(tmp_path):
    """What else there is may be of any size, damaged, or pickled."""
    path = tmp_path / "own.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.npy", b"no array")
        archive.writestr("pickled.npy", npy(np.array([{}])))
        archive.writestr("images.npy", npy(IMAGES))
        archive.writestr("notes.txt", "hello")
    assert torch.equal(arrays(path).images(range(6))[:, 0], torch.from_numpy(IMAGES))


def test_what_a_file_holds_is_listed_on_one_line(tmp_path):
    path = tmp_path / "own.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("two\nlines.npy", "é.txt", *(f"{k}.npy" for k in range(20))):
            archive.writestr(name, "")
    with pytest.raises(MistakeError, match=r"it holds 'two\\nlines', 0, 1, 2, 3, 4, 5, 6, 7, 8 and 11 more$"):
        arrays(path)
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    with pytest.raises(MistakeError, match="truncated, damaged or of another format: 'utf-8' codec can't decode"):
        arrays(path)


def test_fortran_order_is_read(tmp_path):
    np.save(tmp_path / "own.npy", np.asfortranarray(IMAGES))
    assert torch.equal(arrays(tmp_path / "own.npy").images(range(6))[:, 0], torch.from_numpy(IMAGES))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_header("(1000000000000, 5, 4)"), r"says \[1000000000000, 5, 4\] of uint8, .* holds 120 bytes"),
        (with_header("(6, 5, 4)", data=b"0" * 119), r"says \[6, 5, 4\] of uint8, 120 bytes, but holds 119 bytes"),
        (with_header("(True, 5, 4)"), "is no array of NumPy's format"),
        (with_header("(-6, 5, 4)"), "is no array of NumPy's format"),
        (with_header("(1.5, 5, 4)"), "is no array of NumPy's format"),
        (with_header("[" * 150 + "]" * 150), "is no array of NumPy's format"),
        (with_header("-" * 8000 + "1"), "is no array of NumPy's format"),
        (npy(np.array([{}], dtype=object)), "is a pickled array, which is never read"),
        (b"", "is no array of NumPy's format"),
    ],
)
def test_a_header_is_not_believed(tmp_path, content, message, packed):
    path = tmp_path / ("own.npz" if packed else "own.npy")
    if packed:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", content)
    else:
        path.write_bytes(content)
    where = f"{path}: images" if packed else f"{path}"
    with pytest.raises(MistakeError, match=f"^arrays: {where} {message}") as caught:
        arrays(path)
    assert "\n" not in str(caught.value)
