"""The benchmark of the data sets, on the smallest of them."""

from __future__ import annotations

from disentangle_ext.data import DSpritesLike
from studies import data_sets


def test_data_sets_are_measured_and_tabulated():
    (row,) = data_sets.measure({"dsprites_like": DSpritesLike("quick")}, batch=8, seconds=0)
    assert list(row) == list(data_sets.COLUMNS)
    assert int(row["images_per_second"]) > 0
    other = {**row, "threads": "2", "images_per_second": "12345"}
    lines = data_sets.table([{**row, "threads": "1", "images_per_second": "1000"}, other]).splitlines()
    assert lines[0] == "| set | images | C x H x W | images/s, 1 thread | images/s, 2 threads |"
    assert lines[2] == "| `dsprites_like` | 1,536 | 1 x 32 x 32 | 1,000 | 12,345 |"
    assert data_sets.table([]) == "Not measured yet.\n"
