from __future__ import annotations

from typing import get_args

import pytest
from tests.refusals import refuses

from labels4free.data.pairs.formats import PAIR_FORMATS
from labels4free.errors import ConfigError
from labels4free.sampling.config import PAPER, Format, SampleConfig
from labels4free.sampling.filters import NO_FILTERS, FilterConfig
from labels4free.sampling.uncertainty import UncertaintyConfig
from labels4free.settings_fields import as_json


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"min_truncation_psi": -2.5}, r"min_truncation_psi must lie in \[-2, 2\], got -2.5"),
        ({"max_truncation_psi": float("nan")}, "max_truncation_psi must be float, got nan"),
        ({"min_truncation_psi": 0.9}, "min_truncation_psi 0.9 is above max_truncation_psi 0.7"),
        ({"style_mixing": 1.1}, r"style_mixing must lie in \[0, 1\], got 1.1"),
        ({"label": -1}, "label must be at least 0, got -1"),
        ({"threshold": -0.1}, r"threshold must lie in \[0, 1\], got -0.1"),
        ({"threshold": float("nan")}, "threshold"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"parts": ("image", "masks")}, "parts must be some of image, alpha, mask, .*; got image, masks"),
        ({"parts": ()}, "got none"),
        ({"parts": ("image", "image")}, "each once; got image, image"),
        ({"format": "tfrecord"}, "format must be one of folder, webdataset, coco, huggingface, got 'tfrecord'"),
        ({"image_format": "jpg"}, "image_format must be one of png, jpeg, webp, got 'jpg'"),
        ({"quality": 0}, r"quality must lie in \[1, 100\], got 0"),
        ({"alpha_bits": 12}, "alpha_bits must be 8 or 16, got 12"),
        ({"category": " "}, "category must name the object"),
        ({"shard_size": 0}, "shard_size must be at least 1, got 0"),
        ({"backgrounds": "#12345"}, "backgrounds must be 'generated', a folder of pictures or a colour .*'#12345'"),
        ({"backgrounds": ""}, "backgrounds must be"),
        ({"filters": FilterConfig(max_uncertainty_quantile=0.9)}, "max_uncertainty_quantile needs an uncertainty"),
        (
            {"filters": FilterConfig(min_discriminator_score_quantile=0.1)},
            "min_discriminator_score_quantile needs a discriminator",
        ),
    ],
)
def test_refuses_values_out_of_range(settings, said):
    refuses(ConfigError, said, SampleConfig, **settings)


def test_settings_survive_json():
    config = SampleConfig(
        seed=3,
        parts=("image", "cutout"),
        backgrounds="#0a0B0c",
        filters=FilterConfig(max_components=2, max_uncertainty_quantile=0.5),
        uncertainty=UncertaintyConfig(noise=1, ensemble=("a", "b")),
    )
    assert SampleConfig.from_json(as_json(config) | {"noise": "fixed"}) == config
    assert config.colour == (10, 11, 12)
    assert SampleConfig.from_json({}) == SampleConfig()
    with pytest.raises(ConfigError, match=r"Unknown setting 'filters\.unknown'; the valid names there are"):
        SampleConfig.from_json({"filters": {"unknown": 1}})


def test_layout_and_what_needs_a_background():
    layout = SampleConfig(parts=("mask",), alpha_bits=16, shard_size=7).layout(64)
    assert (layout.parts, layout.alpha_bits, layout.shard_size, layout.size) == (("mask",), 16, 7, 64)
    needs = {
        part: SampleConfig(parts=(part,)).needs_background for part in ("image", "cutout", "composite", "background")
    }
    assert needs == {"image": False, "cutout": False, "composite": True, "background": True}
    assert set(get_args(Format)) == set(PAIR_FORMATS)


def test_published():
    assert (PAPER.min_truncation_psi, PAPER.max_truncation_psi, PAPER.threshold) == (0.5, 0.5, 0.9)
    assert PAPER.filters == NO_FILTERS
    assert PAPER.parts == ("image", "alpha", "mask", "composite", "background")
