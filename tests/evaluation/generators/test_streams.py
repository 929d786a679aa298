from __future__ import annotations

import pytest
import torch
from tests.evaluation.generators.small_nets import SmallNet

from labels4free.data.images.dataset import open_images
from labels4free.errors import DataError
from labels4free.evaluation.generators.streams import GeneratedImages, StoredImages, stream_features


def features(images, net=None, **options):
    return torch.cat([batch[0] for batch in stream_features(images, [net or SmallNet()], **options)])


@pytest.mark.parametrize("noise", ["random", "fixed", "none"])
def test_image_i_depends_on_seed_and_i_alone(generator, noise):
    images = GeneratedImages(generator, 6, 3, 0.7, noise)
    whole = images.batch(0, 10)
    assert whole.shape == (6, 3, 64, 64)
    assert torch.equal(images.batch(4, 6), whole[4:])
    assert torch.equal(GeneratedImages(generator, 3, 3, 0.7, noise).batch(0, 8), whole[:3])
    assert not torch.equal(GeneratedImages(generator, 6, 4, 0.7, noise).batch(0, 1), whole[:1])
    assert not torch.equal(GeneratedImages(generator, 6, 3, 0.5, noise).batch(0, 1), whole[:1])


def test_noise_differs_from_image_to_image(generator):
    random, fixed = (GeneratedImages(generator, 2, 3, 0.0, noise).batch(0, 2) for noise in ("random", "fixed"))
    assert torch.equal(fixed[0], fixed[1])  # at psi 0 the styles are the same
    assert not torch.equal(random[0], random[1])
    plain = generator.synthesize(generator.draw_ws(3, 0, 0.0), noise="fixed").image.clamp(-1, 1)
    torch.testing.assert_close(fixed[:1], plain, atol=0.51 / 127.5, rtol=0)


def test_a_generator_that_gives_no_numbers(generator, monkeypatch):
    images = GeneratedImages(generator, 4, 3)
    synthesize = generator.synthesize

    def broken(ws, **options):
        output = synthesize(ws, **options)
        return output._replace(image=output.image * torch.nan)

    monkeypatch.setattr(generator, "synthesize", broken)
    with pytest.raises(DataError, match="Image 2 of seed 3 holds numbers that are not finite: this generator's"):
        images.batch(2, 4)


def test_stored_images_lie_evenly_over_the_store(photos):
    store = open_images(photos, 64, cache_bytes=0)
    assert len(StoredImages(store, 100)) == 40
    few = StoredImages(store, 4)
    assert len(few) == 4
    assert torch.equal(few.batch(0, 9), store.batch([0, 10, 20, 30]))
    assert torch.equal(few.batch(3, 4), store.batch([30]))


def test_features_do_not_depend_on_batches(photos):
    images = StoredImages(open_images(photos, 64), 40)
    whole = features(images, batch_size=40)
    assert whole.shape == (40, 12)
    assert torch.equal(features(images, batch_size=7), whole)


@pytest.mark.slow
def test_features_do_not_depend_on_processes(generator):
    images = GeneratedImages(generator, 5, 0)
    assert torch.equal(features(images, batch_size=2, workers=2), features(images, batch_size=2))


def test_features_that_are_no_numbers(photos):
    net = SmallNet()
    torch.nn.init.constant_(net.network.weight, torch.inf)
    with pytest.raises(DataError, match="The features of images 0 to 7 are not finite"):
        features(StoredImages(open_images(photos, 64), 40), net)
