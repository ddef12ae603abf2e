"""A user's own arrays behind the interface of data sets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from disentangle_ext.data import ArrayData


@pytest.fixture
def colours():
    """Five 4 x 6 colour images that hold part of a 3 x 2 grid, one combination twice."""
    images = torch.arange(5 * 3 * 4 * 6, dtype=torch.uint8).view(5, 3, 4, 6)
    factors = [[0.5, -3], [2.5, -3], [0.5, 7], [0.5, -3], [9.5, 7]]
    return ArrayData(images, factors, ["height", "mood"]), images


IMAGES = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
F = np.arange(6)[:, None]


def test_arrays_keep_pixels_rows_and_classes(colours):
    data, images = colours
    assert len(data) == 5
    assert data.image_shape == (3, 4, 6)
    assert data.factor_names == ("height", "mood")
    assert data.factor_sizes == (3, 2)
    rows = torch.arange(5)
    assert torch.equal(data.images(rows), images)
    assert torch.equal(data.images([4, 1]), images[[4, 1]])
    assert data.batch(rows).is_contiguous(memory_format=torch.channels_last)
    assert data.factors(rows).tolist() == [[0, 0], [1, 0], [0, 1], [0, 0], [2, 1]]
    assert data.index([[2, 1], [0, 0], [0, 1]]).tolist() == [4, 0, 2]
    assert torch.equal(data.sample_images([[2, 1]]), images[4:])
    drawn = data.sample_factors(200, generator=torch.Generator().manual_seed(0)).tolist()
    assert sorted(set(map(tuple, drawn))) == [(0, 0), (0, 1), (1, 0), (2, 1)]
    with pytest.raises(ValueError, match=r"ArrayData.index: factors must be those of an image, got \(1, 1\)"):
        data.index([[0, 0], [1, 1]])
    with pytest.raises(IndexError, match=r"ArrayData.images: index must be in 0..4, got 5"):
        data.images([5])


def test_arrays_without_factors_can_only_be_looked_at():
    data = ArrayData(IMAGES)
    assert (data.factor_names, data.factor_sizes, len(data)) == ((), (), 6)
    assert torch.equal(data.images([2])[0, 0], torch.from_numpy(IMAGES[2]))
    assert data.factors([0, 1]).shape == (2, 0)
    with pytest.raises(ValueError, match=r"ArrayData.index: arrays has no factors to find an image by"):
        data.index(torch.empty(1, 0, dtype=torch.int64))


def test_arrays_take_bool_and_read_only_images_and_share_memory_when_they_can(recwarn):
    mask = IMAGES > 60
    assert torch.equal(ArrayData(mask).images([3])[0, 0], torch.from_numpy(mask[3]) * 255)
    last = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    last.flags.writeable = False
    data = ArrayData(last.transpose(0, 3, 1, 2))
    assert data._stored.data_ptr() == last.ctypes.data
    assert torch.equal(data.images([1])[0], torch.tensor(last[1]).permute(2, 0, 1))
    assert not recwarn.list


def test_sample_index_draws_among_the_images_of_a_combination():
    images = np.arange(7, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(5, 2)
    data = ArrayData(images, [[0], [1], [1], [0], [1], [1], [1]])
    generator = torch.Generator().manual_seed(0)
    counts = torch.bincount(data.sample_index([[1]] * 5000, generator=generator), minlength=7)
    assert counts[[0, 3]].sum() == 0
    assert ((counts[[1, 2, 4, 5, 6]] - 1000).abs() < 5 * 800**0.5).all()
    assert set(data.sample_images([[0]] * 50, generator=generator)[:, 0, 0, 0].tolist()) == {0, 3}
    assert data.sample_index(torch.empty(0, 1, dtype=torch.int64)).shape == (0,)
    with pytest.raises(ValueError, match=r"factors\[:, 0\] \(factor_0\) must be in 0..1, got 2"):
        data.sample_index([[2]])
    gap = ArrayData(IMAGES[:2], [[0, 0], [1, 1]])
    with pytest.raises(ValueError, match=r"factors must be those of an image, got \(1, 0\), which none has"):
        gap.sample_index([[1, 0]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((IMAGES / 255,), TypeError, "images must be uint8 in 0..255 or bool, got torch.float64"),
        ((IMAGES // 200 + 1,), ValueError, r"images must use the range 0..255.*pass images \* 255"),
        ((IMAGES[0],), ValueError, r"images must be \[N, H, W\] or \[N, C, H, W\].*got \[4, 5\]"),
        ((IMAGES[:0],), ValueError, r"images must be .* not empty, got \[0, 1, 4, 5\]"),
        (
            (np.full((2, 8, 9, 3), 7, np.uint8),),
            ValueError,
            r"images must be .*got \[2, 8, 9, 3\], which looks like \[N, H, W, C\]",
        ),
        ((IMAGES, F[:5]), ValueError, r"factors must be \[N, K\] with N = 6 images, got \[5, 1\]"),
        ((IMAGES, F[:, 0]), ValueError, r"factors must be \[N, K\] with N = 6 images, got \[6\]"),
        ((IMAGES, F.astype(str)), TypeError, "factors must be numbers, got <U21"),
        ((IMAGES, F * np.nan), ValueError, "factors must be finite, got NaN"),
        (
            (IMAGES, F, ["a", "b"]),
            ValueError,
            r"names must be 1 distinct names, one per factor, got \['a', 'b'\]",
        ),
        (
            (IMAGES, np.hstack([F, F]), ["a", "a"]),
            ValueError,
            r"names must be 2 distinct names.*got \['a', 'a'\]",
        ),
    ],
)
def test_wrong_arrays_are_named(arguments, error, message):
    with pytest.raises(error, match=f"ArrayData: {message}"):
        ArrayData(*arguments)
