from __future__ import annotations

import io
import re
import zipfile

import numpy as np
import pytest
from PIL import Image
from tests.data.pair_sets import layout, pair

from labels4free.data.names import PARTS
from labels4free.data.pairs.files import decode_latents, decode_part, encode_part, suffix_of
from labels4free.data.pairs.formats import open_pairs
from labels4free.data.pairs.record import Pair
from labels4free.errors import DataError


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_pillow_reads_what_is_written():
    one, settings = pair(1), layout()
    files = {part: encode_part(part, one, settings) for part in PARTS if part != "latents"}
    modes = {part: (opened(data).format, opened(data).mode) for part, data in files.items()}
    colour = dict.fromkeys(("image", "composite", "background"), ("PNG", "RGB"))
    assert modes == colour | {"alpha": ("PNG", "I;16"), "mask": ("PNG", "L"), "cutout": ("PNG", "RGBA")}
    assert set(np.unique(opened(files["mask"]).convert("L"))) == {0, 255}
    assert np.array_equal(opened(files["alpha"]), one.pictures["alpha"])
    assert opened(encode_part("alpha", pair(1, 8), layout(alpha_bits=8))).mode == "L"


@pytest.mark.parametrize(
    ("image_format", "endings"),
    [
        ("png", [".png", ".png", ".png", ".png", ".png", ".png", ".npz"]),
        ("jpeg", [".jpg", ".png", ".png", ".jpg", ".jpg", ".png", ".npz"]),
        ("webp", [".webp", ".png", ".png", ".webp", ".webp", ".webp", ".npz"]),
    ],
)
def test_endings(image_format, endings):
    settings = layout(image_format=image_format)
    assert [suffix_of(part, settings) for part in PARTS] == endings
    for part, ending in zip(PARTS, endings, strict=True):
        if ending != ".npz":
            data = encode_part(part, pair(1), settings)
            assert opened(data).format == {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}[ending]


def test_jpeg_keeps_colour_at_full_resolution():
    data = encode_part("image", pair(1), layout(image_format="jpeg", quality=95))
    frame = re.search(rb"\xff\xc0..\x08....\x03(.{9})", data, re.DOTALL)
    assert frame is not None
    assert [frame[1][3 * i + 1] for i in range(3)] == [0x11, 0x11, 0x11]  # sampling factors of Y, Cb, Cr
    small, large = (len(encode_part("image", pair(1), layout(image_format="jpeg", quality=q))) for q in (50, 100))
    assert small < len(data) < large


def test_webp_of_quality_100_loses_nothing():
    one = pair(1)
    for part in ("image", "cutout"):  # the cut-out's colours under transparency too
        data = encode_part(part, one, layout(image_format="webp", quality=100))
        assert np.array_equal(decode_part(part, data, "x"), one.pictures[part])
    lossy = encode_part("image", one, layout(image_format="webp", quality=90))
    assert not np.array_equal(decode_part("image", lossy, "x"), one.pictures["image"])


def test_views_of_arrays_are_written():
    turned = pair(1).pictures["image"][:, ::-1]
    data = encode_part("image", Pair(pair(1).record, {"image": turned}), layout())
    assert np.array_equal(decode_part("image", data, "x"), turned)


@pytest.mark.parametrize(
    ("values", "mode", "expected"),
    [
        ([[0, 255]], "L", [[0, 255]]),
        ([[0, 1]], "L", [[0, 255]]),  # a map of labels
        ([[0, 0]], "L", [[0, 0]]),
        ([[127, 128]], "L", [[0, 255]]),
        ([[1, 2]], "L", [[0, 0]]),
        ([[255, 0]], "1", [[255, 0]]),
        ([[0, 40000]], "I;16", [[0, 255]]),
        ([[[255, 255, 255], [0, 0, 0]]], "RGB", [[255, 0]]),
    ],
)
def test_masks_of_any_kind(tmp_path, values, mode, expected):
    kind = np.uint16 if mode == "I;16" else np.uint8
    image = Image.fromarray(np.array(values, dtype=kind))
    (image if image.mode == mode else image.convert(mode)).save(tmp_path / "mask.png")
    mask = decode_part("mask", tmp_path / "mask.png", "mask.png")
    assert mask.dtype == np.uint8
    assert mask.tolist() == expected


@pytest.mark.parametrize("part", ["image", "alpha", "mask", "cutout", "latents"])
def test_damage_names_the_file(part):
    data = encode_part(part, pair(1), layout())
    for broken in (b"", data[:60], b"nothing of the kind"):
        with pytest.raises(DataError, match=r"^a/b\.x cannot be read"):
            decode_latents(broken, "a/b.x") if part == "latents" else decode_part(part, broken, "a/b.x")


def test_latents_are_an_archive_of_numpy_without_times():
    data = encode_part("latents", pair(1), layout())
    with np.load(io.BytesIO(data)) as arrays:
        assert set(arrays.files) == {"ws", "background_ws"}
        assert np.array_equal(arrays["ws"], pair(1).latents["ws"])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    turned = Pair(pair(1).record, {}, dict(reversed(pair(1).latents.items())))
    assert encode_part("latents", turned, layout()) == data


def test_latents_that_are_none(tmp_path):
    np.savez(tmp_path / "doubles.npz", ws=np.zeros(3))
    with pytest.raises(DataError, match="holds ws as float64, expected was float32"):
        decode_latents(tmp_path / "doubles.npz", "doubles.npz")
    np.savez(tmp_path / "objects.npz", ws=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="cannot be read as latents"):
        decode_latents(tmp_path / "objects.npz", "objects.npz")
    with pytest.raises(DataError, match="There is no"):
        decode_latents(tmp_path / "none.npz", "none.npz")


def test_latents_that_would_fill_memory(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ws.npy", b"")
    data = bytearray((tmp_path / "bomb.npz").read_bytes())
    place = data.index(b"PK\x01\x02") + 24  # the directory's uncompressed size
    data[place : place + 4] = (2**31).to_bytes(4, "little")
    with pytest.raises(DataError, match="unpack to more than 1 GiB"):
        decode_latents(bytes(data), "bomb.npz")


def test_png_takes_the_run_length_strategy():
    """What the module says of size: flat masks pack better than by the default search at the same level."""
    mask = np.zeros((256, 256), np.uint8)
    mask[64:192, 32:224] = 255
    data = encode_part("mask", Pair(pair(1).record, {"mask": mask}), layout())
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, format="PNG", compress_level=1)
    assert len(data) < len(buffer.getvalue())
    assert decode_part("mask", data, "x").shape == (256, 256)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.pad(np.full((6, 6), 15, np.uint8), 3), "map of labels, with the values 0, 15"),
        (np.pad(np.full((6, 6), 300, np.uint16), 3), "map of labels, with the values 0, 300"),
    ],
)
def test_masks_that_are_maps_of_labels(tmp_path, pixels, words):
    (path := tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    Image.new("RGB", (12, 12)).save(path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "masks" / "a.png")
    with pytest.raises(DataError, match=rf"holds no readable pair, of 1\. .*{words}"):
        open_pairs(tmp_path)[0]
    for foreground, found in (((), pixels > 0), ((15, 300), pixels > 0), ((2,), pixels < 0)):
        mask = open_pairs(tmp_path, foreground)[0].pictures["mask"]
        assert mask.tolist() == np.where(found, 255, 0).tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_mask_of_0_and_1_is_read_and_a_faint_one_is_not(tmp_path, dtype):
    Image.fromarray(np.array([[0, 1, 1]], dtype)).save(tmp_path / "a.png")
    assert decode_part("mask", tmp_path / "a.png", "it").tolist() == [[0, 255, 255]]
    Image.fromarray(np.array([[0, 1, 2, 3, 4]], dtype)).save(tmp_path / "a.png")
    assert not decode_part("mask", tmp_path / "a.png", "it").any()
