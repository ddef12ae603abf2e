"""The optional dependencies: which extra brings which module."""

from __future__ import annotations

import importlib
from types import ModuleType

from disentangle_ext._errors import MistakeError

EXTRAS: dict[str, dict[str, str]] = {
    "train": {
        "filelock": "filelock",
        "rich": "rich",
        "safetensors": "safetensors",
        "yaml": "PyYAML",
    },
    "data": {"h5py": "h5py", "PIL": "Pillow", "pooch": "pooch", "scipy": "scipy", "sklearn": "scikit-learn"},
    "metrics": {"sklearn": "scikit-learn"},
    "report": {"matplotlib": "matplotlib", "PIL": "Pillow"},
    "tensorboard": {"tensorboard": "tensorboard"},
    "study": {
        "duckdb": "duckdb",
        "pyarrow": "pyarrow",
        "threadpoolctl": "threadpoolctl",
        "vl_convert": "vl-convert-python",
    },
    "ray": {"ray": "ray"},
    "slurm": {"submitit": "submitit"},
}
"""Per extra: the name a module is imported by, and the name of its distribution."""


class MissingExtraError(ImportError, MistakeError):
    """An optional dependency is not installed; the message is the line that installs it."""


def require(module: str, *, extra: str, what: str = "this") -> ModuleType:
    """Import an optional dependency.

    Args:
        module: dotted name of the module, for example "matplotlib.figure".
        extra: the extra of disentangle_ext that installs it.
        what: the function that needs it; begins the error message.

    Raises:
        MissingExtraError: with the one line that installs it, if the distribution is absent.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module.partition(".")[0]:
            raise  # the module is there: something that it needs is not
        message = f'{what} needs {module}: pip install "disentangle_ext[{extra}]"'
        raise MissingExtraError(message, name=module) from None
