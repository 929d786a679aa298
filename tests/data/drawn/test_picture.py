from __future__ import annotations

import numpy as np
import pytest
from tests.refusals import refuses

from labels4free.data.drawn.picture import KINDS, drawn_picture
from labels4free.data.pairs.record import component_sizes
from labels4free.errors import ConfigError

GOLDEN = {  # kind, seed, index: mean of alpha and of its middle row; mean colour, and that of two pixels
    ("vase", 0, 0): ([0.294083, 28.8125 / 64], [142.046, 132.665, 143.818], [153, 186, 217], [106, 105, 124]),
    ("vase", 7, 123456): ([0.243439, 21.6875 / 64], [108.159, 111.821, 103.59], [58, 92, 100], [61, 97, 100]),
    ("mushroom", 0, 0): ([0.385132, 20.1875 / 64], [170.913, 130.611, 115.898], [132, 67, 77], [241, 196, 204]),
    ("mushroom", 7, 123456): ([0.231674, 24.25 / 64], [150.138, 131.915, 94.392], [215, 200, 160], [139, 89, 66]),
}


@pytest.mark.parametrize(("kind", "seed", "index"), GOLDEN)
def test_pictures_stay_what_they_are(kind, seed, index):
    image, alpha = drawn_picture(seed, index, kind=kind)
    coverage, colour, on_object, behind = GOLDEN[kind, seed, index]
    # A sine may differ in its last bit elsewhere, and a point on the border then falls to the other side.
    assert [float(alpha.mean()), float(alpha[32].mean())] == pytest.approx(coverage, abs=1e-3)
    assert image.mean(axis=(0, 1)).tolist() == pytest.approx(colour, abs=0.1)
    assert image[20, 30].tolist() == pytest.approx(on_object, abs=1)
    assert image[3, 3].tolist() == pytest.approx(behind, abs=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_depends_on_its_number_alone(kind):
    forwards = [drawn_picture(3, index, 32, kind) for index in range(4)]
    backwards = [drawn_picture(3, index, 32, kind) for index in reversed(range(4))][::-1]
    for (image, alpha), (other_image, other_alpha) in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(image, other_image)
        np.testing.assert_array_equal(alpha, other_alpha)


def test_seed_number_and_kind_each_make_another_picture():
    alphas = [drawn_picture(*numbers)[1] for numbers in ((0, 0), (0, 1), (1, 0), (0, 0, 64, "mushroom"))]
    for number, alpha in enumerate(alphas):
        assert all(np.abs(alpha - other).mean() > 0.02 for other in alphas[:number])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [8, 30, 64, 100])
def test_types_sizes_and_values(kind, size):
    image, alpha = drawn_picture(0, 5, size, kind)
    assert (image.shape, image.dtype) == ((size, size, 3), np.uint8)
    assert (alpha.shape, alpha.dtype) == ((size, size), np.float32)
    assert image.flags.c_contiguous
    assert alpha.min() == 0
    assert alpha.max() == 1
    np.testing.assert_array_equal(alpha * 16, np.rint(alpha * 16))  # sixteenths: of four by four points


@pytest.mark.parametrize("kind", KINDS)
def test_alpha_of_a_smaller_size_is_the_mean_over_boxes(kind):
    for index in range(6):
        _, fine = drawn_picture(0, index, 128, kind, oversampling=2)
        image, alpha = drawn_picture(0, index, 32, kind, oversampling=8)
        np.testing.assert_array_equal(alpha, fine.reshape(32, 4, 32, 4).mean(axis=(1, 3)))
        other_image = drawn_picture(0, index, 128, kind, oversampling=2)[0].reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
        assert np.abs(image - other_image).max() <= 1  # of 255: the larger one is rounded first


@pytest.mark.parametrize("kind", KINDS)
def test_alpha_comes_close_to_the_true_coverage(kind):
    for index in range(4):
        alpha, finer = (drawn_picture(0, index, 32, kind, oversampling)[1] for oversampling in (4, 24))
        assert np.abs(alpha - finer).max() < 0.15
        assert np.abs(alpha - finer).mean() < 0.004


@pytest.mark.parametrize("kind", KINDS)
def test_the_image_changes_where_alpha_says_so(kind, monkeypatch):
    """Without the object's colours the picture is the same where alpha is 0, and lacks alpha times them elsewhere."""
    from labels4free.data.drawn import picture

    with_object, alpha = drawn_picture(0, 3, kind=kind)
    paint = picture.paint

    def black(*arguments):
        colours, coverage, inside = paint(*arguments)
        return np.zeros_like(colours), coverage, inside

    monkeypatch.setattr(picture, "paint", black)
    hole, same_alpha = drawn_picture(0, 3, kind=kind)
    np.testing.assert_array_equal(alpha, same_alpha)
    changed = (with_object != hole).any(axis=2)
    assert not changed[alpha == 0].any()
    assert changed[alpha == 1].mean() > 0.99
    assert not hole[alpha == 1].any()


@pytest.mark.parametrize("kind", KINDS)
def test_objects_are_whole_in_one_piece_and_of_a_moderate_size(kind):
    ratios = []
    for index in range(60):
        _, alpha = drawn_picture(2, index, kind=kind)
        mask = alpha > 0.5
        assert not any(edge.any() for edge in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]))
        assert len(component_sizes(mask)) == 1
        ratios.append(mask.mean())
    assert 0.15 < min(ratios) < 0.25 < np.mean(ratios) < 0.36 < max(ratios) < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_no_fixed_mask_is_good(kind):
    masks = np.stack([drawn_picture(4, index, 32, kind, oversampling=2)[1] for index in range(100)]) > 0.5
    fixed = masks.mean(axis=0) > 0.5
    ious = [(masks & fixed).sum() / (masks | fixed).sum(), (~masks & ~fixed).sum() / (~masks | ~fixed).sum()]
    assert np.mean(ious) < 0.78


@pytest.mark.parametrize("kind", KINDS)
def test_colours_of_object_and_background_overlap(kind):
    """A pixel's colour alone tells little: histograms of 64 colours, over 100 pictures, share most of their mass."""
    inside, outside = np.zeros(64), np.zeros(64)
    for index in range(100):
        image, alpha = drawn_picture(5, index, 32, kind, oversampling=2)
        colours = (image // 64).astype(int) @ [16, 4, 1]
        inside += np.bincount(colours[alpha == 1], minlength=64)
        outside += np.bincount(colours[alpha == 0], minlength=64)
    assert np.minimum(inside / inside.sum(), outside / outside.sum()).sum() > 0.6


@pytest.mark.parametrize(
    ("said", "arguments"),
    [
        ('no drawn class "cat": choose one of vase, mushroom', {"kind": "cat"}),
        ("size of at least 8.*got 7 and 4", {"size": 7}),
        ("even oversampling.*got 64 and 3", {"oversampling": 3}),
        ("even oversampling.*got 64 and 0", {"oversampling": 0}),
        ("at most 8192; got 4096 and 4", {"size": 4096}),
        ("not negative, got -1 and 0", {"seed": -1}),
        ("not negative, got 0 and -2", {"index": -2}),
    ],
)
def test_bad_arguments_are_refused(said, arguments):
    refuses(ConfigError, said, lambda: drawn_picture(**({"seed": 0, "index": 0} | arguments)))
