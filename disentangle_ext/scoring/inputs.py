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
from disentangle_ext.metrics._discrete import check_codes, check_table
from disentangle_ext.models import VAE
from disentangle_ext.runs.codes import Codes, codes_of
from disentangle_ext.runs.config import TrainConfig
from disentangle_ext.runs.folder import RunFolder
from disentangle_ext.runs.load import load_run

__all__ = ["ScoredRun", "open_run", "periods_of", "read_array", "read_table"]


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
        """Give the codes of the images ``rows``: those of the last call where it had all, else of ``runs.codes``."""
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
    model, config = load_run(path, "evaluate")
    return ScoredRun(RunFolder(path), model, config, load_data(config.data, **config.data_options))


def read_table(codes: Path, factors: Path | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the arrays of --codes and --factors.

    Raises:
        MistakeError: for files that hold no such arrays, and for what no metric could score, as
            :func:`metrics.score_all` has it.
    """
    table = read_array("--codes", codes)
    if factors is None:
        return check_codes(table, "evaluate", "--codes"), None
    return check_table(table, read_array("--factors", factors), "evaluate", names=("--codes", "--factors"))


def read_array(flag: str, path: Path) -> np.ndarray:
    """Read the array of an .npy file, without unpickling anything or believing its header.

    Args:
        flag: the flag that the file is given with; begins the errors.
        path: the file.

    Raises:
        MistakeError: if there is no such file, or it is no whole array of real numbers.
    """
    if not path.exists():
        raise MistakeError(f"evaluate: {flag} {path} does not exist")
    wanted = f"evaluate: {flag} must be an array saved by numpy.save"
    if zipfile.is_zipfile(path):
        raise MistakeError(f"{wanted}, got an archive: {path}")
    try:
        array = read_arrays("evaluate", path, [flag])[flag]
    except MistakeError:
        raise MistakeError(f"{wanted}, without objects, got {path}") from None
    if array.dtype.kind not in "biuf":
        raise MistakeError(f"evaluate: {flag} must be real numbers, got {array.dtype}")
    return array


def periods_of(
    cyclic: Sequence[str] | None, factors: np.ndarray | None, factor_names: Sequence[str] | None
) -> dict[str, int]:
    """Count the classes that make a turn, for each factor of --cyclic.

    Raises:
        MistakeError: without factors, for a name that is none of theirs, and for classes below 0.
    """
    if cyclic is None:
        return {}
    if factors is None:
        raise MistakeError("evaluate: --cyclic needs --factors, [N, K]")
    names = factor_names or [f"factor_{k}" for k in range(factors.shape[1])]
    for name in cyclic:
        choose("evaluate: --cyclic", name, names)
    columns = dict(zip(names, factors.T))
    for name in cyclic:
        if columns[name].min() < 0:
            raise MistakeError(f"evaluate: --cyclic {name} must have classes from 0 on, got {columns[name].min()}")
    return {name: int(columns[name].max()) + 1 for name in cyclic}
