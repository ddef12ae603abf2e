"""The cache: files are whole or absent."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from disentangle_ext._files import replacing
from disentangle_ext.data import cache as module
from disentangle_ext.data.cache import cache_folder, cached_rows, progress


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("DISENTANGLE_EXT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "disentangle_ext"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "disentangle_ext"


def test_rows_are_made_once_and_mapped(cache):
    pieces = [np.arange(6, dtype=np.uint8).reshape(2, 3), np.full((1, 3), 9, np.uint8)]
    for make in (lambda: iter(pieces), None):
        rows = cached_rows("a/b.npy", 3, 3, make, what="test")
        assert torch.equal(rows, torch.tensor([[0, 1, 2], [3, 4, 5], [9, 9, 9]], dtype=torch.uint8))
    rows.zero_()  # a private copy: the file stays as it is
    assert np.load(cache / "a" / "b.npy").sum() == 42
    with pytest.raises(ValueError, match=r"b.npy is not \[3, 4\] of uint8, but \[3, 3\] of uint8: delete it"):
        cached_rows("a/b.npy", 3, 4, None, what="test")


def test_too_few_rows_leave_no_file(cache):
    with pytest.raises(ValueError, match="test: 9 bytes of pixels were expected, 3 were made"):
        cached_rows("a.npy", 3, 3, lambda: [np.zeros((1, 3), np.uint8)], what="test")
    assert not list(cache.iterdir())


def test_a_full_disk_is_named_before_the_work(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5 * 10**9))
    with pytest.raises(OSError, match=r"test needs 12.7 GB in .*, which has 5.0 GB free: make room, or set DIS"):
        cached_rows("a.npy", 1_036_800, 12_288, None, what="test")


def test_replacing_keeps_the_old_file_on_an_error(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_progress_speaks_of_slow_work_alone(capsys, monkeypatch):
    clock = iter([0.0, 0.5, 2.0, 2.0, 3.0, 12.5, 12.5, 13.0, 13.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress("quick", 1) as advance:
        advance(1)
    assert capsys.readouterr().err == ""
    with progress("slow", 200) as advance:
        for _ in range(2):
            advance(50)
    assert capsys.readouterr().err.splitlines()[0].startswith("slow: ")
