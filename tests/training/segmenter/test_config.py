from __future__ import annotations

import pytest
from tests.tiny_distillation import SETTINGS, changed

from labels4free.errors import ConfigError
from labels4free.networks.segmenter import SegmenterNetwork
from labels4free.settings_fields import build
from labels4free.training.alpha.config import TrainConfig
from labels4free.training.segmenter.config import NetworkConfig, SegmenterConfig
from labels4free.training.segmenter.trainer import learning_rate, new_network
from labels4free.training_loop.resume import _check_same_settings


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
        ({"size": 100}, "size must be a multiple of 32 pixels, at least that, got 100"),
        ({"size": 0}, "size must be a multiple of 32 pixels, at least that, got 0"),
        ({"working_size": 100}, "working_size must be a multiple of 32 pixels, at least that, got 100"),
        ({"working_size": 0}, "working_size must be a multiple of 32 pixels, at least that, got 0"),
        ({"seed": 1.5}, "seed must be int, got 1.5"),
        ({"pairs": {"num": 0}}, "pairs.num must be at least 1"),
        ({"pairs": {"min_truncation_psi": 2.0}}, "must satisfy 0 <= min <= max <= 2, got 2.0 and 1.0"),
        ({"network": {"width": 0}}, "network.width must be at least 1"),
        ({"optimizer": {"learning_rate": 0.0}}, "optimizer.learning_rate must be above 0"),
        ({"optimizer": {"max_gradient_norm": 0.0}}, "optimizer.max_gradient_norm must be above 0"),
        ({"optimizer": {"weight_decay": -1.0}}, "optimizer.weight_decay must be at least 0"),
        ({"loss": {"border": -1.0}}, "loss.border must be at least 0"),
        ({"loss": {"border_width": 4}}, "loss.border_width must be an odd number of at least 1 pixel, got 4"),
        ({"loss": {"cross_entropy": 0, "iou": 0, "absolute": 0}}, "One of loss.cross_entropy"),
        ({"self_training": {"photo_fraction": 2}}, r"self_training.photo_fraction must lie in \[0, 1\]"),
        ({"self_training": {"rounds": 0}}, "self_training.rounds must be at least 1"),
        (
            {"self_training": {"min_foreground_ratio": 0.99}},
            "min_foreground_ratio must be below self_training.max_foreground_ratio",
        ),
        ({"self_training": {"unlabelled": "x", "rounds": 9}, "steps": 9}, "9 rounds of self-training need at least 10"),
        ({"monitor": {"samples": 0}}, "monitor.samples must be at least 1"),
        ({"monitor": {"margin": 2}}, r"monitor.margin must lie in \[0, 1\]"),
        ({"augmentation": {"jpeg": 2}}, r"augmentation.jpeg must lie in \[0, 1\]"),
    ],
)
def test_wrong_values_are_refused(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build(SegmenterConfig, values)


def test_the_default_network_is_the_segmenters_own():
    assert new_network(SegmenterConfig()).config() == SegmenterNetwork().config()
    assert NetworkConfig(width=1).decoder_widths == (1, 1, 3, 6)


@pytest.mark.parametrize(
    ("size", "asked", "expected"),
    [(256, None, 288), (32, None, 32), (320, None, 352), (512, None, 576), (64, 320, 320)],
)
def test_photos_are_seen_up_to_an_eighth_larger_than_training_images(size, asked, expected):
    config = changed(size=size, working_size=asked)
    assert new_network(config).working_size == config.photo_size == expected


def test_rounds_cut_the_steps_into_equal_parts():
    assert SegmenterConfig().round_starts() == ()
    assert changed(self_training={"unlabelled": "x"}).round_starts() == (2,)
    assert changed(steps=10, self_training={"unlabelled": "x", "rounds": 2}).round_starts() == (3, 6)


def test_each_restart_halves_the_rate():
    rates = [SETTINGS.hardened(restart).optimizer.learning_rate for restart in range(3)]
    assert rates == [2e-3, 1e-3, 5e-4]
    assert SETTINGS.hardening(2) == "a learning rate of 0.0005"


def test_the_rate_rises_and_falls():
    config = changed(steps=100, optimizer={"warmup_steps": 10, "learning_rate": 1.0})
    assert learning_rate(config, 0) == pytest.approx(0.1)
    assert learning_rate(config, 50) == pytest.approx(0.5)
    assert learning_rate(config, 99) < 0.001
    assert learning_rate(changed(optimizer={"warmup_steps": 0}), 0) == 2e-3


def test_what_changed_is_named(tmp_path):
    _check_same_settings(tmp_path, SETTINGS, None)
    _check_same_settings(tmp_path, SETTINGS, changed())
    with pytest.raises(ConfigError, match=r"has loss.iou=1.0 \(asked for: 2.0\). Start a new run"):
        _check_same_settings(tmp_path, SETTINGS, changed(loss={"iou": 2.0}))
    with pytest.raises(ConfigError, match=r"has recipe=segmenter \(asked for: replay\)"):
        _check_same_settings(tmp_path, SETTINGS, TrainConfig())
