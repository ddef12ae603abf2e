"""The repository's root, from which studies/ and bench/ are imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # at the end: an installed copy of the package comes first


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
