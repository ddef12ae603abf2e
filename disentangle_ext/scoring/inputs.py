"""What is scored: a run with its model and data set, or arrays of codes and factors."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from disentangle_ext._errors import MistakeError
from disentangle_ext._files import WriteError
from disentangle_ext._names import choose
from disentangle_ext.data import GroundTruthData, load_data
from disentangle_ext.data.npy import read_arrays
from disentangle_ext.models import VAE
from disentangle_ext.runs.codes import Codes, codes_of
from disentangle_ext.runs.config import TrainConfig, read_yaml, resolve
from disentangle_ext.runs.folder import CONFIG, RunFolder
from disentangle_ext.runs.load import load

__all__ = ["ScoredRun", "open_run", "periods_of", "read_array"]


@dataclass
class ScoredRun:
    """A finished run, with its model and data set."""

    folder: RunFolder
    model: VAE
    config: TrainConfig
    data: GroundTruthData
    _codes: Codes | None = None

    def codes(
        self,
        rows: Tensor,
        *,
        progress: Callable[[int, int], object],
        not_kept: Callable[[WriteError], object] | None = None,
    ) -> Codes:
        """:func:`runs.codes.codes_of` for the images ``rows``, which asks for none of the last call again."""
        known = self._codes and self._codes.choose(rows)
        if known is None:
            known = codes_of(self.folder, self.model, self.data, rows, progress=progress, not_kept=not_kept)
            self._codes = known
        return known


def open_run(path: Path) -> ScoredRun:
    """Load the model and the data set of a finished run.

    Raises:
        MistakeError: if ``path`` is no run folder, the run is not finished, or its files are damaged.
    """
    folder = RunFolder(path)
    try:
        model = load(folder.path)
    except (FileNotFoundError, MistakeError) as error:
        raise MistakeError(str(error).replace("load:", "evaluate: RUN", 1)) from None
    if not folder.is_run:
        raise MistakeError(
            f"evaluate: RUN must be a folder with a {CONFIG}, which names the data set, got {folder.path}"
        )
    where = folder.path / CONFIG
    config = resolve(read_yaml(where, source="evaluate"), source=f"evaluate: {where}")
    return ScoredRun(folder, model, config, load_data(config.data, **config.data_options))


def read_array(flag: str, path: Path) -> np.ndarray:
    """Read the array of an .npy file, without unpickling anything or believing its header.

    Args:
        flag: the flag that the file is given with; begins the errors.
        path: the file.

    Raises:
        MistakeError: if there is no such file, or it is no whole array of numbers.
    """
    if not path.exists():
        raise MistakeError(f"evaluate: {flag} {path} does not exist")
    wanted = f"evaluate: {flag} must be an array saved by numpy.save"
    if zipfile.is_zipfile(path):
        raise MistakeError(f"{wanted}, got an archive: {path}")
    try:
        return read_arrays("evaluate", path, [flag])[flag]
    except MistakeError:
        raise MistakeError(f"{wanted}, without objects, got {path}") from None


def periods_of(
    cyclic: Sequence[str] | None, factors: np.ndarray | None, factor_names: Sequence[str] | None
) -> dict[str, int]:
    """Count the classes that make a turn, for each factor of --cyclic.

    Raises:
        MistakeError: without factors, and for a name that is none of theirs.
    """
    if cyclic is None:
        return {}
    if factors is None or factors.ndim != 2 or 0 in factors.shape:
        raise MistakeError("evaluate: --cyclic needs --factors, [N, K]")
    names = factor_names or [f"factor_{k}" for k in range(factors.shape[1])]
    for name in cyclic:
        choose("evaluate: --cyclic", name, names)
    largest = {name: float(column.max()) for name, column in zip(names, factors.T)}
    return {name: int(largest[name]) + 1 for name in cyclic}
