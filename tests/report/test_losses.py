"""The plot of metrics.jsonl: which term is drawn where, with which values and words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from disentangle_ext.objectives import AnnealedVAE
from disentangle_ext.report import losses, save_losses
from disentangle_ext.report.losses import smooth

TC = {"loss": 900.0, "reconstruction": 50.0, "kl": 4.0, "tc_mws": 37.0, "total_correlation": -0.5}
CLOCK = {"seconds": 1.0, "images_per_second": 100.0, "lr": 1e-3}


@pytest.fixture
def plot(tmp_path, monkeypatch):
    """Draw, and return the figure."""
    figures = []
    pixels_of = losses.pixels_of
    monkeypatch.setattr(losses, "pixels_of", lambda figure: figures.append(figure) or pixels_of(figure))

    def draw(rows, **options):
        save_losses(tmp_path / "l.png", rows, **options)
        assert (tmp_path / "l.png").read_bytes().startswith(b"\x89PNG")
        return figures[-1]

    return draw


def lines(count, terms=TC, every=50):
    return [{"step": every * (i + 1), **CLOCK, **terms} for i in range(count)]


def panel(figure, title):
    return next(axes for axes in figure.axes if axes.get_title("left") == title)


def curve(axes, name):
    return next(line for line in axes.lines if line.get_label() == name)


def words(figure):
    return " ".join(text.get_text() for text in figure.texts)


def test_terms_with_a_constant_have_axes_of_their_own(plot):
    figure = plot(lines(3), title="T", caption="vae on a set")
    shown = {a.get_title("left"): [line.get_label() for line in a.lines] for a in figure.axes}
    assert shown == {
        "Loss, as it is minimised": ["loss"],
        "Reconstruction, \N{MINUS SIGN}log p(x|z)": ["reconstruction"],
        "KL and its parts": ["kl", "total_correlation"],
        "Trained on: with the estimator's constant": ["tc_mws"],
    }
    assert {axes.get_ylabel() for axes in figure.axes} == {"nats"}
    assert words(figure) == (
        "T vae on a set Each point is the mean of the 50 steps up to it; not smoothed Of one batch, by mss: "
        "total_correlation With a large constant of the estimator, so not to be read as figures: tc_mws"
    )


def test_ticks_are_whole_values(plot):
    rows = [{**row, "tc_mws": 36.685 + 1e-4 * i} for i, row in enumerate(lines(6))]
    axes = panel(plot(rows), "Trained on: with the estimator's constant")
    assert axes.yaxis.get_offset_text().get_text() == ""
    assert all(tick.get_text().startswith("36.68") for tick in axes.get_yticklabels())


def test_values_are_those_of_the_lines(plot):
    rows = [{"step": 10 * i, "loss": 5.0 - i} for i in range(1, 4)]
    axes = panel(plot(rows), "Loss, as it is minimised")
    np.testing.assert_array_equal(curve(axes, "loss").get_xydata(), [[10, 4], [20, 3], [30, 2]])


def test_a_step_that_comes_twice_counts_as_it_came_last(plot):
    rows = [*lines(4), {"step": 150, "loss": 7.0}, {"step": 200, "loss": 6.0}]
    figure = plot(rows)
    drawn = curve(panel(figure, "Loss, as it is minimised"), "loss")
    np.testing.assert_array_equal(drawn.get_xydata(), [[50, 900], [100, 900], [150, 7], [200, 6]])
    kl = curve(panel(figure, "KL and its parts"), "kl").get_ydata()
    np.testing.assert_array_equal(kl, [4, 4, math.nan, math.nan])


def test_one_line_is_points(plot):
    figure = plot(lines(1))
    assert all(line.get_marker() == "o" for axes in figure.axes for line in axes.lines)
    assert "the mean of the 50 steps up to it" in words(figure)
    assert "Each point is one step;" in words(plot(lines(3, every=1)))


def test_both_losses_of_factor_vae(plot):
    terms = {"loss": 60.0, "reconstruction": 50.0, "kl": 5.0, "tc_discriminator": 0.1, "adversary": 0.68}
    figure = plot(lines(5, terms))
    axes = panel(figure, "The discriminator's loss")
    assert [line.get_label() for line in axes.lines] == ["adversary", "guessing, log 2"]
    assert set(curve(axes, "guessing, log 2").get_ydata()) == {math.log(2)}
    assert "constant" not in words(figure)


def test_the_capacity_is_drawn_beside_the_kl(plot):
    objective = AnnealedVAE(c_max=10, threshold=200)
    terms = {"loss": 60.0, "reconstruction": 50.0, "kl": 5.0, "capacity_gap": 0.1}
    figure = plot(lines(6, terms), capacity=objective.capacity)
    drawn = curve(panel(figure, "KL and its parts"), "capacity C").get_ydata()
    np.testing.assert_allclose(drawn, [2.5, 5, 7.5, 10, 10, 10])
    assert [line.get_label() for axes in figure.axes for line in axes.lines].count("capacity C") == 1


@pytest.mark.parametrize(
    ("values", "scale"), [((700, 20), "log"), ((700, 50), "linear"), ((700, 0), "linear"), ((700, -20), "linear")]
)
def test_logarithmic_where_positive_and_far_apart(plot, values, scale):
    figure = plot([{"step": i, "loss": float(value), "kl": float(value)} for i, value in enumerate(values)])
    axes = panel(figure, "Loss, as it is minimised")
    assert axes.get_yscale() == scale
    assert axes.get_ylabel() == ("nats, log scale" if scale == "log" else "nats")
    assert panel(figure, "KL and its parts").get_yscale() == "linear"


def test_smoothing_is_stated_and_the_raw_lines_stay(plot):
    rows = [{"step": i, "loss": 10 + (-1.0) ** i} for i in range(300)]
    figure = plot(rows)
    assert "faint as logged, strong a running mean of 7 points" in words(figure)
    raw, strong = panel(figure, "Loss, as it is minimised").lines
    assert np.ptp(raw.get_ydata()) == 2
    assert np.ptp(strong.get_ydata()[3:-3]) < 0.3
    assert "not smoothed" in words(plot(rows[:99]))


def test_smooth_is_a_centred_mean_that_narrows_at_the_ends():
    values = [1.0, 5.0, 3.0, 8.0, 2.0]
    np.testing.assert_allclose(smooth(values, 3), [1, 3, 16 / 3, 13 / 3, 2])
    np.testing.assert_allclose(smooth(values, 5), [1, 3, 19 / 5, 13 / 3, 2])
    np.testing.assert_array_equal(smooth(values, 1), values)
    np.testing.assert_allclose(smooth([1.0, math.nan, 3.0, 5.0, 7.0], 3), [1, math.nan, 4, 5, 7])
    for width in (0, 2):
        with pytest.raises(ValueError, match=f"smooth: width must be odd and at least 1, got {width}"):
            smooth(values, width)


@pytest.mark.parametrize("terms", [{"mmd": -0.01}, {"dip_off_diagonal": 1.0, "dip_diagonal": 2.0}, {"invariance": 3.0}])
def test_terms_of_other_objectives_have_axes(plot, terms):
    figure = plot(lines(4, {"loss": 5.0, **terms}))
    assert [line.get_label() for line in figure.axes[1].lines] == list(terms)
    assert len(figure.axes) == 2


def test_a_term_that_is_not_known_is_drawn_without_a_claim(plot):
    axes = panel(plot(lines(3, {"loss": 1.0, "surprise": 2.0})), "surprise")
    assert axes.get_ylabel() == "as logged"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "rows must hold at least one line of metrics, got none"),
        ([{"loss": 1.0}], r"rows must have a step, got \{'loss': 1.0\}"),
        ([{"step": 1, "lr": 1.0}], "rows must hold terms of a loss, got step, lr alone"),
    ],
)
def test_errors(tmp_path, rows, message):
    with pytest.raises(ValueError, match=f"save_losses: {message}"):
        save_losses(tmp_path / "l.png", rows)
    with pytest.raises(ValueError, match="save_losses: path must end in .png"):
        save_losses(tmp_path / "l.pdf", rows)
