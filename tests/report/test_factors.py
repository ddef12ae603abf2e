"""A factor traversal changes one factor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from disentangle_ext.data import ArrayData, load_data
from disentangle_ext.report import factor_traversals, factors, save_factor_traversals

SPRITES = load_data("dsprites_like", variant="quick")


def images(count):
    return np.full((count, 8, 8), 200, np.uint8)


@pytest.mark.parametrize("start", [None, 0, 1000])
def test_each_row_varies_its_factor_alone_from_first_class_to_last(start):
    rows = factor_traversals(SPRITES, start, columns=7)
    assert list(rows) == ["scale", "position_x", "position_y"]
    kept = SPRITES.factors([start])[0] if start is not None else torch.tensor([3, 8, 8])
    for k, index in enumerate(rows.values()):
        classes = SPRITES.factors(index)
        size = SPRITES.factor_sizes[k]
        assert len(index) == min(7, size)
        assert (classes[:, k].diff() > 0).all()
        assert (int(classes[0, k]), int(classes[-1, k])) == (0, size - 1)
        assert (classes.index_fill(1, torch.tensor([k]), 0) == kept.index_fill(0, torch.tensor([k]), 0)).all()


def test_gaps_of_the_grid_are_left_out():
    table = [[0, 0], [0, 2], [1, 0], [2, 1], [0, 3], [0, 2]]
    rows = factor_traversals(ArrayData(images(6), table, ["a", "b"]), 0)
    assert {name: index.tolist() for name, index in rows.items()} == {"a": [0, 2], "b": [0, 1, 4]}


def test_a_grid_with_a_gap_in_its_middle():
    data = ArrayData(images(3), [[0, 0], [0, 1], [1, 0]], ["a", "b"])
    rows = factor_traversals(data)
    assert {name: index.tolist() for name, index in rows.items()} == {"a": [1], "b": [0, 1]}


def test_the_class_under_an_image_is_its_own(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(factors, "write_png", lambda path, grid, **_: drawn.append(grid))
    save_factor_traversals(tmp_path / "f.png", SPRITES, columns=3)
    assert drawn[0].labels == ["scale, 6 classes", "position_x, 16 classes", "position_y, 16 classes"]
    assert drawn[0].notes == [["0", "2", "5"], ["0", "8", "15"], ["0", "8", "15"]]
    for k, (row, notes) in enumerate(zip(drawn[0].rows, drawn[0].notes)):
        wanted = torch.tensor([3, 8, 8]).repeat(3, 1)
        wanted[:, k] = torch.tensor([int(note) for note in notes])
        np.testing.assert_array_equal(row[..., 0], SPRITES.images(SPRITES.index(wanted))[:, 0])
    assert "dsprites_like (quick), 1,536 images" in drawn[0].caption


def test_it_is_written(tmp_path):
    save_factor_traversals(tmp_path / "f.png", SPRITES)
    with Image.open(tmp_path / "f.png") as image:
        assert image.width > 10 * 100


def test_errors():
    with pytest.raises(ValueError, match="factor_traversals: data must have factors, arrays has none"):
        factor_traversals(ArrayData(images(2)))
    with pytest.raises(ValueError, match="factor_traversals: columns must be at least 2, got 1"):
        factor_traversals(SPRITES, columns=1)
