"""Files of codes and factors that are not what they say."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from disentangle_ext import evaluate
from disentangle_ext.scoring.inputs import read_array


def npy(shape: str, content: bytes = b"") -> bytes:
    """A file of float64 whose header says ``shape``."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + content


def test_an_array_is_read_as_it_was_saved(tmp_path: Path) -> None:
    expected = np.arange(12.0).reshape(3, 4)[:, ::2]
    np.save(tmp_path / "codes.npy", expected)
    assert np.array_equal(read_array("--codes", tmp_path / "codes.npy"), expected)
    assert np.array_equal(np.load(io.BytesIO(npy("(1, 2)", bytes(16)))), np.zeros((1, 2)))  # npy is right


@pytest.mark.parametrize(
    "content",
    [npy("(1000000000000, 10)"), npy("(True, 2)", bytes(16)), npy("(3, 2)", bytes(40)), npy("(-1, 2)"), npy("(["), b""],
    ids=["more rows than memory", "a flag for a size", "cut short", "fewer than none", "no header", "empty"],
)
def test_a_file_that_is_no_whole_array(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "codes.npy"
    path.write_bytes(content)
    assert evaluate.main(["--codes", str(path), "--metrics", "active_units"]) == 2
    said = f"evaluate: --codes must be an array saved by numpy.save, without objects, got {path}\n"
    assert capsys.readouterr().err == said
