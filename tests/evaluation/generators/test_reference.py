from __future__ import annotations

import logging

import numpy as np
import torch
from tests.evaluation.generators.small_nets import SmallNet, write_images

from labels4free.data.images.dataset import open_images
from labels4free.evaluation.generators.reference import reference_statistics
from labels4free.evaluation.generators.streams import StoredImages


def statistics(folder, nets=None, count=40, side=64, **options):
    return reference_statistics(StoredImages(open_images(folder, side), count), nets or [SmallNet()], **options)


def test_statistics(photos):
    done = []
    (found,) = statistics(photos, keep_features=True, batch_size=7, progress=done.append)
    assert (found.moments.count, sum(done)) == (40, 40)
    assert found.features.shape == (40, 12)
    np.testing.assert_allclose(found.moments.covariance, np.cov(found.features.double().numpy(), rowvar=False))
    assert statistics(photos, batch_size=7)[0].moments.mean.equal(found.moments.mean)


def test_images_are_looked_at_once(photos, cache):
    (first,) = statistics(photos)
    assert SmallNet.looked_at == 40
    done = []
    (again,) = statistics(photos, progress=done.append)
    assert (SmallNet.looked_at, done) == (40, [40])
    assert again.moments.count == 40
    assert torch.equal(again.moments.scatter, first.moments.scatter)
    assert len(list(cache.iterdir())) == 1
    (with_features,) = statistics(photos, keep_features=True)  # which were not kept
    assert SmallNet.looked_at == 80
    assert torch.equal(statistics(photos, keep_features=True)[0].features, with_features.features)
    assert SmallNet.looked_at == 80


def test_what_is_kept_is_of_these_images_and_this_network(photos, tmp_path):
    statistics(photos)
    expected = 40
    for options, looks in [
        ({"count": 20}, 20),
        ({"side": 32}, 40),
        ({"nets": [SmallNet(weight=2.0)]}, 40),
        ({"nets": [SmallNet("Other")]}, 40),
        ({"nets": [SmallNet(), SmallNet("Third")]}, 40),
    ]:
        statistics(photos, **options)
        expected += looks
        assert SmallNet.looked_at == expected, options
    statistics(write_images(tmp_path / "others", count=40, seed=1))
    assert SmallNet.looked_at == expected + 40


def test_a_damaged_file_is_made_anew(photos, cache):
    (first,) = statistics(photos)
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert torch.equal(statistics(photos)[0].moments.scatter, first.moments.scatter)
    assert SmallNet.looked_at == 80


def test_a_cache_that_cannot_be_written(photos, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LABELS4FREE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "labels4free"):
        assert statistics(photos)[0].moments.count == 40
    assert "The statistics of the real images are not kept: " in caplog.text
