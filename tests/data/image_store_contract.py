"""What every reader and every writer of images must do; what only one does is in that one's test."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest
import torch
from tests.data.picture_files import jpeg, pixels_in_another_process, store_content

from labels4free.data.images.base import JOURNAL, MANIFEST, StoreLayout, check_finished
from labels4free.data.images.dataset import open_images, open_source
from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from labels4free.data.images.base import ImageSource, ImageWriter

FINISHED = b'{"kind": "labels4free_images", "settings": {"sizes": [8, 16]}}'


class ImageSourceContract:
    """A subclass says which reader it is, and how others come to write such stores."""

    source: type[ImageSource]
    nothing: str
    """What is said of a store without images."""

    def store(self, path: Path, images: Sequence[bytes]) -> Path:
        """A store of these files, which need not be images; images have 8 pixels a side."""
        raise NotImplementedError

    def test_it_is_recognised_and_read_in_order(self, tmp_path):
        images = [jpeg(i) for i in range(12)]
        source = open_source(str(self.store(tmp_path / "x", images)))
        assert type(source) is self.source
        assert [source.read(i) for i in range(12)] == images
        assert "11" in source.label(11)
        assert source.skipped == {}

    def test_a_fingerprint_tells_stores_apart(self, tmp_path):
        first, second = (self.store(tmp_path / str(n), [jpeg(0), jpeg(0, 8 * n)]) for n in (1, 20))
        prints = [open_source(path).content_hash() for path in (first, first, second)]
        assert prints[0] == prints[1] != prints[2]
        assert len(prints[0]) == 64

    def test_other_processes_read_it_too(self, tmp_path):
        store = open_images(self.store(tmp_path / "x", [jpeg(0), jpeg(1)]), 8, cache_bytes=0)
        first = store[0]
        assert torch.equal(pixels_in_another_process(store), first)
        assert torch.equal(store[0], first)  # the child's end has not closed ours
        assert torch.equal(pickle.loads(pickle.dumps(store))[0], first)

    def test_the_next_image_serves_for_a_damaged_one(self, tmp_path):
        store = open_images(self.store(tmp_path / "x", [jpeg(0), jpeg(1, 64)[:-500], jpeg(2)]), 8)
        assert torch.equal(store[1], store[2])
        assert torch.equal(store[0], open_images(tmp_path / "x", 8)[0])
        (reason,) = store.skipped.values()
        assert "cannot be read as an image" in reason

    def test_a_store_without_images(self, tmp_path):
        with pytest.raises(DataError, match=self.nothing):
            open_images(self.store(tmp_path / "x", []), 8)


class ImageStoreContract(ImageSourceContract):
    """A subclass says which writer it is, too; stores are its own unless it says otherwise."""

    writer: type[ImageWriter]

    def store(self, path, images):
        return self.write(path, StoreLayout((8,), ".jpg", 5), [[image] for image in images])

    def write(self, path: Path, layout: StoreLayout, images: Sequence[Sequence[bytes]], parts=()) -> Path:
        """Write in several goes, each but the last with an image behind its end, which is lost."""
        written = offset = 0
        for part in parts:
            writer = self.writer(path, layout, written, offset)
            for encoded in images[written : written + part]:
                writer.add(encoded)
            written, offset = written + part, writer.commit()
            if written < len(images):
                writer.add([jpeg(99, size) for size in layout.sizes])
            writer.close()
        writer = self.writer(path, layout, written, offset)
        for encoded in images[written:]:
            writer.add(encoded)
        writer.commit()
        writer.finish(FINISHED.replace(b"8, 16", b", ".join(b"%d" % size for size in layout.sizes)))
        writer.close()
        return path

    @pytest.mark.parametrize("sizes", [(8,), (8, 16)])
    def test_what_is_written_is_read_back(self, tmp_path, sizes):
        self.write(tmp_path / "x", StoreLayout(sizes, ".jpg", 3), [[jpeg(i, s) for s in sizes] for i in range(7)])
        for size in (*sizes, None):
            source = open_source(tmp_path / "x", size)
            assert type(source) is self.source
            assert [source.read(i) for i in range(len(source))] == [jpeg(i, size or sizes[-1]) for i in range(7)]
            assert "00006" in source.label(6)
        prints = {open_source(tmp_path / "x", size).content_hash() for size in sizes}
        assert len(prints) == len(sizes)

    @pytest.mark.parametrize("parts", [[2], [3], [6], [7], [1, 1, 1, 1, 1, 1], [0]])
    def test_killed_and_resumed_it_has_the_same_bytes(self, tmp_path, parts):
        layout, images = StoreLayout((8, 16), ".jpg", 3), [[jpeg(i, 8), jpeg(i, 16)] for i in range(7)]
        whole, resumed = self.write(tmp_path / "whole", layout, images), tmp_path / "parts"
        assert store_content(self.write(resumed, layout, images, parts)) == store_content(whole)

    def test_it_is_refused_until_it_is_finished(self, tmp_path):
        self.store(tmp_path, [jpeg(0)])
        (tmp_path / JOURNAL).touch()
        check_finished(tmp_path)  # killed at the very end
        (tmp_path / MANIFEST).unlink()
        with pytest.raises(DataError, match=r"is unfinished: go on with the same `labels4free prepare` command"):
            open_source(tmp_path)
