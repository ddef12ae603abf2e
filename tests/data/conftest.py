from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Every test has a cache of its own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("DISENTANGLE_EXT_CACHE", str(folder))
    return folder
