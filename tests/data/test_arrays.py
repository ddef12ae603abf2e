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


SHADES = np.arange(0, 256, 5, dtype=np.uint8).reshape(4, 13, 1)
BYTES = torch.tensor(SHADES)


@pytest.mark.parametrize(
    ("images", "came"),
    [
        (SHADES / 255, "float64 from 0 to 1: pass (images * 255).round().astype('uint8')"),
        (BYTES.float() / 255, "float32 from 0 to 1: pass (images * 255).round().to(torch.uint8)"),
        (BYTES.float() / 127.5 - 1, "float32 from -1 to 1: pass ((images + 1) * 127.5).round().to(torch.uint8)"),
        (SHADES.astype("f4"), "float32 from 0 to 255: pass images.round().astype('uint8')"),
        (BYTES.bfloat16(), "bfloat16 from 0 to 255: pass images.round().to(torch.uint8)"),
        (SHADES.astype(int), "int64 from 0 to 255: pass images.astype('uint8')"),
        (SHADES.astype("u2") * 257, "uint16 from 0 to 65535: pass (images / 257).round().astype('uint8')"),
        (BYTES.to(torch.uint16) * 257, "uint16 from 0 to 65535: pass (images / 257).round().to(torch.uint8)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_images_that_are_no_bytes_are_told_how_to_become_them(images, came):
    with pytest.raises(TypeError) as caught:
        ArrayData(images)
    assert str(caught.value) == f"ArrayData: images must be uint8 in 0..255 or bool, got {came}"
    converted = eval(came.split(": pass ")[1], {"images": images, "torch": torch})
    assert torch.equal(ArrayData(converted).images(range(4)), ArrayData(SHADES).images(range(4)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((IMAGES.astype(str),), TypeError, "images must be uint8 in 0..255 or bool, got <U"),
        ((IMAGES[:0] / 255,), TypeError, "images must be uint8 in 0..255 or bool, got float64$"),
        ((IMAGES * 1e9,), TypeError, r"images must be .*, got float64 from .* to .*: bring them to 0\.\.255 first$"),
        ((IMAGES.astype(int) * 34,), TypeError, r"images must be .*, got int64 from 0 to 4046: bring them to 0\.\.255"),
        (
            (IMAGES * np.nan,),
            TypeError,
            r"images must be .*, got float64 from nan to nan: bring them to 0\.\.255 first$",
        ),
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
