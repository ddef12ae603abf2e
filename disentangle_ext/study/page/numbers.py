"""Numbers of a table as a person reads them."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["fixed", "interval_text", "is_number", "number_text", "rows_of", "value_or_none"]


def rows_of(table: Any) -> list[dict[str, Any]]:
    """The rows of a pyarrow.Table."""
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def value_or_none(value: Any) -> Any:
    """The value, but None for what JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def fixed(value: float, digits: int = 2) -> str:
    """A number with ``digits`` decimals, and no sign where these are all 0."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def number_text(value: Any, digits: int = 3) -> str:
    """A cell: whole numbers with separators, others with ``digits`` decimals or as many digits, nothing for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or not math.isfinite(value):
        return f"{value:,}"
    return fixed(value, digits) if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.{digits}g}"


def interval_text(low: Any, high: Any) -> str:
    """ "0.31 to 0.82", or a dash where there is no interval."""
    return f"{fixed(low)} to {fixed(high)}" if is_number(low) and is_number(high) else "–"
