"""Data sets as map-style data sets of torch: single rows, and what a DataLoader makes of them."""

from __future__ import annotations

import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, random_split

from disentangle_ext.data import ArrayData, load_data
from disentangle_ext.data.base import GroundTruthData


@pytest.fixture(scope="module")
def quick() -> GroundTruthData:
    return load_data("dsprites_like", variant="quick")


@pytest.fixture(scope="module")
def noisy() -> GroundTruthData:
    """Three channels, whose order in memory is not that of the shape, and noise that follows from the row."""
    return load_data("dsprites_like", variant="quick", effect="noisy")


@pytest.mark.parametrize("index", [7, np.int64(7), torch.tensor(7), 7 - 1536])
def test_a_row_is_an_image_with_its_factors(noisy, index):
    image, factors = noisy[index]
    assert torch.equal(image, noisy.batch([7])[0])
    assert torch.equal(factors, noisy.factors([7])[0])
    assert image.dtype == torch.float32
    assert factors.dtype == torch.int64


@pytest.mark.parametrize("index", [1536, -1537])
def test_there_is_no_row_beyond_the_ends(quick, index):
    with pytest.raises(IndexError, match=rf"DSpritesLike\[index\]: index must be in -1536..1535, got {index}"):
        quick[index]


@pytest.mark.parametrize("index", [slice(3), [0, 1], 0.5, torch.tensor([0, 1]), None])
def test_what_is_no_row_is_refused(quick, index):
    with pytest.raises(TypeError, match=rf"index must be an integer, got {type(index).__name__}; .*batch\(index\)"):
        quick[index]


def test_iteration_ends():
    data = ArrayData(np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 2, 2), [[5], [6], [8]])
    images, factors = zip(*data)
    assert torch.equal(torch.stack(images), data.batch(range(3)))
    assert torch.equal(torch.stack(factors), torch.tensor([[0], [1], [2]]))


def test_several_rows_are_fetched_at_once(noisy, monkeypatch):
    calls = []
    pixels = type(noisy)._pixels
    monkeypatch.setattr(type(noisy), "_pixels", lambda self, rows: calls.append(len(rows)) or pixels(self, rows))
    images, factors = next(iter(DataLoader(noisy, batch_size=64)))
    assert calls == [64]
    assert torch.equal(images, noisy.batch(range(64)))
    assert torch.equal(factors, noisy.factors(range(64)))


def test_a_shuffling_loader_keeps_images_with_their_factors(noisy):
    assert isinstance(noisy, Dataset)
    loader = DataLoader(noisy, batch_size=100, shuffle=True, generator=torch.Generator().manual_seed(0))
    rows = []
    for images, factors in loader:
        rows.append(noisy.index(factors))
        assert torch.equal(images, noisy.batch(rows[-1]))
    seen = torch.cat(rows)
    assert not torch.equal(seen, torch.arange(len(noisy)))
    assert torch.equal(seen.sort().values, torch.arange(len(noisy)))


@pytest.mark.forks
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_worker_processes(noisy):
    """A process that is spawned gets the set as one that is forked, through a pickle."""
    sent = pickle.loads(pickle.dumps(noisy))
    loader = DataLoader(sent, batch_size=512, num_workers=1, multiprocessing_context="fork")
    images, factors = (torch.cat(parts) for parts in zip(*loader))
    everything = range(len(noisy))
    assert torch.equal(images, noisy.batch(everything))
    assert torch.equal(factors, noisy.factors(everything))


def test_parts_and_sums_of_sets(quick):
    first, second = random_split(quick, [1000, 536], generator=torch.Generator().manual_seed(0))
    rows = [quick.index(factors) for part in (first, second) for _, factors in DataLoader(part, batch_size=300)]
    assert torch.equal(torch.cat(rows).sort().values, torch.arange(1536))
    both = quick + quick
    assert isinstance(both, ConcatDataset)
    assert torch.equal(both[1536 + 9][0], quick[9][0])


def test_images_without_factors():
    data = ArrayData(np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 2, 2))
    images, factors = next(iter(DataLoader(data, batch_size=2)))
    assert images.shape == (2, 1, 2, 2)
    assert factors.shape == (2, 0)
