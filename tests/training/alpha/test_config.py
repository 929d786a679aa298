from __future__ import annotations

import dataclasses
import json

import pytest

from labels4free.errors import ConfigError
from labels4free.settings_fields import build, change
from labels4free.training.alpha.config import (
    CacheConfig,
    LossConfig,
    MonitorConfig,
    TrainConfig,
    config_for_minutes,
)


def all_fields() -> dict[str, object]:
    """Every setting by its path, with its default."""
    out: dict[str, object] = {}
    for name, value in TrainConfig().to_json().items():
        out |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    return out


SECTIONS = [f.name for f in dataclasses.fields(TrainConfig) if dataclasses.is_dataclass(getattr(TrainConfig(), f.name))]

# JSON


def test_json_round_trip():
    config = TrainConfig(
        steps=7,
        seed=-3,
        data="/faces",
        cache=CacheConfig(size=100, min_truncation_psi=0.25),
        loss=LossConfig(coverage=0.0),
    )
    text = json.dumps(config.to_json(), allow_nan=False)
    assert build(TrainConfig, json.loads(text)) == config
    assert build(TrainConfig, TrainConfig().to_json()) == TrainConfig()


def test_missing_fields_keep_their_defaults():
    assert build(TrainConfig, {}) == TrainConfig()
    assert build(TrainConfig, {"cache": {"size": 99}}) == TrainConfig(cache=CacheConfig(size=99))


def test_a_whole_number_serves_as_a_fraction():
    config = build(TrainConfig, {"loss": {"coverage": 2}})
    assert config.loss.coverage == 2
    assert type(config.loss.coverage) is float  # the run's config.json must not depend on how it was given


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"stesp": 3}, r"Unknown setting 'stesp'; the valid names there are steps, batch_size, .*monitor\."),
        ({"cache": {"sice": 3}}, r"Unknown setting 'cache\.sice'; the valid names there are size, min_truncation_psi"),
        ({"cache": 3}, r"cache must be a table of fields, got 3\."),
        ({"steps": {"a": 1}}, r"steps must be int, got \{'a': 1\}\."),
        ({"steps": 3.0}, r"steps must be int, got 3\.0\."),
        ({"steps": True}, r"steps must be int, got True\."),
        ({"steps": None}, r"steps must be int, got None\."),
        ({"data": 3}, r"data must be str or none, got 3\."),
        ({"loss": {"coverage": "2"}}, r"loss\.coverage must be float, got '2'\."),
        ({"loss": {"coverage": float("nan")}}, r"loss\.coverage must be float, got nan\."),
        ({"loss": {"coverage": float("inf")}}, r"loss\.coverage must be float, got inf\."),
        ({"background": {"same_latent": 1}}, r"background\.same_latent must be bool, got 1\."),
    ],
)
def test_json_that_is_no_configuration(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build(TrainConfig, values)


@pytest.mark.parametrize("values", [[], "steps", 3, None])
def test_json_that_is_no_table(values):
    with pytest.raises(ConfigError, match="The configuration must be a table of fields, got"):
        build(TrainConfig, values)


# Settings of the command line


def test_settings_change_single_fields():
    base = TrainConfig(seed=5)
    settings = ["steps=12", "loss.coverage=0.5", " cache.size = 40 ", "background.same_latent=TRUE"]
    changed = change(base, settings=[*settings, "loss.binarization=2"])
    assert (changed.steps, changed.seed, changed.loss.coverage, changed.cache.size) == (12, 5, 0.5, 40)
    assert changed.background.same_latent is True
    assert changed.loss.binarization == 2.0
    assert base == TrainConfig(seed=5)
    rest = dataclasses.replace(changed, steps=base.steps, loss=base.loss, cache=base.cache, background=base.background)
    assert rest == base


def test_no_settings_change_nothing():
    assert change(TrainConfig(), settings=[]) == TrainConfig()


def test_the_last_one_counts_and_values_may_hold_an_equals_sign():
    config = change(TrainConfig(), settings=["data=/a", "data=/b=c"])
    assert config.data == "/b=c"


@pytest.mark.parametrize(("text", "value"), [("none", None), ("None", None), ("", None), ("zero", "zero")])
def test_none(text, value):
    assert change(TrainConfig(), settings=[f"background.mode={text}"]).background.mode == value


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False)])
def test_truth_values(text, value):
    assert change(TrainConfig(), settings=[f"background.same_latent={text}"]).background.same_latent is value


@pytest.mark.slow
@pytest.mark.parametrize("path", all_fields())
def test_every_default_can_be_given_as_a_setting(path):
    value = all_fields()[path]
    assert change(TrainConfig(), settings=[f"{path}={'none' if value is None else value}"]) == TrainConfig()


@pytest.mark.parametrize("section", SECTIONS)
def test_an_unknown_name_in_a_section_lists_the_valid_ones(section):
    names = ", ".join(f.name for f in dataclasses.fields(getattr(TrainConfig(), section)))
    with pytest.raises(ConfigError) as caught:
        change(TrainConfig(), settings=[f"{section}.colour=3"])
    assert str(caught.value) == f"Unknown setting '{section}.colour'; the valid names there are {names}."


def test_an_unknown_name_or_section_lists_the_valid_ones():
    names = ", ".join(f.name for f in dataclasses.fields(TrainConfig))
    for path in ("colour", "colour.red", "", ".steps"):
        with pytest.raises(ConfigError) as caught:
            change(TrainConfig(), settings=[f"{path}=3"])
        assert str(caught.value) == f"Unknown setting {path!r}; the valid names there are {names}."


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("loss", "A setting must look like section.field=value, got 'loss'."),
        ("steps:3", "A setting must look like section.field=value, got 'steps:3'."),
        ("steps.x=3", "Unknown setting 'steps.x': steps is a value, not a section."),
        ("loss.coverage.x=3", "Unknown setting 'loss.coverage.x': coverage is a value, not a section."),
        ("steps=many", "steps must be int, got 'many'."),
        ("steps=", "steps must be int, got ''."),
        ("steps=1.5", "steps must be int, got '1.5'."),
        ("steps=none", "steps must be int, got 'none'."),
        ("loss.coverage=high", "loss.coverage must be float, got 'high'."),
        ("loss.coverage=nan", "loss.coverage must be float, got nan."),
        ("loss.coverage=-inf", "loss.coverage must be float, got -inf."),
        ("background.same_latent=1", "background.same_latent must be bool, got '1'."),
        ("background.same_latent=yes", "background.same_latent must be bool, got 'yes'."),
    ],
)
def test_settings_that_do_not_fit(setting, sentence):
    with pytest.raises(ConfigError) as caught:
        change(TrainConfig(), settings=[setting])
    assert str(caught.value) == sentence


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_instead_of_one_of_its_fields(section):
    with pytest.raises(
        ConfigError, match=rf"^{section} is a section; set one of its fields: {section}\.\w+, {section}"
    ):
        change(TrainConfig(), settings=[f"{section}=3"])


# Ranges

BOUNDS = {
    **dict.fromkeys(["steps", "batch_size", "members", "checkpoint_interval", "picture_interval"], (1, None)),
    "cache.size": (8, None),
    "cache.calibration_samples": (1, None),
    "alpha.width": (1, None),
    "alpha.ema_half_life": (0, None),
    **dict.fromkeys([f"discriminator.{n}" for n in ("channel_max", "steps_per_alpha_step", "r1_interval")], (1, None)),
    "discriminator.warmup_steps": (0, None),
    "discriminator.r1_gamma": (0, None),
    "discriminator.random_mask_fraction": (0, 1),
    "discriminator.perturbed_mask_fraction": (0, 1),
    **dict.fromkeys(
        ["loss.binarization", "loss.coverage", "loss.inpainting_error", "loss.final_inpainting_error"], (0, None)
    ),
    "loss.binarization_steps": (1, None),
    "loss.min_image_coverage": (0, 1),
    "background.blur": (1, None),
    "background.jitter": (0, None),
    "background.filled_fraction": (0, 1),
    "monitor.interval": (1, None),
    "monitor.samples": (1, None),
    "monitor.grace_steps": (0, None),
    **dict.fromkeys(
        [f"monitor.{n}" for n in ("max_restarts", "noise_samples", "mixing_samples", "patience")], (0, None)
    ),
    "monitor.margin": (0, 1),
}
ROOMY = TrainConfig(cache=CacheConfig(size=8), monitor=MonitorConfig(samples=1))


@pytest.mark.slow
@pytest.mark.parametrize(("path", "bounds"), BOUNDS.items())
def test_bounds(path, bounds):
    low, high = bounds
    whole = type(all_fields()[path]) is int
    change(ROOMY, settings=[f"{path}={low}"])
    with pytest.raises(ConfigError, match=rf"^{path} must (be at least {low}|lie in \[0, 1\]), got -?[\d.]+\.$"):
        change(ROOMY, settings=[f"{path}={low - 1 if whole else low - 0.001}"])
    if high is not None:
        change(ROOMY, settings=[f"{path}={high}"])
        with pytest.raises(ConfigError, match=rf"^{path} must lie in \[0, 1\], got 1\.001\.$"):
            change(ROOMY, settings=[f"{path}={high + 0.001}"])


@pytest.mark.parametrize("path", ["alpha.learning_rate", "discriminator.learning_rate"])
def test_a_learning_rate_is_above_0(path):
    change(TrainConfig(), settings=[f"{path}=1e-9"])
    for value in ("0", "-0.1"):
        with pytest.raises(ConfigError, match=rf"^{path} must be above 0, got"):
            change(TrainConfig(), settings=[f"{path}={value}"])


@pytest.mark.parametrize("low_high", [(-0.1, 0.5), (0.8, 0.7), (0.5, 2.1)])
def test_bounds_of_the_truncation(low_high):
    low, high = low_high
    with pytest.raises(ConfigError, match=rf"must satisfy 0 <= min <= max <= 2, got {low} and {high}\."):
        CacheConfig(min_truncation_psi=low, max_truncation_psi=high)
    assert CacheConfig(min_truncation_psi=0.7, max_truncation_psi=0.7).min_truncation_psi == 0.7


def test_the_two_coverages_leave_room_between_them():
    LossConfig(min_foreground_coverage=0.5, min_background_coverage=0.49)
    with pytest.raises(ConfigError, match=r"must leave room between them, got 0\.5 \+ 0\.5 >= 1\."):
        LossConfig(min_foreground_coverage=0.5, min_background_coverage=0.5)
    for name in ("min_foreground_coverage", "min_background_coverage"):
        with pytest.raises(ConfigError, match=rf"loss\.{name} must lie in \[0, 1\], got -0\.1"):
            LossConfig(**{name: -0.1})


@pytest.mark.parametrize(("start", "full"), [(-1, 10), (10, 10), (11, 10)])
def test_filled_backgrounds_come_in_a_stretch_of_steps(start, full):
    with pytest.raises(ConfigError, match=rf"must satisfy 0 <= from < full, got {start} and {full}\."):
        change(TrainConfig(), settings=[f"background.filled_from_step={start}", f"background.filled_full_step={full}"])


@pytest.mark.parametrize("resolution", [0, 4, 12, 33, -8])
def test_the_resolution_is_a_power_of_two(resolution):
    with pytest.raises(ConfigError) as caught:
        change(TrainConfig(), settings=[f"resolution={resolution}"])
    assert str(caught.value) == f"resolution must be a power of two of at least 8, got {resolution}."


@pytest.mark.parametrize("resolution", [8, 16, 64, 256])
def test_resolutions_that_serve(resolution):
    assert change(TrainConfig(), settings=[f"resolution={resolution}", "background.blur=1"]).resolution == resolution


def test_sections_that_do_not_fit_each_other():
    with pytest.raises(ConfigError, match=r"background\.blur may be at most the training resolution 16, got 17\."):
        change(TrainConfig(), settings=["resolution=16", "background.blur=17"])
    with pytest.raises(ConfigError, match=r"channel_base must be at least the training resolution 64, got 63\."):
        change(TrainConfig(), settings=["resolution=64", "discriminator.channel_base=63"])
    with pytest.raises(ConfigError, match=r"cache\.size must exceed monitor\.samples, .*, got 16 and 16\."):
        change(TrainConfig(), settings=["cache.size=16", "monitor.samples=16"])
    change(TrainConfig(), settings=["cache.size=17", "monitor.samples=16"])


def test_settings_can_change_together_what_could_not_be_changed_alone():
    changed = change(TrainConfig(), settings=["cache.size=8", "monitor.samples=4"])
    assert (changed.cache.size, changed.monitor.samples) == (8, 4)


# A time budget


def test_plenty_of_time_gives_the_defaults():
    assert config_for_minutes(1000, 0.3, seed=4) == TrainConfig(seed=4).of_member(0)


def test_less_time_gives_fewer_samples_and_steps_but_never_too_few():
    default = TrainConfig().of_member(0)
    for seconds in (0.05, 0.4, 3.0):
        configs = [config_for_minutes(minutes, seconds) for minutes in (0.01, 1, 3, 6, 12, 100)]
        sizes, steps = [c.cache.size for c in configs], [c.steps for c in configs]
        assert sizes == sorted(sizes)
        assert 0 < sizes[0] <= sizes[-1] <= default.cache.size
        assert 0 < min(steps) <= max(steps) <= default.steps
        for config in configs:
            same = dataclasses.replace(config, steps=default.steps, members=default.members, cache=default.cache)
            assert same == default
    assert config_for_minutes(0.01, 3.0).cache.size < default.cache.size
    assert config_for_minutes(0.01, 3.0).steps < default.steps


def test_several_members_come_when_there_is_time_for_all_else():
    configs = [config_for_minutes(minutes, 0.1) for minutes in range(1, 40)]
    members = [config.members for config in configs]
    assert members == sorted(members)
    assert {1, TrainConfig().members} == set(members)
    whole = (TrainConfig().cache, TrainConfig().steps)
    assert all((config.cache, config.steps) == whole for config in configs if config.members > 1)


# Attempts and members


def test_each_restart_is_more_careful():
    config = TrainConfig()
    assert config.hardened(0) is config
    first, second = config.hardened(1), config.hardened(2)
    assert [c.discriminator.warmup_steps for c in (config, first, second)] == [600, 1200, 1800]
    assert [c.loss.coverage for c in (config, first, second)] == [5, 10, 20]
    assert [c.loss.binarization_steps for c in (config, first, second)] == [600, 1000, 1000]  # at most all steps
    assert change(TrainConfig(), settings=["loss.binarization_steps=2000"]).hardened(1).loss.binarization_steps == 2000
    back = dataclasses.replace(
        first,
        loss=config.loss,
        discriminator=dataclasses.replace(first.discriminator, warmup_steps=600),
    )
    assert back == config
    assert config.total_steps(0) == 1600
    assert config.total_steps(2) == 2800


def test_what_a_restart_does_in_words():
    assert TrainConfig().hardening(1) == "1200 warm-up steps, coverage weight 10, binarization over 1000 steps"


def test_members_differ_by_their_seed_alone():
    config = TrainConfig(seed=5, loss=LossConfig(min_foreground_coverage=0.1, min_background_coverage=0.2))
    assert config.of_member(0) == config
    seeds = [config.of_member(k).seed for k in range(4)] + [dataclasses.replace(config, seed=6).of_member(1).seed]
    assert len(set(seeds)) == 5
    assert config.of_member(2).seed == seeds[2]  # of (seed, member) alone
    assert dataclasses.replace(config.of_member(2), seed=5) == config


def test_bounds_of_coverage_are_tried_where_none_is_chosen():
    assert LossConfig().bounds == ((0.25, 0.3), (0.15, 0.7))
    assert LossConfig(min_background_coverage=0.5).bounds == ((0.25, 0.5),)
    assert LossConfig(min_foreground_coverage=0.1).bounds == ((0.1, 0.3),)
    assert (TrainConfig().trainings, TrainConfig(members=1).trainings) == (4, 2)
    small = TrainConfig(seed=5).of_member(0, (0.15, 0.7))
    assert (small.seed, small.loss.bounds, small.trainings) == (5, ((0.15, 0.7),), 3)


def test_what_is_rendered_again():
    assert MonitorConfig().augmented_samples == {"noise": 16, "mixing": 16}
    # never more than are checked
    assert MonitorConfig(samples=5, noise_samples=3).augmented_samples == {"noise": 3, "mixing": 5}
    assert MonitorConfig(noise_samples=0, mixing_samples=0).augmented_samples == {}


def test_which_network_is_kept():
    assert TrainConfig().keeps_best
    assert not TrainConfig(monitor=MonitorConfig(keep="last")).keeps_best
    with pytest.raises(ConfigError, match=r"monitor\.keep must be one of best, last, got 'first'"):
        MonitorConfig(keep="first")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"monitor\.margin must lie in \[0, 1\], got 1\.5\."):
        MonitorConfig(margin=1.5)
