"""The GIF moves there and back, for ever, and shows what it was given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from disentangle_ext.report import save_animation
from disentangle_ext.report.animation import KNOB
from disentangle_ext.report.grid import PAGE

LABELS = ["z1", "z0"]


def rows(starts=3, steps=4, channels=1, size=16):
    """Each latent a grey of its own at each step: 20 apart."""
    grey = torch.arange(2 * steps).view(2, 1, steps, 1, 1, 1) * 20 / 255 + 20 / 255
    return grey.expand(2, starts, steps, channels, size, size)


def frames(path):
    with Image.open(path) as image:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]


def knob(frame):
    """Where the knob begins: the only run of 12 dark pixels in 12 lines."""
    dark = (frame == KNOB).all(-1)
    runs = np.lib.stride_tricks.sliding_window_view(dark, (12, 12)).all((-1, -2))
    return int(np.argwhere(runs)[0, 1])


@pytest.mark.parametrize("starts", [1, 2, 3, 5])
def test_there_and_back(tmp_path, starts):
    save_animation(tmp_path / "a.gif", rows(starts), LABELS, [-2, -1, 1, 2])
    shown = frames(tmp_path / "a.gif")
    assert len(shown) == 6
    for a, b in ((1, 5), (2, 4)):
        np.testing.assert_array_equal(shown[a], shown[b])
    for frame, step in zip(shown, (0, 1, 2, 3, 2, 1)):
        assert (frame[4, 4] == PAGE).all()
        for latent in range(2):
            grey = 20 + 20 * (4 * latent + step)
            assert (np.abs(frame.astype(int) - grey).max(-1) <= 1).sum() >= starts * 64 * 64
    places = [knob(frame) for frame in shown[:4]]
    assert np.diff(places) / (places[3] - places[0]) == pytest.approx([0.25, 0.5, 0.25], abs=0.02)


def test_loop_and_duration(tmp_path):
    save_animation(tmp_path / "a.gif", rows(), LABELS, [0, 1, 2, 3], milliseconds=50)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["loop"] == 0
        assert image.info["duration"] == 50
        image.seek(3)
        assert image.info["duration"] == 50


def test_a_model_that_draws_the_same_whatever_its_code_still_has_every_frame(tmp_path):
    save_animation(tmp_path / "a.gif", torch.zeros(2, 3, 5, 3, 64, 64), LABELS, torch.linspace(-2, 2, 5))
    assert len(frames(tmp_path / "a.gif")) == 8


def test_it_is_small(tmp_path):
    noise = torch.rand(6, 5, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 13, -1, -1, -1)
    save_animation(tmp_path / "a.gif", noise, [f"z{i}" for i in range(6)], torch.linspace(-2, 2, 13))
    assert (tmp_path / "a.gif").stat().st_size < 150_000  # what does not change from frame to frame costs nothing


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((rows()[0], LABELS, [0, 1, 2, 3]), r"rows must be \[L, n, steps, C, H, W\]"),
        ((rows(), ["z0"], [0, 1, 2, 3]), "labels must name each of the 2 rows, got 1"),
        ((rows(), LABELS, [0, 1, 2]), "values must be 4 ascending numbers, one per step"),
        ((rows(), LABELS, [0, 1, 2, 2]), "values must be 4 ascending numbers"),
        ((rows(), LABELS, [0, 1, 2, np.nan]), "values must be 4 ascending numbers"),
        ((rows(steps=1), LABELS, [0]), "values must be 2 ascending numbers"),
    ],
)
def test_errors(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=f"save_animation: {message}"):
        save_animation(tmp_path / "a.gif", *arguments)
    with pytest.raises(ValueError, match=r"save_animation: path must end in .gif, got '.*a.png'"):
        save_animation(tmp_path / "a.png", *arguments)
    assert not list(tmp_path.iterdir())


def test_a_frame_lasts_as_long_as_a_viewer_can_show(tmp_path):
    with pytest.raises(ValueError, match="save_animation: milliseconds must be at least 20, got 10"):
        save_animation(tmp_path / "a.gif", rows(), LABELS, [0, 1, 2, 3], milliseconds=10)
