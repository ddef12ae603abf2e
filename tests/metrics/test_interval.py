"""Intervals of scores: their mechanics on statistics that are known, and how often they hold what they should."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import typing

import numpy as np
import pytest

from disentangle_ext import metrics
from disentangle_ext.data import DSpritesLike
from disentangle_ext.metrics import (
    Metric,
    Representation,
    active_units,
    beta_vae_score,
    correlation,
    factor_vae_score,
    gaussian_total_correlation,
    irs,
    lsbd,
    mig,
    modularity,
    mutual_information_score,
    wasserstein_correlation,
)
from disentangle_ext.metrics._interval import half, student_quantile
from disentangle_ext.metrics._problem import pose, with_interval
from disentangle_ext.metrics._result import MetricResult
from tests.metrics.problems import random_problem

FUNCTIONS = [
    each.function
    for each in vars(metrics).values()
    if inspect.isclass(each) and issubclass(each, Metric) and each is not Metric
]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Number(MetricResult):
    title = "number"
    bounds = (-math.inf, math.inf)


def interval(points, statistic, *, halves=100, seed=0):
    """The interval of a statistic of the rows of an array."""
    result = Number(score=float(statistic(points)), settings={})
    again = lambda rng: float(statistic(points[half(len(points), rng)]))  # noqa: E731
    return with_interval("m", result, again, bootstrap=halves, seed=seed).interval


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 99, 100, 999])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_quantiles_of_student(freedom, confidence):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.t.ppf((1 + confidence) / 2, freedom)
    assert student_quantile(confidence, freedom) == pytest.approx(expected, rel=1e-10)


def test_the_interval_of_a_mean_is_that_of_its_standard_error_and_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    points, halves = np.random.default_rng(0).exponential(size=200), 4000
    found = interval(points, np.mean, halves=halves)
    reach = student_quantile(0.95, halves - 1) * points.std(ddof=1) / math.sqrt(len(points))
    # The deviation of a sample of n has a relative error of sqrt(1 / 2n), and the mean one of sqrt(1 / n).
    noise = reach / math.sqrt(halves)
    assert found.bias == pytest.approx(0, abs=2 * noise)
    assert found.low + max(found.bias, 0) == pytest.approx(points.mean() - reach, abs=3 * noise)
    assert found.high + min(found.bias, 0) == pytest.approx(points.mean() + reach, abs=3 * noise)
    other = stats.bootstrap((points,), np.mean, method="BCa", n_resamples=2000, rng=np.random.default_rng(0))
    assert found.low == pytest.approx(other.confidence_interval.low, abs=0.25 * reach)
    assert found.high == pytest.approx(other.confidence_interval.high, abs=0.25 * reach)


def test_the_interval_of_two_halves_is_wide():
    moves = iter([-1.0, 1.0])
    result = with_interval("m", Number(score=5.0, settings={}), lambda _: 5.0 + next(moves), bootstrap=2, seed=0)
    reach = math.tan(0.95 * math.pi / 2) * math.sqrt(2)
    assert result.interval[:3] == pytest.approx((5 - reach, 5 + reach, 0), rel=1e-12)


def test_the_interval_is_longer_by_a_bias_and_on_its_side_alone():
    points = np.random.default_rng(1).normal(size=100)
    plain = interval(points, np.mean)
    # The bias of a score that is too high by 3 / N: half of the points have 3 / N more.
    biased = interval(points, lambda rows: rows.mean() + 3 / len(rows))
    assert biased.bias == pytest.approx(plain.bias + 0.03, abs=1e-12)
    assert biased.high - 0.03 == pytest.approx(plain.high + min(plain.bias, 0), abs=1e-12)
    assert biased.low - 0.03 == pytest.approx(plain.low + max(plain.bias, 0) - biased.bias, abs=1e-12)
    below = interval(points, lambda rows: rows.mean() - 3 / len(rows))
    assert below.low + 0.03 == pytest.approx(plain.low + max(plain.bias, 0), abs=1e-12)
    assert below.high + 0.03 == pytest.approx(plain.high + min(plain.bias, 0) - below.bias, abs=1e-12)


def test_halves_are_distinct_points_and_every_point_is_in_half_of_them():
    rng = np.random.default_rng(0)
    drawn = np.stack([half(9, rng) for _ in range(2000)])
    assert drawn.shape == (2000, 4)
    assert all(len(set(each)) == 4 for each in drawn[:50].tolist())
    np.testing.assert_allclose(np.bincount(drawn.ravel()) / 2000, 4 / 9, atol=0.05)
    with pytest.raises(ValueError, match="two points or more to halve, got 1"):
        half(1, rng)


def test_training_rows_and_test_rows_are_halved_each():
    codes, factors = random_problem(rows=1500)
    problem = pose("m", codes, factors, None, test_share=0.2, classify=True)
    part = problem.half(np.random.default_rng(0))
    assert (len(part.codes), part.train_rows) == (750, 600)
    learnt, held = ({tuple(row) for row in rows} for rows in (codes[:1200], codes[1200:]))
    assert {tuple(row) for row in part.codes[:600]} < learnt
    assert {tuple(row) for row in part.codes[600:]} < held
    assert len({tuple(row) for row in part.codes}) == 750


def test_a_score_that_no_half_moves_has_an_interval_without_width():
    found = interval(np.arange(10.0), lambda rows: 0.1)
    assert (found.low, found.high, found.bias) == (0.1, 0.1, 0.0)
    _, factors = random_problem()
    assert correlation(factors.astype(float), factors, bootstrap=10).interval[:3] == pytest.approx((1, 1, 0), abs=1e-12)


def test_halves_that_are_all_equal_and_differ_from_the_score_are_a_bias():
    found = interval(np.arange(10.0), lambda rows: float(len(rows)))
    assert (found.low, found.high, found.bias) == (10.0, 15.0, -5.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_half_without_a_finite_score_is_an_error(value):
    with pytest.raises(ValueError, match=r"m: bootstrap has drawn rows for which there is no score: it is not finite"):
        interval(np.arange(10.0), lambda rows: value if len(rows) < 10 and rows[0] == 3 else rows.mean())


def test_a_half_that_is_refused_is_an_error():
    with pytest.raises(ValueError, match=r"mig: bootstrap has drawn rows .*: mig: factors must hold a column"):
        mig([[0.0], [1.0]], [[0], [1]], bootstrap=50)
    with pytest.raises(ValueError, match=r"no score: an interval needs two points or more to halve, got 1"):
        gaussian_total_correlation([[0.0]], bootstrap=50)


@pytest.mark.parametrize("value", [1, -3, 2.5, True])
def test_bootstrap_must_be_a_number_of_halves(value):
    with pytest.raises(ValueError, match=r"mig: bootstrap must be an integer of at least 2, got"):
        mig(*random_problem(), bootstrap=value)
    with pytest.raises(ValueError, match=r"wasserstein_correlation: bootstrap must be an integer"):
        wasserstein_correlation([[0.0], [1.0]], bootstrap=value)


def test_the_interval_holds_the_score_narrows_with_more_rows_and_is_that_of_its_seed():
    few, many = (mig(*random_problem(rows=rows), bootstrap=50, seed=3).interval for rows in (200, 5000))
    assert (few.resamples, few.confidence, few.seed) == (50, 0.95, 3)
    result = mig(*random_problem(rows=200), bootstrap=50, seed=3)
    assert result.interval == few
    assert mig(*random_problem(rows=200), bootstrap=50, seed=4).interval != few
    assert few.low < result.score < few.high
    assert few.high - few.low > 2 * (many.high - many.low)
    assert f"[{few.low:.3f}, {few.high:.3f}]" in str(result)
    assert json.loads(json.dumps(result.as_dict(), allow_nan=False))["interval"]["bias"] == few.bias
    assert dataclasses.replace(result, interval=None).as_dict()["interval"] is None


def test_the_ends_keep_to_the_bounds_of_the_score():
    codes, factors = random_problem(rows=60)
    found = mig(np.random.default_rng(5).normal(size=codes.shape), factors, bootstrap=50).interval
    assert found.low == 0.0
    assert found.high > 0


@pytest.mark.parametrize("score", [correlation, mig])
def test_intervals_hold_the_score_of_the_population_as_often_as_they_say(score):
    rows, tables = 200, 100
    codes, factors = random_problem(rows=rows * tables)
    codes[:, 1] += 2 * factors[:, 0]
    truth = score(codes, factors).score
    parts = zip(np.split(codes, tables), np.split(factors, tables))
    intervals = [score(*part, bootstrap=10).interval for part in parts]
    inside = np.mean([low <= truth <= high for low, high, *_ in intervals])
    # Three standard errors of a share of .95; the length for a bias makes it more.
    assert inside > 0.95 - 3 * math.sqrt(0.95 * 0.05 / tables)


def test_a_bias_of_the_table_is_found_and_reached_for():
    """Independent dimensions share (20 - 1)^2 / 2N nats by chance, far beyond the scatter of the score."""
    table = np.random.default_rng(0).uniform(size=(20_000, 3))
    result = mutual_information_score(table, bootstrap=10)
    chance = 19**2 / (2 * 20_000)
    assert result.interval.bias == pytest.approx(chance, rel=0.1)
    assert result.interval.low < 0.1 * chance
    assert result.interval.high < 1.5 * chance


@pytest.mark.parametrize(
    ("score", "options"),
    [
        (factor_vae_score, {"num_train": 1000, "num_test": 300, "num_variance": 1000}),
        (beta_vae_score, {"num_train": 300, "num_test": 200, "batch_size": 4}),
    ],
)
def test_metrics_that_draw_batches_draw_them_from_half_of_the_rows(score, options, monkeypatch):
    drawn: dict[Representation, list[int]] = {}
    draw = Representation.draw

    def record(self, count, rng):
        rows = draw(self, count, rng)
        drawn.setdefault(self, []).extend(rows.tolist())
        return rows

    monkeypatch.setattr(Representation, "draw", record)
    codes, factors = random_problem(rows=120)
    once, again = (score(codes, factors, bootstrap=6, seed=2, **options) for _ in range(2))
    assert once.interval == again.interval
    assert once.score == score(codes, factors, seed=2, **options).score
    assert [len(set(rows)) for rows in drawn.values()] == [120, *[60] * 6] * 2 + [120]


def test_half_of_a_representation_draws_from_half_of_its_rows():
    data, seen = DSpritesLike(variant="quick"), []

    def encoder(images):
        seen.append(len(images))
        return images.flatten(1)[:, :2]

    whole, rng = Representation(data, encoder), np.random.default_rng(0)
    whole.codes(np.arange(10))
    whole.draw_alike(np.arange(10), 2, rng)
    part = whole._half(rng)
    rows = part.draw(100_000, rng)
    assert len(np.unique(rows)) == len(data) // 2
    alike = part.draw_alike(rows[:500], 2, rng, 8)
    assert np.isin(alike, rows).all()
    assert len(np.unique(alike)) > 200
    assert (part.classes[alike][..., 2] == part.classes[rows[:500], 2][:, None]).all()
    assert not np.array_equal(np.unique(whole._half(rng).draw(100_000, rng)), np.unique(rows))
    part.codes(np.arange(20))
    whole.codes(np.arange(20))
    assert sum(seen) == 20  # what the part has encoded, the whole knows
    assert len(np.unique(whole.draw(100_000, rng))) == len(data)


def test_metrics_without_an_interval_have_no_argument_for_it():
    without = {each for each in FUNCTIONS if "bootstrap" not in inspect.signature(each).parameters}
    assert without == {active_units, irs, lsbd}
    for function in (active_units, irs):
        with pytest.raises(TypeError, match="bootstrap"):
            function(*random_problem()[: 1 if function is active_units else 2], bootstrap=10)


def test_metrics_without_an_interval_say_why():
    silent = {each for each in FUNCTIONS if typing.get_type_hints(each)["return"].no_interval is None}
    assert silent == set(FUNCTIONS) - {active_units, irs, lsbd}
    result = irs(*random_problem())
    assert result.as_dict()["no_interval"] == result.no_interval
    assert "no_interval" not in mig(*random_problem()).as_dict()


def test_dead_codes_are_dead_in_every_half():
    codes, factors = random_problem()
    codes[:, 3] = 2.5
    found = modularity(codes, factors, bootstrap=10)
    assert found.interval.low < found.score < found.interval.high


def test_a_bug_in_a_half_keeps_its_traceback():
    def again(rng):
        raise ValueError("operands could not be broadcast")

    with pytest.raises(ValueError, match="^operands could not be broadcast$"):
        with_interval("mig", mig(*random_problem()), again, bootstrap=3, seed=0)
