from __future__ import annotations

import dataclasses
import json

import pytest

from labels4free.errors import ConfigError
from labels4free.settings_fields import build, change, flat
from labels4free.training.alpha.paper_config import (
    PaperAlphaConfig,
    PaperConfig,
    PaperDiscriminatorConfig,
    PaperLossConfig,
    SamplesConfig,
)


def test_defaults_are_the_published_ones():
    """Those of train.py's flags; a running average and a monitor are ours."""
    config = PaperConfig()
    assert (config.steps, config.batch_size, config.accumulation) == (1001, 16, 1)
    assert (config.samples.truncation_psi, config.samples.style_mixing) == (1, 0)
    assert config.alpha.learning_rate == config.discriminator.learning_rate == 0.0002
    assert (config.alpha.lazy_ratio, config.discriminator.lazy_ratio) == (4 / 5, 16 / 17)
    assert (config.discriminator.r1_gamma, config.discriminator.r1_interval) == (10, 16)
    assert dataclasses.astuple(config.loss) == (1.0, 1.2, 1.2, 0.25, 0.0, 0.75)
    assert 0.5 ** (1 / config.alpha.ema_half_life) == pytest.approx(0.5 ** (32 / 10_000))
    assert config.faithful is False


def test_json_round_trip():
    config = PaperConfig(data="/faces", resolution=64, samples=SamplesConfig(style_mixing=0.9))
    assert build(PaperConfig, json.loads(json.dumps(config.to_json(), allow_nan=False))) == config


AT_LEAST = {
    **dict.fromkeys(["steps", "batch_size", "accumulation", "checkpoint_interval", "picture_interval"], 1),
    **dict.fromkeys(["alpha.width", "alpha.min_resolution", "alpha.max_resolution"], 1),
    **dict.fromkeys(["alpha.lazy_interval", "alpha.ema_half_life"], 0),
    **dict.fromkeys([f"discriminator.{name}" for name in ("channel_multiplier", "channel_max", "r1_interval")], 1),
    "discriminator.r1_gamma": 0,
    **dict.fromkeys(
        [f"loss.{name}" for name in ("adversarial", "binarization", "foreground_coverage", "background_coverage")], 0
    ),
}
INSIDE = {
    "samples.style_mixing": "[0, 1]",
    "samples.truncation_psi": "[0, 2]",
    "samples.background_truncation_psi": "[0, 2]",
    "loss.min_foreground_coverage": "[0, 1]",
    "loss.min_background_coverage": "[0, 1]",
    **dict.fromkeys([f"{s}.{name}" for s in ("alpha", "discriminator") for name in ("beta1", "beta2")], "[0, 1)"),
}
ABOVE_0 = ["alpha.learning_rate", "alpha.ema_ramp", "discriminator.learning_rate"]


def refused(setting):
    with pytest.raises(ConfigError) as caught:
        change(PaperConfig(), settings=[setting])
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(("path", "low"), AT_LEAST.items())
def test_values_below_their_bound(path, low):
    change(PaperConfig(), settings=[f"{path}={low}"])
    assert refused(f"{path}={low - 1}").startswith(f"{path} must be at least {low}, got -1" if low == 0 else path)
    assert refused(f"{path}=inf").startswith(f"{path} must be ")


@pytest.mark.slow
@pytest.mark.parametrize(("path", "interval"), INSIDE.items())
def test_values_outside_of_their_interval(path, interval):
    low, high = float(interval[1]), float(interval[4])
    change(PaperConfig(), settings=[f"{path}={low}"])
    assert refused(f"{path}={low - 0.5}") == f"{path} must lie in {interval}, got {low - 0.5}."
    if interval.endswith(")"):
        assert refused(f"{path}={high}") == f"{path} must lie in {interval}, got {high}."
    else:
        change(PaperConfig(), settings=[f"{path}={high}"])
        assert refused(f"{path}={high + 0.5}") == f"{path} must lie in {interval}, got {high + 0.5}."


@pytest.mark.parametrize("path", ABOVE_0)
def test_values_that_must_be_above_0(path):
    assert refused(f"{path}=0") == f"{path} must be above 0, got 0.0."


@pytest.mark.parametrize("resolution", [0, 4, 48, -8])
def test_the_resolution_is_a_power_of_two(resolution):
    assert refused(f"resolution={resolution}") == (
        f"resolution must be none or a power of two of at least 8, got {resolution}."
    )
    assert change(PaperConfig(), settings=["resolution=none"]).resolution is None


def test_words():
    assert refused("alpha.network=unet") == "alpha.network must be one of paper, merge, got 'unet'."
    assert refused("faithful=1") == "faithful must be bool, got '1'."


@pytest.mark.slow
@pytest.mark.parametrize("path", flat(PaperConfig().to_json()))
def test_every_field_refuses_a_wrong_type_when_it_is_built(path):
    """Python users get sentences as well."""
    *section, name = path.split(".")
    part = getattr(PaperConfig(), section[0]) if section else PaperConfig()
    with pytest.raises(ConfigError, match=rf"^{path} must be "):
        dataclasses.replace(part, **{name: [1]})


@pytest.mark.parametrize(
    "make",
    [
        lambda: SamplesConfig(truncation_psi=float("nan")),
        lambda: PaperAlphaConfig(learning_rate=float("inf")),
        lambda: PaperDiscriminatorConfig(r1_gamma=float("nan")),
        lambda: PaperLossConfig(adversarial=float("inf")),
    ],
)
def test_numbers_that_are_none(make):
    with pytest.raises(ConfigError, match="must be float, got"):
        make()


def test_one_latent():
    assert not PaperConfig().one_latent
    assert PaperConfig(faithful=True).one_latent
    assert PaperConfig(samples=SamplesConfig(same_latent=True)).one_latent


def test_each_restart_doubles_the_coverage_weights():
    config = change(PaperConfig(), settings=["loss.background_coverage=2"])
    assert config.hardened(0) is config
    weights = [config.hardened(k).loss for k in range(3)]
    assert [w.foreground_coverage for w in weights] == pytest.approx([1.2, 2.4, 4.8])
    assert [w.background_coverage for w in weights] == [2, 4, 8]
    assert dataclasses.replace(config.hardened(2), loss=config.loss) == config
    assert config.hardening(1) == "foreground coverage weight 2.4, background 4"


def test_what_is_kept():
    assert PaperConfig().keeps_best
    assert not change(PaperConfig(), settings=["monitor.keep=last"]).keeps_best
    assert not change(PaperConfig(), settings=["faithful=true"]).keeps_best
