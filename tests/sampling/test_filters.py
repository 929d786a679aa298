from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from tests.refusals import refuses

from labels4free.data.pairs.record import PairRecord
from labels4free.errors import ConfigError, DataError
from labels4free.sampling.filters import NO_FILTERS, FilterConfig, Thresholds, calibrate, drop_reason
from labels4free.settings_fields import as_json

GOOD = PairRecord(
    index=0,
    foreground_ratio=0.5,
    alpha_mean=0.5,
    sharpness=0.9,
    center_bias=0.6,
    components=1,
    largest_component_fraction=1.0,
    truncation_psi=0.7,
    uncertainty=0.1,
    discriminator_score=0.0,
)


def _reason(config, **changes):
    return drop_reason(replace(GOOD, **changes), calibrate([], config))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"foreground_ratio": 0.0, "components": 0, "largest_component_fraction": 0.0}, "foreground ratio below 0.02"),
        ({"foreground_ratio": 0.0199}, "foreground ratio below 0.02"),
        ({"foreground_ratio": 0.02}, None),
        ({"foreground_ratio": 0.98}, None),
        ({"foreground_ratio": 0.99}, "foreground ratio above 0.98"),
        ({"components": 40, "largest_component_fraction": 0.5}, None),
        ({"components": 3, "largest_component_fraction": 0.49}, "largest component below 0.5 of the mask"),
    ],
)
def test_what_is_dropped_by_default(changes, reason):
    assert _reason(FilterConfig(), **changes) == reason


def test_components_may_be_limited():
    assert _reason(FilterConfig(max_components=2), components=2) is None
    assert _reason(FilterConfig(max_components=2), components=3) == "more than 2 components"
    assert _reason(FilterConfig(max_components=1), components=3) == "more than 1 component"
    assert _reason(FilterConfig(max_components=1), components=0) is None  # every part is a speck


def test_no_filters_keep_everything():
    for foreground_ratio, components in ((0.0, 0), (1.0, 1), (0.4, 90)):
        assert (
            _reason(
                NO_FILTERS, foreground_ratio=foreground_ratio, components=components, largest_component_fraction=0.0
            )
            is None
        )


def test_an_empty_mask_is_only_a_matter_of_coverage():
    config = FilterConfig(min_foreground_ratio=0.0)
    assert _reason(config, foreground_ratio=0.0, components=0, largest_component_fraction=0.0) is None


def test_the_first_reason_counts():
    config = FilterConfig(max_components=1)
    assert (
        _reason(config, foreground_ratio=0.01, components=9, largest_component_fraction=0.1)
        == "foreground ratio below 0.02"
    )
    assert _reason(config, components=9, largest_component_fraction=0.1) == "more than 1 component"


def test_quantiles_are_numbers_of_the_pairs_that_pass_the_rest():
    records = [replace(GOOD, index=i, uncertainty=i / 10, discriminator_score=float(-i)) for i in range(11)]
    empty = [
        replace(GOOD, index=11 + i, foreground_ratio=0.0, uncertainty=0.99, discriminator_score=-99.0)
        for i in range(20)
    ]
    config = FilterConfig(max_uncertainty_quantile=0.85, min_discriminator_score_quantile=0.25)
    found = calibrate(empty + records, config)
    assert found.max_uncertainty == pytest.approx(0.85)  # 0, 0.1, ..., 1: quantile q is q
    assert found.min_discriminator_score == pytest.approx(-7.5)
    assert found.calibrated_on == 11
    assert found == calibrate(reversed(records + empty), config)
    reasons = [drop_reason(record, found) for record in records]
    assert reasons == [None] * 8 + ["discriminator score below -7.5"] + ["uncertainty above 0.85"] * 2


def test_the_least_decided_are_dropped():
    records = [replace(GOOD, index=i, sharpness=1 - i / 100, uncertainty=None) for i in range(11)]
    config = FilterConfig(min_sharpness_quantile=0.15)
    assert config.needs_calibration
    thresholds = calibrate(records, config)
    assert thresholds.min_sharpness == pytest.approx(0.915)
    reasons = [drop_reason(record, thresholds) for record in records]
    assert reasons == [None] * 9 + ["sharpness below 0.915"] * 2


def test_a_quantile_keeps_about_its_share():
    records = [replace(GOOD, index=i, uncertainty=(i * 37 % 100) / 1000) for i in range(100)]
    thresholds = calibrate(records, FilterConfig(max_uncertainty_quantile=0.9))
    kept = Counter(drop_reason(record, thresholds) for record in records)
    assert kept[None] == 90


def test_equal_uncertainties_all_stay():
    records = [replace(GOOD, index=i, uncertainty=0.2) for i in range(10)]
    thresholds = calibrate(records, FilterConfig(max_uncertainty_quantile=0.5))
    assert all(drop_reason(record, thresholds) is None for record in records)


def test_without_quantiles_no_candidate_is_looked_at():
    def explode():
        raise AssertionError("looked at")
        yield

    assert not FilterConfig().needs_calibration
    assert calibrate(explode(), FilterConfig(max_components=3)) == Thresholds(0.02, 0.98, 3, 0.5)


def test_what_was_not_measured_cannot_be_limited():
    bare = [replace(GOOD, uncertainty=None, discriminator_score=None)]
    with pytest.raises(ConfigError, match="no uncertainty was measured: ask for noise or mixing"):
        calibrate(bare, FilterConfig(max_uncertainty_quantile=0.9))
    with pytest.raises(ConfigError, match="no discriminator_score was measured: give a discriminator"):
        calibrate(bare, FilterConfig(min_discriminator_score_quantile=0.1))
    with pytest.raises(DataError, match="Pair 0 has no uncertainty"):
        drop_reason(bare[0], Thresholds(0.0, 1.0, None, None, max_uncertainty=0.1))


def test_nothing_to_calibrate_on():
    with pytest.raises(ConfigError, match="None of the first 2 pairs passes"):
        calibrate([replace(GOOD, foreground_ratio=0.0)] * 2, FilterConfig(max_uncertainty_quantile=0.9))


def test_thresholds_survive_json():
    thresholds = calibrate(
        [replace(GOOD, uncertainty=u) for u in (0.1, 0.2, 1 / 3)], FilterConfig(max_uncertainty_quantile=0.9)
    )
    assert Thresholds.from_json(json.loads(json.dumps(as_json(thresholds)))) == thresholds
    plain = Thresholds(0.0, 1.0, None, None)
    assert Thresholds.from_json(json.loads(json.dumps(as_json(plain)))) == plain


@pytest.mark.parametrize(
    "change",
    [
        {"min_foreground_ratio": None},
        {"max_components": 1.5},
        {"max_uncertainty": "0.1"},
        {"extra": 1},
        {"calibrated_on": True},
    ],
)
def test_broken_thresholds_are_refused(change):
    values = as_json(Thresholds(0.0, 1.0, 2, None)) | change
    for broken in (values, {"min_foreground_ratio": 0.1}, [0.1]):
        with pytest.raises(ConfigError, match=next(iter(change)) if broken is values else "no thresholds of filters"):
            Thresholds.from_json(broken)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_foreground_ratio": -0.1}, r"min_foreground_ratio must lie in \[0, 1\]"),
        ({"max_foreground_ratio": 1.1}, r"max_foreground_ratio must lie in \[0, 1\]"),
        ({"min_foreground_ratio": 0.6, "max_foreground_ratio": 0.5}, "no mask could pass"),
        ({"max_components": 0}, "max_components must be at least 1"),
        ({"min_largest_component_fraction": 2.0}, "min_largest_component_fraction"),
        ({"max_uncertainty_quantile": 0.0}, r"\(0, 1\], got 0.0"),
        (
            {"min_discriminator_score_quantile": 1.0},
            r"min_discriminator_score_quantile must lie in \[0, 1\), got 1.0; .* least real tenth",
        ),
        ({"min_sharpness_quantile": -0.1}, r"min_sharpness_quantile must lie in \[0, 1\), got -0.1; .* least decided"),
        ({"min_foreground_ratio": float("nan")}, "min_foreground_ratio"),
        ({"calibration": 0}, "calibration must be at least 1"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    refuses(ConfigError, message, FilterConfig, **settings)
