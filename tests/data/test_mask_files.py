from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tests.data.picture_files import cut, noise_png, png16

from labels4free.data.mask_files import is_hard, mask_size, read_mask, resize_mask
from labels4free.errors import DataError

GREY = np.array([[0, 255, 128], [255, 0, 51]], np.uint8)


def rgba(*pixels):
    return np.array([pixels], np.uint8)


def saved(path, image, **options):
    image.save(path, **options)
    return path


def test_grey_values_are_shares_of_the_largest(tmp_path):
    mask = read_mask(saved(tmp_path / "a.png", Image.fromarray(GREY)))
    assert mask.alpha.dtype == np.float32
    assert mask.alpha == pytest.approx(GREY / 255)
    assert mask.labels.tolist() == GREY.tolist()
    assert not mask.is_hard()


@pytest.mark.parametrize("mode", ["RGB", "P", "LA", "RGBA", "CMYK"])
def test_other_modes_of_the_same_mask(tmp_path, mode):
    image = Image.fromarray(GREY)
    image = image.convert("RGB").convert(mode) if mode == "CMYK" else image.convert(mode)
    mask = read_mask(saved(tmp_path / ("a.tiff" if mode == "CMYK" else "a.png"), image))
    assert mask.labels.tolist() == GREY.tolist()
    assert mask.alpha == pytest.approx(GREY / 255)


@pytest.mark.parametrize(
    ("pixels", "labels"),
    [
        (GREY > 127, [[0, 255, 255], [255, 0, 0]]),  # one bit
        (np.array([[0, 65535, 32768]], np.uint16), [[0, 255, 128]]),
        # White and grey with transparency lie on black.
        (rgba((255, 255, 255, 255), (255, 255, 255, 0), (255, 255, 255, 51), (0, 0, 0, 255)), [[255, 0, 51, 0]]),
        # Hidden colours do not make a cut-out ...
        (rgba((255, 255, 255, 255), (255, 0, 0, 0), (0, 0, 0, 255)), [[255, 0, 0]]),
        # ... of which the transparency is the mask.
        (rgba((200, 90, 30, 255), (10, 40, 160, 128), (7, 7, 7, 0)), [[255, 128, 0]]),
    ],
)
def test_what_is_white_is_the_object(tmp_path, pixels, labels):
    mask = read_mask(saved(tmp_path / "a.png", Image.fromarray(pixels)))
    assert mask.labels.tolist() == labels
    exact = pixels / 65535 if pixels.dtype == np.uint16 else np.array(labels) / 255
    assert mask.alpha == pytest.approx(exact)
    assert mask.is_hard() == np.isin(labels, (0, 255)).all()


def test_16_bits_of_a_png(tmp_path):
    assert read_mask(png16(tmp_path / "b.png", 0, [65535])).alpha.tolist() == [[1]]


def test_floats(tmp_path):
    good = Image.fromarray(np.array([[0, 0.25, 1]], np.float32))
    assert read_mask(saved(tmp_path / "a.tiff", good)).alpha.tolist() == [[0, 0.25, 1]]
    for wrong in (2.0, -0.1, float("nan")):
        path = saved(tmp_path / "b.tiff", Image.fromarray(np.array([[0, wrong]], np.float32)))
        with pytest.raises(DataError, match=r"b\.tiff .* floats (from \S+ to \S+, expected|that are no numbers)"):
            read_mask(path)


def test_a_palette_with_colours_is_a_map_of_labels(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2, 255]], np.uint8), "L").convert("P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0, 0, 0] * 252 + [224, 224, 192])
    mask = read_mask(saved(tmp_path / "a.png", image))
    assert mask.alpha.tolist() == [[0, 1, 1, 1]]
    assert mask.labels.tolist() == [[0, 1, 2, 255]]


def test_a_palette_of_greys_is_grey(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([255, 255, 255, 0, 0, 0, 255, 0, 0])  # the colour is not used
    assert read_mask(saved(tmp_path / "a.png", image)).labels.tolist() == [[255, 0]]


def areas(*values, dtype=np.uint8):
    """Plain squares of values side by side on black, as a map of labels has them."""
    pixels = np.zeros((24, 4 + 12 * len(values)), dtype)
    for number, value in enumerate(values):
        pixels[4:20, 4 + 12 * number : 14 + 12 * number] = value
    return pixels


def hazy(most):
    """Faint shades that fade out, as a network leaves them where nothing is."""
    y, x = np.mgrid[0:48, 0:48]
    return (most * np.exp(-((x - 24) ** 2 + (y - 24) ** 2) / 200)).round().astype(np.uint8)


def soft_disc(border=3):
    y, x = np.mgrid[0:48, 0:48]
    return (((16 - np.hypot(x - 24, y - 24)) / border).clip(0, 1) * 255).astype(np.uint8)


LABELS = {
    "an id": (areas(2), "0, 2"),
    "a large id": (areas(15), "0, 15"),
    "a class and void": (areas(15, 255), "0, 15, 255"),
    "classes and void": (areas(1, 2, 15, 255), "0, 1, 2, 15, 255"),
    "colours made grey": (areas(38, 75, 113), "0, 38, 75, 113"),
    "a trimap": (areas(128, 255), "0, 128, 255"),
    "one id everywhere": (np.full((9, 9), 7, np.uint8), "7"),
    "many": (areas(*range(1, 41, 2)), r"0, 1, 3, 5, 7, 9, 11, 13 and 13 more"),
    "16 bits": (areas(1000, 26001, dtype=np.uint16), "0, 1000, 26001"),
    "white of 8 bits in 16": (areas(255, dtype=np.uint16), "0, 255"),
    "32 bits": (areas(3, 300, dtype=np.int32), "0, 3, 300"),
}
MASKS = {
    "black and white": areas(255),
    "nothing": areas(0),
    "everything": np.full((9, 9), 255, np.uint8),
    "soft": soft_disc(),
    "a haze": hazy(5),
    "a faint haze": hazy(2),
    "a haze and an object": np.maximum(hazy(6), soft_disc()),
    "half everywhere": np.full((9, 9), 200, np.uint8),
    "almost white": areas(252),
    "8 bits in 32": areas(255, dtype=np.int32),
    "shades enlarged": np.kron(soft_disc(6), np.ones((6, 6), np.uint8)),
}


@pytest.mark.parametrize("what", LABELS)
def test_maps_of_labels_are_refused_by_their_values(tmp_path, what):
    pixels, named = LABELS[what]
    path = saved(tmp_path / "a.tiff", Image.fromarray(pixels))
    with pytest.raises(
        DataError, match=rf"a\.tiff is no mask: it is a map of labels, with the values {named}; say which"
    ):
        read_mask(path)
    others = read_mask(path, foreground=(), only_labels=True)
    assert others.alpha.tolist() == (pixels != 0).astype(int).tolist()
    assert others.labels.tolist() == pixels.tolist()
    value = int(pixels.max())
    for only_labels in (False, True):
        found = read_mask(path, foreground=(value, 77), only_labels=only_labels)
        assert found.alpha.tolist() == (pixels == value).astype(int).tolist()


@pytest.mark.parametrize("what", MASKS)
def test_shades_are_no_labels(tmp_path, what):
    path = saved(tmp_path / "a.tiff", Image.fromarray(MASKS[what]))
    np.testing.assert_allclose(read_mask(path).alpha, MASKS[what] / 255, atol=1e-6)
    if "haze" not in what:
        given = read_mask(path, foreground=(3,), only_labels=True)
        np.testing.assert_allclose(given.alpha, MASKS[what] / 255, atol=1e-6)


def test_what_cannot_be_told_from_shades_is_labels_where_labels_are_given(tmp_path):
    for pixels in (areas(1), areas(1, 2), hazy(2)):
        path = saved(tmp_path / "a.png", Image.fromarray(pixels))
        assert read_mask(path, foreground=(1,), only_labels=True).alpha.tolist() == (pixels == 1).tolist()


def test_labels_of_a_palette_and_of_numbers_beyond_all_depths(tmp_path):
    coloured = Image.fromarray(areas(1, 2, 255), "L").convert("P")
    coloured.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0, 0, 0] * 252 + [224, 224, 192])
    path = saved(tmp_path / "a.png", coloured)
    assert read_mask(path, foreground=(2,)).alpha.tolist() == (areas(1, 2, 255) == 2).tolist()
    assert read_mask(path, foreground=(2,), only_labels=True).alpha.tolist() == (areas(1, 2, 255) == 2).tolist()
    ids = areas(70_000, -1, dtype=np.int32)
    path = saved(tmp_path / "a.tiff", Image.fromarray(ids))
    assert read_mask(path, foreground=(70_000,)).alpha.tolist() == (ids == 70_000).tolist()


def test_what_does_not_count_is_no_label(tmp_path):
    path = saved(tmp_path / "a.png", Image.fromarray(areas(128, 255)))
    assert read_mask(path, void=128).labels.tolist() == areas(128, 255).tolist()


def test_an_open_picture(tmp_path):
    assert read_mask(Image.fromarray(areas(255))).labels.tolist() == areas(255).tolist()
    noise_png(tmp_path / "cut.png")
    cut(tmp_path / "cut.png")
    with (
        Image.open(tmp_path / "cut.png") as half,
        pytest.raises(DataError, match=r"^The mask cannot be read as an image \(.{,60}\)\.$"),
    ):
        read_mask(half)


def test_a_picture_is_refused(tmp_path):
    noise_png(tmp_path / "photo.png")
    with pytest.raises(DataError, match=r"photo\.png is no mask: 9\d% of its pixels are coloured; give masks that are"):
        read_mask(tmp_path / "photo.png")
    opaque = Image.open(tmp_path / "photo.png").convert("RGBA")  # no cut-out: nothing is cut
    with pytest.raises(DataError, match=r"opaque\.png is no mask"):
        read_mask(saved(tmp_path / "opaque.png", opaque))


def test_a_little_colour_is_forgiven(tmp_path):
    pixels = np.full((20, 20, 3), 255, np.uint8)
    pixels[0, 0] = (255, 0, 0)
    pixels[5:] = (250, 255, 230)  # what a JPEG makes of white
    assert (read_mask(saved(tmp_path / "a.png", Image.fromarray(pixels))).alpha > 0.9).sum() == 399


def test_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    path = saved(tmp_path / "a.png", Image.fromarray(GREY), exif=exif)
    assert read_mask(path).labels.tolist() == np.rot90(GREY, -1).tolist()
    assert mask_size(path) == (3, 2)
    assert mask_size(saved(tmp_path / "b.png", Image.fromarray(GREY))) == (2, 3)


def test_files_that_are_no_masks(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    noise_png(tmp_path / "cut.png")
    cut(tmp_path / "cut.png")
    for name, words in (("text", "format is unknown"), ("cut", "truncated|cut"), ("none", "There is no image at")):
        with pytest.raises(DataError, match=words):
            read_mask(tmp_path / f"{name}.png")


@pytest.mark.slow
def test_beyond_the_limit_of_pixels(tmp_path):
    path = saved(tmp_path / "huge.png", Image.new("1", (20_000, 20_000)))
    for read in (read_mask, mask_size):
        with pytest.raises(DataError, match=r"huge\.png has more pixels than Pillow's limit"):
            read(path)


def test_hard_masks_stay_hard_when_resized():
    hard = np.array([[0, 1], [1, 0]], np.float32)
    assert resize_mask(hard, 4, 4).tolist() == np.kron(hard, np.ones((2, 2))).tolist()
    assert resize_mask(hard, 2, 2) is hard
    soft = np.array([[0.2, 0.8]], np.float32)
    resized = resize_mask(soft, 1, 4)
    assert resized.shape == (1, 4)
    assert resized[0].tolist() == pytest.approx([0.2, 0.35, 0.65, 0.8])
    assert not is_hard(resized)
