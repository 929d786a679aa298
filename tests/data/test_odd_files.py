"""Files with odd things beside fine pixels, and with more than 8 bits: the same through every door."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin
from tests.data.picture_files import png_chunk as chunk
from tests.data.picture_files import png_of_rows

from labels4free.data.decoding import decode_image
from labels4free.data.images.prepare import PrepareConfig, prepare_images
from labels4free.data.mask_files import mask_size, read_mask
from labels4free.data.pairs.files import decode_part
from labels4free.errors import DataError
from labels4free.segmenting.cutout import read_background
from labels4free.segmenting.photo import read_photo

STORED = np.zeros((6, 4), np.uint8)
STORED[:3] = 255  # the upper half is white
TURNED = np.rot90(STORED, -1)  # as orientation 6 wants it
ORIENTATION = (0x0112, 3, 1, struct.pack("<HH", 6, 0))


def exif(*entries):
    """A block of EXIF: (tag, type, count, four bytes) each."""
    rows = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + bytes(4)


def png(*chunks, at_end=False):
    buffer = io.BytesIO()
    Image.fromarray(STORED).convert("RGB").save(buffer, "PNG")
    data, added = buffer.getvalue(), b"".join(chunks)
    return data[:-12] + added + data[-12:] if at_end else data[:33] + added + data[33:]


def file_with_exif(kind, block):
    buffer = io.BytesIO()
    Image.fromarray(STORED).convert("RGB").save(buffer, kind, exif=block, quality=100, lossless=True)
    return buffer.getvalue()


LONG_TEXT = zlib.compress(b"{...}" * 400_000)
BESIDE = {
    "a garbled EXIF block": chunk(b"eXIf", b"garbage"),
    "a text of 2 MB": chunk(b"zTXt", b"workflow\0\0" + LONG_TEXT),
    "a text of 2 MB in Unicode": chunk(b"iTXt", b"workflow\0\1\0\0\0" + LONG_TEXT),
    "a colour profile of 2 MB": chunk(b"iCCP", b"icc\0\0" + LONG_TEXT),
    "a colour profile that cannot be unpacked": chunk(b"iCCP", b"icc\0\1abc"),
    "a colour profile without an end": chunk(b"iCCP", b"icc"),
    "a text packed by an unknown method": chunk(b"zTXt", b"a\0\7abc"),
    "a text with a wrong checksum": chunk(b"tEXt", b"a\0b")[:-4] + bytes(4),
    "an EXIF block with a wrong checksum": chunk(b"eXIf", exif(ORIENTATION))[:-4] + bytes(4),
    "an empty gamma": chunk(b"gAMA", b""),
    "a resolution cut off": chunk(b"pHYs", b"\0"),
    "a profile of EXIF that is no number": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 2\nzz"),
}
TAGS = {
    "ASCII for a resolution": (0x011A, 2, 4, b"abc\0"),
    "a float for the maker": (0x010F, 11, 1, struct.pack("<f", 1)),
    "a type that there is not": (0x010F, 99, 1, bytes(4)),
    "a text far beyond the end": (0x010F, 2, 5000, struct.pack("<I", 99999)),
    "more numbers than memory": (0x010F, 3, 0xFFFFFFF0, struct.pack("<I", 8)),
    "a directory that is its own": (0x8769, 4, 1, struct.pack("<I", 8)),
}
ODD_ORIENTATIONS = {
    "a long": (0x0112, 4, 1, struct.pack("<I", 6)),
    "a byte": (0x0112, 1, 1, b"\6\0\0\0"),
    "a text": (0x0112, 2, 2, b"6\0\0\0"),
    "two": (0x0112, 3, 2, struct.pack("<HH", 6, 6)),
}


def seen_by_all(path):
    """The grey pixels of a file, which every reader must agree on."""
    data = path.read_bytes()
    grey = decode_image(data)[..., 0]
    for other in (
        decode_image(path)[..., 0],
        read_photo(path).pixels[..., 0],
        read_photo(data).pixels[..., 0],
        read_mask(path).labels,
        decode_part("image", path, "it")[..., 0],
        decode_part("mask", path, "it"),
        decode_part("alpha", data, "it"),
        decode_part("cutout", path, "it")[..., 0],
        np.asarray(read_background(str(path)))[..., 0],
    ):
        np.testing.assert_array_equal(other, grey)
    assert mask_size(path) == grey.shape
    return grey


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("what", BESIDE)
def test_what_stands_beside_the_pixels_does_not_matter(tmp_path, what, at_end):
    path = tmp_path / "a.png"
    path.write_bytes(png(BESIDE[what], at_end=at_end))
    np.testing.assert_array_equal(seen_by_all(path), STORED)


@pytest.mark.parametrize("what", [what for what in BESIDE if "EXIF" not in what])
def test_nor_does_it_hide_the_orientation(tmp_path, what):
    path = tmp_path / "a.png"
    path.write_bytes(png(BESIDE[what], chunk(b"eXIf", exif(ORIENTATION))))
    np.testing.assert_array_equal(seen_by_all(path), TURNED)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("what", TAGS)
def test_odd_tags_beside_an_orientation(tmp_path, kind, what):
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(file_with_exif(kind, b"Exif\0\0" + exif(TAGS[what], ORIENTATION)))
    np.testing.assert_array_equal(seen_by_all(path), TURNED)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_a_garbled_block_leaves_the_picture_as_it_lies(tmp_path, kind):
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(file_with_exif(kind, b"Exif\0\0garbage that is no TIFF"))
    np.testing.assert_array_equal(seen_by_all(path), STORED)


@pytest.mark.parametrize("what", ODD_ORIENTATIONS)
def test_an_orientation_of_an_odd_type(tmp_path, what):
    path = tmp_path / "a.png"
    path.write_bytes(png(chunk(b"eXIf", exif(ODD_ORIENTATIONS[what]))))
    np.testing.assert_array_equal(seen_by_all(path), TURNED)


def test_orientations_in_texts_and_in_tiff(tmp_path):
    packet = chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>')
    block = exif(ORIENTATION)
    hexadecimal = f"\nexif\n{len(block) + 6}\n{(b'Exif' + bytes(2) + block).hex()}\n".encode()
    profile = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(hexadecimal))
    for number, data in enumerate((packet, profile)):
        (tmp_path / f"{number}.png").write_bytes(png(chunk(b"tEXt", b"Software\0x"), data))
        np.testing.assert_array_equal(seen_by_all(tmp_path / f"{number}.png"), TURNED)
    Image.fromarray(STORED).save(tmp_path / "a.tif", tiffinfo={0x0112: 6})
    np.testing.assert_array_equal(seen_by_all(tmp_path / "a.tif"), TURNED)
    odd = TiffImagePlugin.ImageFileDirectory_v2()
    odd.tagtype.update({700: 11, 0x0112: 3})  # the packet of XMP, as a float
    odd.update({700: 1.5, 0x0112: 6})
    Image.fromarray(STORED).save(tmp_path / "b.tif", tiffinfo=odd)
    np.testing.assert_array_equal(seen_by_all(tmp_path / "b.tif"), TURNED)


def test_prepare_reads_them_too(tmp_path):
    (tmp_path / "in").mkdir()
    for number, data in enumerate(BESIDE.values()):
        (tmp_path / "in" / f"{number}.png").write_bytes(png(data))
    config = PrepareConfig(sizes=(4,), format="folder", encoding="png", workers=1)
    summary = prepare_images(tmp_path / "in", tmp_path / "out", config)
    assert (summary.images, summary.skipped) == (len(BESIDE), {})


def test_a_colour_profile_that_can_be_read_is_kept():
    profile = chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"profile"))
    assert read_photo(png(chunk(b"tEXt", b"a\0b"), profile)).icc_profile == b"profile"


SHARES = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
DEPTHS = {
    "16 bits": (SHARES * 65535).round().astype(np.uint16),
    "32 bits, of 16": (SHARES * 65535).round().astype(np.int32),
    "32 bits, of 8": (SHARES * 255).round().astype(np.int32),
    "floats": SHARES,
}
TOO_DEEP = {
    "beyond 16 bits": (np.array([[0, 70_000]], np.int32), "numbers from 0 to 70000, expected 0 to 65535"),
    "negative": (np.array([[-3, 255]], np.int32), "numbers from -3 to 255, expected 0 to 65535"),
    "floats of 8 bits": (np.array([[0, 200]], np.float32), "floats from 0 to 200, expected 0 to 1"),
    "negative floats": (np.array([[-0.5, 1]], np.float32), r"floats from -0\.5 to 1, expected 0 to 1"),
    "no number": (np.array([[np.nan, 1]], np.float32), "floats that are no numbers"),
    "infinite": (np.array([[0, np.inf]], np.float32), "floats from 0 to inf"),
}


@pytest.mark.parametrize("what", DEPTHS)
def test_greys_of_any_depth_are_shares_of_the_largest(tmp_path, what):
    path = tmp_path / "a.tif"
    Image.fromarray(DEPTHS[what]).save(path)
    expected = (SHARES * 255).round().astype(np.uint8)
    np.testing.assert_array_equal(decode_image(path), np.repeat(expected[..., None], 3, axis=2))
    np.testing.assert_array_equal(read_photo(path).pixels[..., 0], expected)
    np.testing.assert_array_equal(read_photo(Image.open(path)).pixels[..., 0], expected)
    np.testing.assert_array_equal(decode_part("cutout", path, "it")[..., 0], expected)
    np.testing.assert_allclose(read_mask(path).alpha, SHARES, atol=0.5 / 255)
    np.testing.assert_allclose(decode_part("alpha", path, "it") / 65535, SHARES, atol=0.5 / 255)


@pytest.mark.parametrize("what", TOO_DEEP)
def test_values_that_the_rule_does_not_know_are_refused(tmp_path, what):
    values, words = TOO_DEEP[what]
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path)
    readers = (
        decode_image,
        read_photo,
        read_mask,
        lambda p: decode_part("alpha", p, "it"),
        lambda p: read_background(str(p)),
    )
    for read in readers:
        with pytest.raises(DataError, match=words):
            read(path)


def test_a_picture_that_would_be_black_is_refused(tmp_path):
    """8 bits in a file of 16; a mask may be as faint."""
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 100, 200]], np.uint16)).save(path)
    for read in (decode_image, read_photo):
        with pytest.raises(DataError, match="reach only to a 257th of the largest, which is black"):
            read(path)
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(path)
    assert not decode_image(path).any()


TRANSPARENT = {
    "1 bit": (1, 0, b"\x40", [1], [0, 255]),
    "2 bits": (2, 0, b"\x60", [2], [85, 170]),
    "4 bits": (4, 0, b"\x35", [5], [51, 85]),
    "8 bits": (8, 0, b"\x05\x07", [7], [5, 7]),
    "16 bits": (16, 0, struct.pack(">2H", 0x1000, 0x8080), [0x8080], [16, 128]),
    "colours": (8, 2, bytes([1, 1, 1, 9, 9, 9]), [9, 9, 9], [1, 9]),
    "colours of 16 bits": (16, 2, struct.pack(">6H", *[0x1000] * 3, *[0x8080] * 3), [0x8080] * 3, [16, 128]),
}


@pytest.mark.parametrize("what", TRANSPARENT)
def test_one_transparent_value_of_any_depth(tmp_path, what):
    depth, kind, row, value, greys = TRANSPARENT[what]
    plain, path = tmp_path / "plain.png", tmp_path / "a.png"
    plain.write_bytes(png_of_rows(2, [row], depth, kind))
    path.write_bytes(png_of_rows(2, [row], depth, kind, chunk(b"tRNS", struct.pack(f">{len(value)}H", *value))))
    assert decode_image(plain)[0, :, 0].tolist() == greys
    assert decode_image(path)[0, :, 0].tolist() == [greys[0], 255]
    photo = read_photo(path)
    assert photo.opacity is not None
    assert photo.opacity.tolist() == [[255, 0]]
    assert photo.pixels[0, :, 0].tolist() == [greys[0], 255]


@pytest.mark.parametrize("depth", [4, 8, 16])
def test_what_cannot_be_seen_of_a_mask_is_background(depth):
    white = (1 << depth) - 1
    row = {4: b"\xf0", 8: b"\xff\0", 16: b"\xff\xff\0\0"}[depth]
    clear = chunk(b"tRNS", struct.pack(">H", white))
    assert read_mask(png_of_rows(2, [row], depth, 0)).alpha.tolist() == [[1, 0]]
    assert read_mask(png_of_rows(2, [row], depth, 0, clear)).alpha.tolist() == [[0, 0]]
