from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from labels4free.pictures.png import encode_colour_png


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 7, 3), (9, 1, 4), (40, 33, 3), (40, 33, 4)])
def test_pillow_reads_the_same_pixels(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    for pixels in (
        rng.integers(0, 256, shape, dtype=np.uint8),
        np.full(shape, 255, np.uint8),
        np.zeros(shape, np.uint8),
    ):
        data = encode_colour_png(pixels)
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert (image.format, image.mode) == ("PNG", "RGB" if shape[2] == 3 else "RGBA")
            assert np.array_equal(np.array(image), pixels)
        assert encode_colour_png(pixels) == data


def test_strides_do_not_matter() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert encode_colour_png(pixels[:, ::-1]) == encode_colour_png(pixels[:, ::-1].copy())
