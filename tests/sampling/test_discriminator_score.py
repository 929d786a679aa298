from __future__ import annotations

import pytest
import torch
from tests.refusals import refuses
from tests.small_pictures import seeded

from labels4free.errors import ConfigError
from labels4free.networks.discriminator import Discriminator
from labels4free.sampling.discriminator_score import measure_discriminator_score


def _discriminator(**options):
    torch.manual_seed(0)
    return Discriminator(16, {16: 4, 8: 4, 4: 4}, **options)


@pytest.mark.slow
def test_it_is_the_logit_of_the_image_pooled_and_alone():
    discriminator, image = _discriminator(), torch.randn(1, 3, 32, 32, generator=seeded(1))
    small = image.view(1, 3, 16, 2, 16, 2).mean(dim=(3, 5))
    with torch.no_grad():
        assert measure_discriminator_score(discriminator, image) == pytest.approx(float(discriminator(small)), abs=1e-5)
        assert measure_discriminator_score(discriminator, small) == pytest.approx(float(discriminator(small)), abs=1e-5)
    assert measure_discriminator_score(discriminator, -image) != measure_discriminator_score(discriminator, image)


@pytest.mark.slow
def test_classes():
    discriminator, image = _discriminator(c_dim=3, mapping_layers=1), torch.randn(1, 3, 16, 16, generator=seeded(1))
    with torch.no_grad():
        expected = float(discriminator(image, torch.tensor([[0.0, 0.0, 1.0]])))
    assert measure_discriminator_score(discriminator, image, label=2) == pytest.approx(expected, abs=1e-5)
    assert measure_discriminator_score(discriminator, image, label=1) != pytest.approx(expected, abs=1e-5)
    refuses(ConfigError, "classes 0 to 2, got label 3", measure_discriminator_score, discriminator, image, label=3)
    refuses(ConfigError, "needs labels", measure_discriminator_score, discriminator, image)
    refuses(ConfigError, "no classes, got label 0", measure_discriminator_score, _discriminator(), image, label=0)


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 3, 24, 24), (2, 3, 16, 16), (1, 3, 16, 32), (3, 16, 16)])
def test_images_that_do_not_fit(shape):
    refuses(
        ConfigError, "judges images of 16x16 pixels", measure_discriminator_score, _discriminator(), torch.zeros(shape)
    )
