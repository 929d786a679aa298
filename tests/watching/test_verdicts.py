from __future__ import annotations

import math

import pytest
from tests.run_folders import HEALTHY

from labels4free.training.alpha import monitor
from labels4free.watching.verdicts import Bounds, Series, Verdict, judge_checks, judge_steps

GOOD, DOUBTFUL, BAD, OPEN = Verdict.GOOD, Verdict.DOUBTFUL, Verdict.BAD, Verdict.OPEN
BOUNDS = Bounds(0.25, 0.7)


def checked(bounds=BOUNDS, **changes):
    """What is thought of a healthy check with changes, by name."""
    series = {}
    for name, value in {**HEALTHY, **changes}.items():
        series[f"check_{name}"] = Series()
        series[f"check_{name}"].add(value, step=5)
    return {one.name: one for one in judge_checks(series, bounds)}


def test_healthy_numbers_are_good():
    assert {one.verdict for one in checked().values()} == {GOOD}


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("foreground_ratio", 0.3, GOOD),
        ("foreground_ratio", 0.2, DOUBTFUL),
        ("foreground_ratio", 0.75, DOUBTFUL),
        ("foreground_ratio", 0.02, BAD),
        ("foreground_ratio", 0.98, BAD),
        ("contrast", 0.07, DOUBTFUL),
        ("contrast", 0.01, BAD),
        ("center_bias", -0.1, DOUBTFUL),
        ("center_bias", -0.6, BAD),
        ("swap_gain", -1.0, DOUBTFUL),
        ("foreground_ratio_sd", 0.001, DOUBTFUL),
        ("sharpness", 0.5, DOUBTFUL),
        ("agreement_mixing", 0.95, GOOD),
        ("agreement_mixing", 0.5, DOUBTFUL),
        ("something_new", 0.5, OPEN),
        ("something_new", math.nan, BAD),
        ("foreground_ratio", math.nan, BAD),
    ],
)
def test_one_number_that_is_not_well(name, value, verdict):
    found = checked(**{name: value})
    assert found[name].verdict is verdict
    assert {one.verdict for other, one in found.items() if other != name} == {GOOD}


def test_bad_is_what_the_monitor_objects_to():
    for hundredth in range(101):
        numbers = {"foreground_ratio": hundredth / 100, "contrast": 0.4, "center_bias": 0.5, "swap_gain": 3.0}
        found = checked(foreground_ratio=hundredth / 100)["foreground_ratio"].verdict
        assert (found is BAD) == (monitor.find_problem(**numbers) is not None)


def test_center_bias_and_swap_gain_are_bad_together():
    found = checked(center_bias=-0.1, swap_gain=-0.1)
    assert found["center_bias"].verdict is found["swap_gain"].verdict is BAD


def test_the_settings_say_how_much_the_masks_should_cover():
    assert checked()["foreground_ratio"].expected == "0.25 to 0.70 of the picture"
    assert checked(Bounds(0.25))["foreground_ratio"].expected == "at least 0.25 of the picture"
    # nearly full, whatever the settings say
    assert checked(Bounds(), foreground_ratio=0.92)["foreground_ratio"].verdict is DOUBTFUL
    assert checked(Bounds(), foreground_ratio=0.75)["foreground_ratio"].verdict is GOOD


def test_what_rises_slowly_is_not_judged_early():
    early = Bounds(0.25, 0.7, settled=False)
    assert checked(early, sharpness=0.2)["sharpness"].verdict is OPEN
    assert checked(early, sharpness=0.9)["sharpness"].verdict is GOOD


def test_a_score_is_compared_with_the_best():
    series = Series()
    for step, value in ((100, 0.3), (200, 0.5), (300, 0.3)):
        series.add(value, step)
    (one,) = judge_checks({"check_score": series}, BOUNDS)
    assert one.verdict is DOUBTFUL
    assert one.expected == "large; the best was 0.500, step 200"
    assert one.history == (0.3, 0.5, 0.3)


def test_the_order_is_that_of_importance_and_unknown_names_come_last():
    assert list(checked(a_new_one=1.0, score=0.5)) == ["score", "inpainting_error", *list(HEALTHY)[:-1], "a_new_one"]


def test_numbers_of_every_step():
    series = {name: Series() for name in ("loss_discriminator", "accuracy", "zeta", "check_foreground_ratio")}
    for i in range(100):
        series["loss_discriminator"].add(float(i))
        series["accuracy"].add(1.0 if i > 50 else 0.5)
        series["zeta"].add(2.0)
    rows = judge_steps(series)
    assert [one.name for one in rows] == ["accuracy", "loss_discriminator", "zeta"]
    assert [one.verdict for one in rows] == [DOUBTFUL, OPEN, OPEN]
    assert rows[1].value == pytest.approx(83.5)  # of the last 32
    assert rows[2].expected == ""
    series["zeta"].add(math.nan)
    assert judge_steps(series)[2].verdict is BAD


# Series


def test_an_empty_series():
    series = Series()
    assert math.isnan(series.last)
    assert math.isnan(series.recent())
    assert series.points() == ()


def test_a_series_by_hand():
    series = Series()
    for iteration, value in enumerate((1.0, 4.0, math.nan, 2.0), start=1):
        series.add(value, step=10 * iteration)
    assert (series.last, series.best, series.best_step) == (2.0, 4.0, 20)
    assert series.recent() == pytest.approx(7 / 3)
    assert series.points() == (1.0, 4.0, 2.0)
    series.add(math.inf)
    assert series.last == math.inf
    assert series.points() == (1.0, 4.0, 2.0)


@pytest.mark.parametrize("count", [255, 256, 257, 1000, 12345])
def test_a_long_series_keeps_its_shape_in_little_memory(count):
    series = Series()
    for i in range(count):
        series.add(float(i))
    points = series.points()
    assert 100 < len(points) <= Series.CAPACITY
    assert list(points) == sorted(points)
    assert points[0] < count / 100
    assert points[-1] > count * 0.98
    assert series.recent() == pytest.approx(count - 16.5)
