from __future__ import annotations

import json

import pytest
import torch
from tests.evaluation.generators.small_nets import SmallNet, write_images

from labels4free.data.images.dataset import open_images
from labels4free.errors import ConfigError, DataError
from labels4free.evaluation.generators.measure import measure_generator
from labels4free.evaluation.generators.report import Figure, MetricsConfig
from labels4free.evaluation.generators.streams import GeneratedImages
from labels4free.metrics.distributions import (
    Moments,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)

ALL = ("fid30", "kid30", "pr303", "is20", "ppl2_wend_4")


@pytest.fixture
def data(photos):
    return open_images(photos, 64, cache_bytes=0)


def by_name(report):
    return {(figure.metric, figure.name): figure for figure in report.figures}


def features_of(store, numbers):
    return SmallNet().features(store.batch(numbers))


def test_a_generator_by_every_metric(generator, data):
    done = []
    report = measure_generator(
        generator, data, [SmallNet()], MetricsConfig(ALL, seed=5), progress=lambda *at: done.append(at)
    )
    assert done[-1] == (30 + 30 + 4, 30 + 30 + 4)
    figures = by_name(report)
    assert list(figures) == [
        ("fid30", "FD-Small"), ("kid30", "KID-Small"), ("pr303", "Precision-Small"), ("pr303", "Recall-Small"),
        ("is20", "IS-Small"), ("ppl2_wend_4", "PPL-Small"),
    ]  # fmt: skip
    real = features_of(data, [k * 40 // 30 for k in range(30)])
    made = SmallNet().features(GeneratedImages(generator, 30, 5).batch(0, 30))
    expected = [
        frechet_distance(Moments.of(real), Moments.of(made)),
        kernel_distance(made, real),
        *precision_recall(real, made),
        inception_score(made[:20, :2]).mean,
    ]
    assert [figure.mean for figure in report.figures[:5]] == pytest.approx(expected, rel=1e-6)
    assert {(f.generated, f.real) for f in report.figures} == {(30, 30), (20, 0), (4, 0)}
    assert report.figures[5].mean > 0
    assert json.loads(json.dumps(report.to_json()))["figures"][0]["name"] == "FD-Small"


def test_spread_over_seeds(generator, data):
    config = MetricsConfig(("fid20",), seed=1, seeds=3)
    (figure,) = measure_generator(generator, data, [SmallNet()], config).figures
    singles = [
        measure_generator(generator, data, [SmallNet()], MetricsConfig(("fid20",), seed=seed)).figures[0].mean
        for seed in (1, 2, 3)
    ]
    assert figure.values == pytest.approx(singles)
    assert figure.mean == pytest.approx(sum(singles) / 3)
    assert figure.spread == pytest.approx(float(torch.tensor(singles).std()), rel=1e-4)
    assert "± " in str(figure)
    assert "(3 seeds)" in str(figure)


def test_several_networks_look_at_the_same_images(generator, data):
    report = measure_generator(generator, data, [SmallNet(), SmallNet("Other")], MetricsConfig(("fid20", "kid30")))
    names = [(figure.metric, figure.name) for figure in report.figures]
    assert names == [("fid20", "FD-Small"), ("fid20", "FD-Other"), ("kid30", "KID-Small"), ("kid30", "KID-Other")]
    assert report.figures[0].values == report.figures[1].values


def test_a_network_gives_the_metrics_that_it_serves(generator, data):
    features, distances = SmallNet("Features"), SmallNet("Distances")
    features.kinds, distances.kinds = ("fid",), ("ppl",)
    config = MetricsConfig(("fid20", "ppl2_wend_4"))
    report = measure_generator(generator, data, [distances, features], config)
    assert [figure.name for figure in report.figures] == ["FD-Features", "PPL-Distances"]
    assert SmallNet.looked_at == 40
    with pytest.raises(ConfigError, match="Distances cannot give an inception score; take"):
        measure_generator(generator, data, [distances, features], MetricsConfig(("is20",)))


def test_all_real_images(generator, data):
    (figure,) = measure_generator(generator, data, [SmallNet()], MetricsConfig(("fid20_full",))).figures
    assert (figure.generated, figure.real) == (20, 40)


def test_samples_in_place_of_a_generator(photos, tmp_path, data):
    samples = open_images(write_images(tmp_path / "samples", count=25, seed=4), 64)
    config = MetricsConfig(("fid30", "kid25"), seeds=3)
    report = measure_generator(None, data, [SmallNet()], config, samples=samples)
    made, real = features_of(samples, range(25)), features_of(data, [k * 40 // 30 for k in range(30)])
    figure = report.figures[0]
    assert figure.values == pytest.approx([frechet_distance(Moments.of(real), Moments.of(made))])
    assert (figure.generated, figure.real, figure.spread) == (25, 30, None)
    assert report.notes == ("fid30: only 25 of 30 samples are there.",)
    same = measure_generator(None, data, [SmallNet()], MetricsConfig(("fid40",)), samples=open_images(photos, 64))
    assert same.figures[0].mean == pytest.approx(0, abs=1e-9)


def test_fewer_images_than_features_are_noted(generator, data):
    report = measure_generator(generator, data, [SmallNet()], MetricsConfig(("fid12_full", "kid12")))
    (note,) = report.notes
    assert note == (
        "FD-Small of fid12_full is too large, whatever the images: 12 generated images are no more than its 12 "
        "features. Take kid12_full, which is unbiased."
    )


def test_small_real_images_are_noted(generator, tmp_path):
    small = open_images(write_images(tmp_path / "small", side=32), 64)
    (note,) = measure_generator(generator, small, [SmallNet()], MetricsConfig(("fid20",))).notes
    assert note.startswith("Real images have sides down to 32 pixels and were enlarged to 64")


@pytest.mark.parametrize(
    ("metrics", "given", "error", "message"),
    [
        (("fid20",), {}, ConfigError, "fid20 compares with real images: say where they are"),
        (("fid1",), {"data": True}, DataError, "fid1 needs at least 2 generated images, got 1"),
        (("pr33",), {"data": True}, DataError, "pr33 needs at least 4 generated images, got 3"),
        (("is9",), {}, DataError, "is9 needs at least 10 generated images, got 9"),
        (("ppl2_wend_4",), {"samples": True}, ConfigError, "ppl2_wend_4 needs a generator"),
        (("fid20",), {"data": True, "generator": False}, ConfigError, "Give a generator or samples, and not both"),
    ],
)
def test_what_cannot_be_measured(generator, photos, metrics, given, error, message):
    store = open_images(photos, 64)
    samples = store if "samples" in given else None
    subject = generator if given.get("generator", samples is None) else None
    with pytest.raises(error, match=message):
        measure_generator(
            subject, store if "data" in given else None, [SmallNet()], MetricsConfig(metrics), samples=samples
        )
    assert SmallNet.looked_at == 0


def test_too_few_real_images(generator, tmp_path):
    one = open_images(write_images(tmp_path / "one", count=1), 64)
    with pytest.raises(DataError, match="fid20 needs at least 2 real images, got 1"):
        measure_generator(generator, one, [SmallNet()], MetricsConfig(("fid20",)))


def test_images_of_two_sizes(generator, photos):
    with pytest.raises(ConfigError, match="Images of one resolution are needed, got 32 and 64 pixels"):
        measure_generator(generator, open_images(photos, 32), [SmallNet()], MetricsConfig(("fid20",)))


@pytest.mark.parametrize(
    "options", [{"metrics": ()}, {"seeds": 0}, {"epsilon": 0.0}, {"workers": 0}, {"truncation_psi": 3.0}, {"seed": -1}]
)
def test_settings_out_of_range(options):
    with pytest.raises(ConfigError):
        MetricsConfig(**{"metrics": ("fid5k",)} | options)


def test_words_for_figures():
    assert str(Figure("FD-Small", "fid5k", (12.3456,), (), 1, 1)) == "12.346"
    assert str(Figure("KID-Small", "kid5k", (0.0012345,), (0.0003,), 1, 1)) == "0.00123 (deviation within: 0.0003)"
    assert str(Figure("FD-Small", "fid5k", (10.0, 12.0), (), 1, 1)) == "11.000 ± 1.4 (2 seeds)"
