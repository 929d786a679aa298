from __future__ import annotations

import math

import pytest
from tests.run_folders import HEALTHY

from labels4free.training import monitor
from labels4free.training.judging import Bounds, Verdict, judge_checks, judge_steps
from labels4free.training.log_tail import Series

GOOD, DOUBTFUL, BAD, OPEN = Verdict.GOOD, Verdict.DOUBTFUL, Verdict.BAD, Verdict.OPEN
BOUNDS = Bounds(0.25, 0.7)


def checked(bounds=BOUNDS, **changes):
    """What is thought of a healthy check with changes, by name."""
    series = {}
    for name, value in {**HEALTHY, **changes}.items():
        series[f"check_{name}"] = Series()
        series[f"check_{name}"].add(1, value, step=5)
    return {one.name: one for one in judge_checks(series, bounds)}


def test_healthy_numbers_are_good():
    assert {one.verdict for one in checked().values()} == {GOOD}


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("coverage", 0.3, GOOD),
        ("coverage", 0.2, DOUBTFUL),
        ("coverage", 0.75, DOUBTFUL),
        ("coverage", 0.02, BAD),
        ("coverage", 0.98, BAD),
        ("contrast", 0.07, DOUBTFUL),
        ("contrast", 0.01, BAD),
        ("polarity", -0.1, DOUBTFUL),
        ("polarity", -0.6, BAD),
        ("swap_gain", -1.0, DOUBTFUL),
        ("coverage_sd", 0.001, DOUBTFUL),
        ("binarity", 0.5, DOUBTFUL),
        ("agreement_mixing", 0.95, GOOD),
        ("agreement_mixing", 0.5, DOUBTFUL),
        ("something_new", 0.5, OPEN),
        ("something_new", math.nan, BAD),
        ("coverage", math.nan, BAD),
    ],
)
def test_one_number_that_is_not_well(name, value, verdict):
    found = checked(**{name: value})
    assert found[name].verdict is verdict
    assert {one.verdict for other, one in found.items() if other != name} == {GOOD}


def test_bad_is_what_the_monitor_objects_to():
    for hundredth in range(101):
        numbers = {"coverage": hundredth / 100, "contrast": 0.4, "polarity": 0.5, "swap_gain": 3.0}
        found = checked(coverage=hundredth / 100)["coverage"].verdict
        assert (found is BAD) == (monitor.find_problem(**numbers) is not None)


def test_polarity_and_swap_gain_are_bad_together():
    found = checked(polarity=-0.1, swap_gain=-0.1)
    assert found["polarity"].verdict is found["swap_gain"].verdict is BAD


def test_the_settings_say_how_much_the_masks_should_cover():
    assert checked()["coverage"].expected == "0.25 to 0.70 of the picture"
    assert checked(Bounds(0.25))["coverage"].expected == "at least 0.25 of the picture"
    assert checked(Bounds(), coverage=0.92)["coverage"].verdict is DOUBTFUL  # nearly full, whatever the settings say
    assert checked(Bounds(), coverage=0.75)["coverage"].verdict is GOOD


def test_what_rises_slowly_is_not_judged_early():
    early = Bounds(0.25, 0.7, settled=False)
    assert checked(early, binarity=0.2)["binarity"].verdict is OPEN
    assert checked(early, binarity=0.9)["binarity"].verdict is GOOD


def test_a_score_is_compared_with_the_best():
    series = Series()
    for step, value in ((100, 0.3), (200, 0.5), (300, 0.3)):
        series.add(step, value, step)
    (one,) = judge_checks({"check_score": series}, BOUNDS)
    assert one.verdict is DOUBTFUL
    assert one.expected == "large; the best was 0.500, step 200"
    assert one.history == (0.3, 0.5, 0.3)


def test_the_order_is_that_of_importance_and_unknown_names_come_last():
    assert list(checked(a_new_one=1.0, score=0.5)) == ["score", "separation", *list(HEALTHY)[:-1], "a_new_one"]


def test_numbers_of_every_step():
    series = {name: Series() for name in ("loss_discriminator", "accuracy", "zeta", "check_coverage")}
    for i in range(100):
        series["loss_discriminator"].add(i, float(i))
        series["accuracy"].add(i, 1.0 if i > 50 else 0.5)
        series["zeta"].add(i, 2.0)
    rows = judge_steps(series)
    assert [one.name for one in rows] == ["accuracy", "loss_discriminator", "zeta"]
    assert [one.verdict for one in rows] == [DOUBTFUL, OPEN, OPEN]
    assert rows[1].value == pytest.approx(83.5)  # of the last 32
    assert rows[2].expected == ""
    series["zeta"].add(100, math.nan)
    assert judge_steps(series)[2].verdict is BAD
