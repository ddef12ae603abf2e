"""Columns of anybody's table, checked and made into NumPy's arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from disentangle_ext._errors import MistakeError, describe
from disentangle_ext._extras import require

__all__ = ["number_text", "numbers", "open_table", "texts", "to_table", "whole_numbers"]


def open_table(source: Any, where: str) -> Any:
    """A pyarrow.Table from one, a DataFrame of pandas or Polars, a mapping of columns, or a .parquet or .csv file.

    Raises:
        MistakeError: if it is none of these, or cannot be read. ``where`` begins the errors.
        MissingExtraError: without pyarrow.
    """
    pyarrow = require("pyarrow", extra="study", what=where)
    suffix = Path(source).suffix if isinstance(source, (str, Path)) else ""
    try:
        if isinstance(source, pyarrow.Table):
            return source
        if suffix == ".csv":
            return require("pyarrow.csv", extra="study", what=where).read_csv(source)
        if suffix == ".parquet":
            return require("pyarrow.parquet", extra="study", what=where).read_table(source)
        if isinstance(source, Mapping):
            return pyarrow.table({name: pyarrow.array(column) for name, column in source.items()})
        if hasattr(source, "__arrow_c_stream__"):
            return pyarrow.table(source)
    except (OSError, TypeError, pyarrow.ArrowException) as error:
        raise MistakeError(f"{where}: scores cannot be read: {' '.join(str(error).split())}") from error
    raise MistakeError(
        f"{where}: scores must be a pyarrow.Table, a DataFrame, a mapping of columns or the path of a .parquet or .csv "
        f"file, got {describe(source)}"
    )


def texts(table: Any, name: str, where: str, *, optional: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The distinct texts of a column, sorted, and the place among them of each row's.

    Numbers become text. An optional column may lack cells, or be absent, which is "" in every row.

    Raises:
        MistakeError: for cells that are neither text nor numbers, or are empty.
    """
    if optional and name not in table.column_names:
        return np.array([""], dtype=object), np.zeros(table.num_rows, dtype=np.int64)
    column = table.column(name)
    if column.null_count and not optional:
        raise MistakeError(f"{where}: scores must have text in the column {name}, got {column.null_count} empty cells")
    encoded = column.unify_dictionaries() if hasattr(column.type, "index_type") else column.dictionary_encode()
    encoded = encoded.combine_chunks()
    values = encoded.dictionary.to_pylist()
    wrong = [each for each in values if isinstance(each, bool) or not isinstance(each, (str, int, float))]
    if wrong and not (optional and wrong == [None]):
        raise MistakeError(f"{where}: scores must have text in the column {name}, got {describe(wrong[0])}")
    words = ["" if each is None else each if isinstance(each, str) else number_text(each) for each in values]
    places = encoded.indices.cast("int64").fill_null(len(words)).to_numpy(zero_copy_only=False)
    known, code = np.unique(np.array([*words, ""], dtype=object), return_inverse=True)
    used, code = np.unique(code[places], return_inverse=True)
    return known[used], code


def numbers(table: Any, name: str, where: str) -> np.ndarray:
    """A column as float64: NaN where it is empty or infinite.

    Raises:
        MistakeError: for a column of another type.
    """
    column, types = table.column(name), require("pyarrow", extra="study", what=where).types
    if not (types.is_integer(column.type) or types.is_floating(column.type) or types.is_null(column.type)):
        raise MistakeError(f"{where}: scores must have numbers in the column {name}, got {column.type}")
    values = column.cast("float64", safe=False).fill_null(math.nan).to_numpy()
    return np.where(np.isfinite(values), values, np.nan)


def whole_numbers(table: Any, name: str, where: str) -> np.ndarray:
    """A column as int64.

    Raises:
        MistakeError: for empty cells, fractions, or a column of another type.
    """
    column, values = table.column(name), numbers(table, name, where)
    wrong = np.flatnonzero(values != np.floor(values))  # NaN is not equal to itself
    if len(wrong):
        got = column[int(wrong[0])].as_py()
        raise MistakeError(f"{where}: scores must have whole numbers in the column {name}, got {got}")
    try:
        return column.cast("int64").to_numpy()
    except require("pyarrow", extra="study", what=where).ArrowInvalid as error:
        raise MistakeError(f"{where}: scores must have numbers below 2^63 in the column {name}: {error}") from error


def number_text(value: float) -> str:
    """A number as text: "4", "0.001", and all digits where they are needed to read the same number again."""
    short = format(value, "g")
    return short if float(short) == value else repr(value)


def to_table(columns: Mapping[str, Any]) -> Any:
    """A pyarrow.Table of columns."""
    return require("pyarrow", extra="study", what="study.analysis").table(dict(columns))
