from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image
from tests.chain.tiny_chain import write_photos
from tests.refusals import refuses

from labels4free.chain.photos import open_photos_of_class
from labels4free.data.images.dataset import shorter_sides
from labels4free.errors import ConfigError, DataError
from labels4free.training.generator.recipe import FEWEST_PHOTOS

if TYPE_CHECKING:
    from pathlib import Path


def test_opens_what_will_do(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos")
    (photos / "broken.png").write_bytes(b"no image")
    store = open_photos_of_class(photos, 32)
    assert (len(store), store.resolution) == (24, 32)
    assert shorter_sides(store.source, 500) == [32] * 24


def test_refuses_too_few(tmp_path: Path) -> None:
    for count in (1, FEWEST_PHOTOS - 1):
        photos = write_photos(tmp_path / str(count), count)
        refuses(DataError, f"has {count} image.*no fewer than {FEWEST_PHOTOS}", open_photos_of_class, photos, 16)
    (photos / "broken.png").write_bytes(b"no image")
    refuses(DataError, "has 19 images that can be read, and 1 that cannot", open_photos_of_class, photos, 16)


def test_refuses_what_holds_no_photo(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refuses(DataError, "holds no readable image", open_photos_of_class, tmp_path / "empty", 16)
    refuses(DataError, "does not exist", open_photos_of_class, tmp_path / "nowhere", 16)
    (tmp_path / "empty" / "a.png").write_bytes(b"no image")
    refuses(DataError, "the 1 image files in it are damaged", open_photos_of_class, tmp_path / "empty", 16)


@pytest.mark.parametrize(("small", "refused"), [(11, False), (13, True)])
def test_refuses_a_resolution_that_most_photos_do_not_have(tmp_path: Path, small: int, refused: bool) -> None:
    photos = write_photos(tmp_path / "photos", size=(80, 70))
    for index in range(small):
        Image.new("RGB", (60, 40 + index)).save(photos / f"{index:03d}.png")
    if not refused:
        assert len(open_photos_of_class(photos, 64)) == 24
        return
    said = "resolution of 64 is larger than 13 of the 24 photos.* 5. pixels in the middle of them.: choose at most 32"
    refuses(ConfigError, said, open_photos_of_class, photos, 64)
