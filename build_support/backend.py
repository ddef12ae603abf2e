"""PEP 517 and 660 backend: setuptools, compiling against the torch that the environment already holds.

pip builds in an environment of its own, where torch would be downloaded a second time and might be another
version than the one the extension will meet at run time. That environment keeps the interpreter and its prefix,
so the site-packages of the surrounding one are still known: torch is taken from there. Tools that build under
another interpreter prefix (uv) need ``--no-build-isolation``.
"""

from __future__ import annotations

import importlib.util
import os
import site
import sys
import sysconfig
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]


def _site_packages() -> list[str]:
    paths = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    if sys.base_prefix in site.PREFIXES:  # false in a virtual environment that is cut off from the system
        paths.append(site.getusersitepackages())
    return paths


def _find_torch() -> bool:
    """Whether torch can be imported, after looking for it outside the build environment."""
    if importlib.util.find_spec("torch") is None:
        homes = [path for path in _site_packages() if Path(path, "torch", "version.py").is_file()]
        sys.path.extend(homes[:1])  # at the end: the build environment's own packages come first
    return importlib.util.find_spec("torch") is not None


def _torch_requirement() -> list[str]:
    return [] if _HAS_TORCH or os.environ.get("DISENTANGLE_EXT_BUILD") == "python" else ["torch>=2.11"]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    return build_meta.get_requires_for_build_wheel(config_settings) + _torch_requirement()


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    return build_meta.get_requires_for_build_editable(config_settings) + _torch_requirement()


_HAS_TORCH = _find_torch()
