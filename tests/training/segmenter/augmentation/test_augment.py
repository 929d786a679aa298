from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from tests.tiny_distillation import OFF, SIZE, Discs, disc, white_disc

from labels4free.errors import ConfigError
from labels4free.seeds import SeededRandom
from labels4free.settings_fields import build
from labels4free.training.segmenter.augmentation import augment as pair_augmentation
from labels4free.training.segmenter.augmentation.augment import Example, training_example
from labels4free.training.segmenter.augmentation.config import FRACTIONS, PairAugmentationConfig
from labels4free.training.segmenter.augmentation.placements import placement

pytestmark = pytest.mark.slow

ALL = PairAugmentationConfig(empty=0.0, **dict.fromkeys(set(FRACTIONS) - {"surroundings", "textures", "empty"}, 1.0))


def only(**on):
    return dataclasses.replace(OFF, **on)


def example(config, seed=0, index=0, pairs=None, **options):
    return training_example(pairs or Discs(), config, seed, index, **options)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# As a whole


def test_with_everything_off_it_is_a_pair_bit_for_bit():
    found = {next(k for k in range(8) if same(example(OFF, index=i), Discs()[k])) for i in range(30)}
    assert len(found) > 4


@pytest.mark.parametrize("config", [PairAugmentationConfig(), ALL], ids=["defaults", "all"])
@pytest.mark.parametrize("size", [32, 96])
def test_ranges(config, size):
    for index in range(6):
        image, alpha, weight = example(config, index=index, pairs=Discs(size=size))
        assert image.shape == (1, 3, size, size)
        assert alpha.shape == weight.shape == (1, 1, size, size)
        assert image.isfinite().all()
        assert image.abs().max() <= 1
        assert 0 <= alpha.min() <= alpha.max() <= 1 + 1e-6
        assert 0 <= weight.min() <= weight.max() <= 1 + 1e-6


def test_an_example_depends_on_seed_and_number_alone():
    again = [example(ALL, 3, index) for index in (5, 4, 5)]
    assert same(again[0], again[2])
    assert not same(again[0], again[1])
    assert not same(again[0], example(ALL, 4, 5))


@pytest.mark.parametrize("name", sorted(set(FRACTIONS) - {"surroundings", "textures", "pictures"}))
def test_each_change_can_be_made_alone(name):
    needs = {"defocus", "object_tone", "background_tone", "camouflage", "side_light", "occluders", "copy_paste"}
    base = only(background=1.0) if name in needs else OFF
    base = only(background=1.0, geometry=True) if name == "body_completion" else base
    base = only(background=1.0, geometry=True, body_completion=1.0) if name in {"garments", "arms"} else base
    one = dataclasses.replace(base, **{name: 1.0})
    given = white_disc(size=96, centre=(0.0, 0.7)) if name in {"garments", "arms"} else None  # it goes on below
    # A wall without pattern does not show that it is blurred.
    found = [[example(c, index=i, pairs=Discs(size=96), example=given) for c in (one, base)] for i in range(4)]
    assert any(not torch.equal(changed.image, plain.image) for changed, plain in found)


def test_an_empty_example_is_a_background_with_an_empty_mask():
    config = only(empty=1.0, textures=1.0)
    image, alpha, weight = example(config, pairs=Discs(size=96), index=3)
    assert image.shape == (1, 3, 96, 96)
    assert image.std() > 0.01
    assert alpha.shape == weight.shape == (1, 1, 96, 96)
    assert alpha.max() == 0
    assert weight.min() == 1
    photo = white_disc(size=96)
    assert same(example(config, example=photo), photo)  # a photo shows what it shows


def test_the_share_of_empty_examples_is_kept():
    empty = sum(float(example(only(empty=0.3), index=i).alpha.max()) == 0 for i in range(200))
    assert 40 <= empty <= 80


def test_switching_one_off_leaves_the_others_as_they_were():
    with_noise, without = (example(dataclasses.replace(ALL, jpeg=0.0, noise=n)) for n in (1.0, 0.0))
    assert torch.equal(with_noise.alpha, without.alpha)
    assert not torch.equal(with_noise.image, without.image)
    assert (with_noise.image - without.image).abs().mean() < 0.2


# Geometry


@pytest.mark.parametrize("index", range(12))
def test_alpha_moves_with_its_image(index):
    image, alpha, _ = example(only(geometry=True, mirror=0.5), index=index, example=white_disc(centre=(0.2, 0.1)))
    torch.testing.assert_close((image[:, :1] + 1) / 2, alpha, atol=1e-5, rtol=0)
    assert not torch.equal(alpha, disc(centre=(0.2, 0.1)))


def test_weights_move_too():
    alpha = disc()
    found = example(only(geometry=True), example=Example(alpha.expand(1, 3, -1, -1) * 2 - 1, alpha, alpha))
    torch.testing.assert_close(found.weight, found.alpha)


@pytest.mark.parametrize("replace", [False, True])
def test_objects_at_the_upper_edge_stay_there(replace):
    hanging = disc(radius=0.6, centre=(0.0, -0.6))
    places = [placement(SeededRandom(index), only(geometry=True), hanging, replace=replace) for index in range(100)]
    assert all(place.shift[1] - place.scale <= -1 + 1e-6 for place in places)  # where the picture begins
    assert min(place.scale for place in places) >= 0.6
    assert max(abs(place.angle) for place in places) <= math.radians(17 / 4)
    assert any(place.shift[1] - place.scale < -1 for place in places)  # some are cut off a little


def test_others_stand_on_the_lower_edge_or_near_it():
    places = [placement(SeededRandom(index), only(geometry=True), disc(), replace=True) for index in range(100)]
    small = [place for place in places if place.scale < 1]
    assert min(place.scale for place in small) < 0.5
    standing = [place.shift[1] + place.scale == pytest.approx(1) for place in small]
    assert 0.6 < sum(standing) / len(small) < 0.95


def test_scale_is_within_its_bounds():
    config = only(geometry=True, min_scale=0.5, max_scale=0.5, rotation=0.0, background=1.0)
    areas = {round(float(example(config, index=i, example=white_disc(radius=0.4)).alpha.sum())) for i in range(10)}
    whole = float(disc(radius=0.4).sum())
    assert all(area == pytest.approx(whole / 4, rel=0.1) for area in areas)


# Backgrounds


@pytest.mark.parametrize("kind", ["surroundings", "textures", "pictures", "procedural"])
def test_another_background_leaves_the_object(kind):
    config = only(background=1.0, **({kind: 1.0} if kind != "procedural" else {}))
    pictures = torch.zeros(3, 3, SIZE, SIZE) if kind == "pictures" else None
    for index in range(5):
        old = Discs()[index]
        image, alpha, _ = example(config, index=index, example=old, pictures=pictures)
        assert torch.equal(alpha, old.alpha)
        inside, outside = (alpha == 1).expand_as(image), (alpha == 0).expand_as(image)
        assert torch.equal(image[inside], old.image[inside])
        assert (image[outside] - old.image[outside]).abs().mean() > 0.05
        if pictures is not None:
            assert image[outside].abs().max() < 1e-6


def test_the_border_carries_nothing_of_the_old_background():
    """A white disc on black, laid on white: white everywhere, without a dark ring."""
    for size in (32, 96):  # a power of two, and another size
        image = example(
            only(background=1.0, pictures=1.0), example=white_disc(size=size), pictures=torch.ones(2, 3, size, size)
        ).image
        assert image.min() > 0.9  # solid is what has an alpha above 0.92


def test_surroundings_are_filled_in_where_the_object_was(monkeypatch):
    seen = []
    monkeypatch.setattr(
        pair_augmentation, "_anywhere", lambda background, random: seen.append(background) or background
    )

    class Black(Discs):
        def __getitem__(self, index):
            return white_disc(radius=0.5)

    example(only(background=1.0, surroundings=1.0), pairs=Black())
    assert seen[0].max() < -0.9


def test_a_pair_that_is_all_object_has_no_surroundings():
    class Full(Discs):
        def __getitem__(self, index):
            return white_disc(radius=2.0)

    image, alpha, _ = example(only(background=1.0, surroundings=1.0), pairs=Full(), example=white_disc())
    assert image[(alpha == 0).expand_as(image)].isfinite().all()


def test_camouflage_brings_the_background_near_the_object_alone():
    config = only(background=1.0, pictures=1.0)
    black = -torch.ones(1, 3, SIZE, SIZE)
    photo = white_disc(centre=(0.0, 0.3))
    for index in range(6):
        plain, near = (
            example(dataclasses.replace(config, camouflage=c), index=index, example=photo, pictures=black)
            for c in (0.0, 1.0)
        )
        inside, outside = (photo.alpha == 1).expand(1, 3, -1, -1), (photo.alpha == 0).expand(1, 3, -1, -1)
        assert torch.equal(near.alpha, plain.alpha)
        assert torch.equal(near.image[inside], plain.image[inside])
        assert plain.image[outside].max() < -0.99
        assert near.image[outside].min() > -1 + 0.4 * 2 - 1e-3  # at least 0.4 of the way from black to white


def test_camouflage_takes_the_colour_of_the_lower_end():
    red, blue = torch.zeros(2, 1, 3, 16, 16)
    red[:, 0], blue[:, 2] = 1, 1
    colours = torch.cat((red[..., :8, :], blue[..., 8:, :]), dim=2)
    mean = pair_augmentation._lower_colour(colours, torch.ones(1, 1, 16, 16)).flatten()
    top = sum((row / 15) ** 2 for row in range(8)) / sum((row / 15) ** 2 for row in range(16))
    torch.testing.assert_close(mean, torch.tensor([top, 0.0, 1 - top]))
    assert pair_augmentation._lower_colour(colours, torch.zeros(1, 1, 16, 16)).abs().max() == 0


def test_what_stands_before_the_object_is_part_of_it():
    changed = [example(only(occlusion=1.0), index=i, example=white_disc(radius=0.8)) for i in range(10)]
    assert all(torch.equal(x.alpha, disc(radius=0.8)) for x in changed)
    outside = (disc(radius=0.95) == 0).expand(1, 3, -1, -1)
    assert all((x.image[outside] + 1).abs().max() < 0.05 for x in changed)
    assert any(x.image[0, :, 12:20, 12:20].min() < 0.9 for x in changed)


def test_company_is_object_as_well():
    config = only(background=1.0)
    photo = white_disc(size=96, radius=0.3)
    alone = [example(config, index=i, example=photo, pairs=Discs(size=96)).alpha for i in range(8)]
    both = [
        example(dataclasses.replace(config, copy_paste=1.0), index=i, example=photo, pairs=Discs(size=96)).alpha
        for i in range(8)
    ]
    assert all((more >= one).all() for more, one in zip(both, alone, strict=True))
    assert sum(float(more.sum() / one.sum()) > 1.2 for more, one in zip(both, alone, strict=True)) > 4


# Settings


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"jpeg": 1.5}, r"augmentation.jpeg must lie in \[0, 1\], got 1.5"),
        ({"min_scale": 0.0}, "augmentation.min_scale must be above 0"),
        ({"min_scale": 2.0, "max_scale": 1.0}, "must satisfy 0 < min <= max <= 4, got 2.0 and 1.0"),
        ({"rotation": 181.0}, r"must lie in \[0, 180\] degrees, got 181"),
        ({"surroundings": 0.7, "textures": 0.7}, "must not exceed 1 together, got 0.7 and 0.7"),
        ({"geometry": 1}, "augmentation.geometry must be bool, got 1"),
    ],
)
def test_wrong_values_are_refused(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build(PairAugmentationConfig, values, "augmentation.")
