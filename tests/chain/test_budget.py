from __future__ import annotations

import re
from dataclasses import replace

import pytest

from labels4free.chain.budget import Costs, as_duration, divide, parse_duration
from labels4free.chain.config import chain_config
from labels4free.errors import ConfigError

COSTS = Costs(
    measuring=20.0,
    photo=0.1,
    generator_step=0.5,
    rendering=0.01,
    warmup_step=0.05,
    alpha_step=0.1,
    consensus_step=0.05,
    pair=0.02,
    segmenter_step=0.1,
)
CONFIG = chain_config(settings=["alpha.loss.min_background_coverage=0.3"])
"""One pair of bounds of coverage: no trial."""
SHARES = {"alpha": 0.2, "pairs": 0.05, "segmenter": 0.15}


@pytest.mark.parametrize(
    ("text", "seconds"), [("3h", 10800), ("40m", 2400), ("90s", 90), ("1h30m", 5400), ("1.5h", 5400), (" 2M ", 120)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "3", "0m", "-3h", "3 hours", "30m1h", "h"])
def test_refuses_what_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match=f"budget must be a time above 0 such as 3h.*got {text!r}"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "10s"), (61, "70s"), (115, "2m"), (600, "10m"), (601, "11m"), (3541, "1h"), (3601, "1h1m"), (7200, "2h")],
)
def test_durations_in_words_are_never_shorter(seconds: float, words: str) -> None:
    assert as_duration(seconds) == words
    assert parse_duration(words) >= seconds


def test_an_hour_by_hand() -> None:
    # (3600 - 20) * 0.95 - (10 + 100 * 0.1) = 3381 s are free.
    plan = divide(3600, COSTS, CONFIG, 100, SHARES)
    # 32 + 2 * (1024 + 8) + 32 renderings, three members of 600 * 0.05 + 1000 * 0.1, the consensus of 800 * 0.05:
    assert plan.stages["alpha"].seconds == pytest.approx(21.28 + 3 * 130 + 40)
    assert (plan.config.alpha.members, plan.config.alpha.steps, plan.config.alpha.cache.size) == (3, 1000, 1024)
    # 169.05 s would buy 8,452 pairs; the default is 4,000.
    assert plan.config.segmenter.pairs.num == 4000
    assert plan.stages["pairs"].seconds == pytest.approx(80)
    # 507.15 s buy 5,071 steps.
    assert plan.config.segmenter.steps == 5000
    assert plan.stages["segmenter"].seconds == pytest.approx(500)
    # 3381 - 451.28 - 80 - 500 = 2349.72 s are 4,699 steps of 16: 75,191 images.
    assert plan.config.generator.images == 75_000
    assert plan.stages["generator"].seconds == pytest.approx(75_000 / 16 * 0.5, abs=0.5)
    assert plan.stages["generator"].words == "75,000 images in batches of 16, 32 images/s"
    assert plan.stages["prepare"].seconds == pytest.approx(10)


def test_trials_of_bounds_of_coverage_are_trainings_as_well() -> None:
    planned = divide(3600, COSTS, chain_config(), 100, SHARES).stages["alpha"]
    assert planned.seconds == pytest.approx(21.28 + 4 * 130 + 40)
    assert planned.words == "4 x 1,000 steps on 1,024 samples"


def test_little_time_buys_one_alpha_network_and_less_of_everything() -> None:
    plan = divide(1000, COSTS, CONFIG, 100, SHARES)  # 911 s are free; 182.2 of them the alpha network's
    assert (plan.config.alpha.members, plan.config.alpha.steps, plan.config.alpha.cache.size) == (1, 1000, 1024)
    assert plan.config.segmenter.pairs.num == 2200  # 45.55 s
    assert plan.config.segmenter.steps == 1300  # 136.65 s
    assert plan.config.generator.images == 18_000  # 911 - 151.28 - 44 - 130 = 585.72 s


def test_the_rest_gives_way_where_the_generator_would_get_less_than_it_needs() -> None:
    # 569 s are free; the least are 93.36 + 10 + 100 beside the generator's 312.5. 28.45 s of pairs leave it 347.64.
    plan = divide(640, COSTS, CONFIG, 100, SHARES)
    assert (plan.config.alpha.steps, plan.config.segmenter.steps) == (600, 1000)
    assert (plan.config.segmenter.pairs.num, plan.config.generator.images) == (1400, 11_000)
    # 520.55 s: 26 s of pairs would leave it 301.19.
    plan = divide(589, COSTS, CONFIG, 100, SHARES)
    assert (plan.config.segmenter.pairs.num, plan.config.generator.images) == (500, 10_000)


def test_never_more_than_the_budget() -> None:
    for budget in range(640, 20_000, 487):
        plan = divide(budget, COSTS, CONFIG, 100, SHARES)
        assert sum(part.seconds for part in plan.stages.values()) + COSTS.measuring <= budget


def test_too_small_a_budget_says_which_would_do() -> None:
    with pytest.raises(ConfigError, match="A budget of 5m is too small on this machine") as error:
        divide(300, COSTS, CONFIG, 100, SHARES)
    said = str(error.value)
    assert "alpha 100s (600 steps on 128 samples)" in said
    assert "generator 320s (10,000 images in batches of 16, 32 images/s)" in said
    smallest = re.search(r"Give --budget (\S+) or more", said)
    assert smallest
    divide(parse_duration(smallest[1]), replace(COSTS, measuring=22.0), CONFIG, 100, SHARES)


def test_a_pretrained_generator_needs_less() -> None:
    with pytest.raises(ConfigError, match="too small"):
        divide(500, COSTS, CONFIG, 100, SHARES)
    settings = ["alpha.loss.min_background_coverage=0.3"]
    divide(500, COSTS, chain_config(pretrained="cats.pkl", settings=settings), 100, SHARES)


def test_lengths_that_were_chosen_stay_and_count() -> None:
    settings = ["generator.images=1600", "alpha.members=2", "segmenter.steps=7", "segmenter.pairs.num=9"]
    chosen = [setting.partition("=")[0] for setting in settings]
    plan = divide(3600, COSTS, chain_config(settings=settings), 100, SHARES, chosen)
    assert plan.config.generator.images == 1600
    assert plan.stages["generator"].seconds == pytest.approx(50)
    assert plan.config.alpha.members == 2
    assert plan.config.segmenter.steps == 7
    assert plan.config.segmenter.pairs.num == 9
    settings[0] = "generator.images=1000000"
    with pytest.raises(ConfigError, match=r"generator 8h41m \(1,000,000 images"):
        divide(3600, COSTS, chain_config(settings=settings), 100, SHARES, chosen)


def test_a_short_training_is_checked_and_drawn_often_enough() -> None:
    generator = divide(640, COSTS, CONFIG, 100, SHARES).config.generator
    assert (generator.checks.interval, generator.picture_images) == (2200, 1375)
