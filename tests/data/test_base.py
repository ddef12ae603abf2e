"""The interface of data sets, on the smallest procedural one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from disentangle_ext._errors import MistakeError
from disentangle_ext.data import DATASETS, ArrayData, DSpritesLike, load_data


@pytest.fixture(scope="module")
def quick():
    return load_data("dsprites_like", variant="quick")


def test_load_data_knows_its_sets_and_suggests_names():
    assert isinstance(load_data("dsprites_like"), DSpritesLike)
    assert {"dsprites_like", "shapes3d_like", "torus_like"} <= set(DATASETS)
    with pytest.raises(MistakeError, match="load_data: unknown data set 'dsprite_like': did you mean 'dsprites_like'"):
        load_data("dsprite_like")
    with pytest.raises(MistakeError, match="unknown option of dsprites_like 'varaint': did you mean 'variant'"):
        load_data("dsprites_like", varaint="quick")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dsprites_like", {"variant": "quik"}),
        ("dsprites_like", {"effect": "coloured"}),
        ("dsprites_like", {"texture": "a.png"}),
        ("shapes3d_like", {"variant": "quik"}),
        ("faces_like", {"variant": "quik"}),
        ("torus_like", {"classes": 1}),
        ("dsprites", {"effect": "coloured"}),
        ("mpi3d", {"variant": "reel"}),
        ("smallnorb", {"path": __file__}),
        ("image_folder", {}),
        ("arrays", {}),
        ("arrays", {"path": __file__}),
    ],
)
def test_a_program_can_tell_a_mistake_from_a_bug(name, options):
    with pytest.raises(MistakeError):
        load_data(name, **options)


def test_a_batch_is_the_images_divided_by_255(quick):
    index = torch.tensor([7, 0, 1535, 7])
    images, batch = quick.images(index), quick.batch(index)
    assert images.dtype == torch.uint8
    assert batch.dtype == torch.float32
    assert images.shape == batch.shape == (4, *quick.image_shape)
    assert set(images.unique().tolist()) == {0, 255}
    assert torch.equal(batch, images / 255)
    batch.zero_()
    assert torch.equal(quick.images(index), images)


def test_index_and_factors_are_inverse_and_in_c_order(quick):
    rows = torch.arange(len(quick))
    factors = quick.factors(rows)
    expected = np.stack(np.unravel_index(rows.numpy(), quick.factor_sizes), 1)
    np.testing.assert_array_equal(factors.numpy(), expected)
    assert torch.equal(quick.index(factors), rows)
    assert factors.dtype == quick.index(factors).dtype == torch.int64


def test_sampling_is_uniform_reproducible_and_separate_from_the_global_generator(quick):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    drawn = quick.sample_factors(20_000, generator=torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(drawn, quick.sample_factors(20_000, generator=torch.Generator().manual_seed(3)))
    assert not torch.equal(drawn, quick.sample_factors(20_000))
    for k, size in enumerate(quick.factor_sizes):
        counts = torch.bincount(drawn[:, k], minlength=size).double()
        expected = 20_000 / size
        assert len(counts) == size
        assert ((counts - expected).abs() < 5 * expected**0.5).all()
    centred = drawn.double() - drawn.double().mean(0)
    assert (torch.corrcoef(centred.T) - torch.eye(3)).abs().max() < 0.04
    assert torch.equal(quick.sample_images(drawn[:9]), quick.images(quick.index(drawn[:9])))
    assert quick.sample_factors(0).shape == (0, 3)


def test_lists_arrays_and_any_integer_type_index(quick):
    expected = quick.images(torch.tensor([3, 5]))
    for index in ([3, 5], np.array([3, 5]), torch.tensor([3, 5], dtype=torch.uint8), range(3, 7, 2)):
        assert torch.equal(quick.images(index), expected)
    assert torch.equal(quick.index([[0, 1, 2]]), torch.tensor([18]))
    for empty in ([], torch.empty(0, dtype=torch.int64)):
        assert quick.batch(empty).shape == (0, 1, 32, 32)
        assert quick.factors(empty).shape == (0, 3)


@pytest.mark.parametrize("method", ["images", "batch", "factors"])
@pytest.mark.parametrize(
    ("index", "error", "got"),
    [
        ([0, 1536], IndexError, r"must be in 0..1535, got 1536"),
        ([-1, 0], IndexError, r"must be in 0..1535, got -1"),
        ([0.0], TypeError, "must hold integers, got torch.float32"),
        (torch.empty(0), TypeError, "must hold integers, got torch.float32"),
        ([True], TypeError, "must hold integers, got torch.bool"),
        ([[0]], ValueError, r"must have shape \[n\], got \[1, 1\]"),
        (3, ValueError, r"must have shape \[n\], got \[\]"),
    ],
)
def test_a_wrong_index_is_named(quick, method, index, error, got):
    with pytest.raises(error, match=f"DSpritesLike.{method}: index {got}"):
        getattr(quick, method)(index)


@pytest.mark.parametrize("method", ["index", "sample_images"])
@pytest.mark.parametrize(
    ("factors", "error", "got"),
    [
        ([[0, 16, 0]], ValueError, r"\[:, 1\] \(position_x\) must be in 0..15, got 16"),
        ([[0, 0, 0], [-2, 0, 0]], ValueError, r"\[:, 0\] \(scale\) must be in 0..5, got -2"),
        ([[0, 0]], ValueError, r" must have shape \[n, 3\] \(scale, position_x, position_y\), got \[1, 2\]"),
        ([0, 0, 0], ValueError, r" must have shape \[n, 3\].*got \[3\]"),
        ([[0, 0.5, 0]], TypeError, " must hold integers, got torch.float32"),
    ],
)
def test_wrong_factors_are_named(quick, method, factors, error, got):
    with pytest.raises(error, match=f"DSpritesLike.{method}: factors{got}"):
        getattr(quick, method)(factors)


def test_a_negative_number_of_samples_is_an_error(quick):
    with pytest.raises(ValueError, match=r"DSpritesLike.sample_factors: n must be at least 0, got -1"):
        quick.sample_factors(-1)


@pytest.mark.parametrize("kind", ["default", "quick", "arrays"])
def test_everything_moves_with_the_device(kind):
    arrays = ArrayData(np.zeros((2, 4, 5), np.uint8), [[0], [1]])
    host = arrays if kind == "arrays" else load_data("dsprites_like", variant=kind)
    data = host.to("meta")
    assert data.device.type == "meta"
    assert data.batch([0, 1]).device.type == "meta"
    assert data.factors([0, 1]).device.type == "meta"
    assert not [name for name, value in vars(data).items() if getattr(value, "device", data.device) != data.device]
    assert host.device.type == "cpu"
    assert host.batch([0, 1]).device.type == host.factors([0, 1]).device.type == "cpu"


def test_a_set_moved_to_where_it_is_shares_its_memory():
    host = ArrayData(np.zeros((2, 4, 5), np.uint8), [[0], [1]])
    assert host.to("cpu") is not host
    assert host.to("cpu")._stored.data_ptr() == host._stored.data_ptr()


@pytest.mark.parametrize(
    ("name", "options", "periods"),
    [
        ("dsprites_like", {}, {"orientation": 40}),
        ("dsprites_like", {"variant": "official"}, {"orientation": 39}),
        ("dsprites_like", {"variant": "quick"}, {}),
        ("shapes3d_like", {"variant": "quick"}, {"floor_hue": 10, "object_hue": 10}),
        ("torus_like", {"factors": 2, "classes": 12, "size": 16}, {"position_x": 12, "position_y": 12}),
    ],
)
def test_a_turn_of_a_factor_on_a_circle(name, options, periods):
    """The last step, back to the first class, changes the image about as much as the others, or not at all."""
    data = load_data(name, **options)
    assert dict(data.periods) == periods
    start = torch.tensor([[size // 2 for size in data.factor_sizes]])
    for factor, period in periods.items():
        classes = start.repeat(period, 1)
        classes[:, data.factor_names.index(factor)] = torch.arange(period)
        images = data.batch(data.index(classes))
        steps = (images.roll(-1, 0) - images).abs().flatten(1).mean(1)
        assert steps[-1] <= 1.5 * steps[:-1].max()
