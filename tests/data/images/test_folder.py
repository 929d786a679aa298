from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.data import pair_sets
from tests.data.image_store_contract import FINISHED, ImageStoreContract
from tests.data.picture_files import jpeg

from labels4free.data.decoding import decode_image
from labels4free.data.images.base import MANIFEST, best_size, spoken
from labels4free.data.images.dataset import open_source
from labels4free.data.images.folder import FolderSource, FolderWriter
from labels4free.data.names import MANIFEST as PAIR_MANIFEST
from labels4free.data.pairs.formats import PAIR_FORMATS
from labels4free.errors import DataError


class TestFolder(ImageStoreContract):
    source, writer, nothing = FolderSource, FolderWriter, "no image files in it"

    def write(self, path, *arguments):
        path.mkdir(parents=True, exist_ok=True)
        return super().write(path, *arguments)


def test_a_damaged_manifest(tmp_path):
    (tmp_path / "1.jpg").write_bytes(jpeg(1))
    for text in ("[]", "{", '{"kind": "labels4free_images", "settings": {"sizes": [true]}}', FINISHED[:40].decode()):
        (tmp_path / MANIFEST).write_text(text)
        with pytest.raises(DataError, match=rf"manifest {MANIFEST} of .* is damaged"):
            open_source(tmp_path)


@pytest.mark.parametrize("name", PAIR_FORMATS)
def test_a_data_set_of_pairs_serves_with_its_images(tmp_path, name):
    """Without its masks, cut-outs and contact sheets, which are images too."""
    pair_sets.write(name, tmp_path)
    (tmp_path / PAIR_MANIFEST).write_text('{"kind": "labels4free_samples"}')
    (tmp_path / "contact_sheet.png").write_bytes(jpeg(0, 8))
    source = open_source(tmp_path)
    assert len(source) == len(pair_sets.INDICES)
    for number, index in enumerate(pair_sets.INDICES):
        image = np.asarray(decode_image(source.read(number), None, source.label(number)))
        assert np.array_equal(image, pair_sets.pair(index).pictures["image"])


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"kind": "something"}'])
def test_another_manifest_means_nothing(tmp_path, content):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(jpeg(0, 8))
    (tmp_path / "b.jpg").write_bytes(jpeg(1, 8))
    (tmp_path / PAIR_MANIFEST).write_bytes(content)
    assert len(open_source(tmp_path)) == 2


def test_nothing_and_something_else(tmp_path):
    with pytest.raises(DataError, match=r"none does not exist: give a folder of images, a zip file, an LMDB or tar"):
        open_source(tmp_path / "none")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match=r"a\.txt is a file of another kind"):
        open_source(tmp_path / "a.txt")
    with pytest.raises(DataError, match="no image files in it"):
        open_source(tmp_path)


def test_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "1.jpg").write_bytes(jpeg(1))
    monkeypatch.chdir(tmp_path)
    assert len(open_source(".")) == 1


def test_headers_are_looked_at_on_demand(tmp_path):
    (tmp_path / "1.jpg").write_bytes(jpeg(1))
    (tmp_path / "2.jpg").write_text("no image")
    assert len(open_source(tmp_path)) == 2
    checked = open_source(tmp_path, check_headers=True)
    assert len(checked) == 1
    assert [Path(label).name for label in checked.skipped] == ["2.jpg"]


def test_best_size():
    sizes = (256, 128, 512)
    assert [best_size(sizes, r) for r in (64, 128, 200, 512, 1024, None)] == [128, 128, 256, 512, 512, 512]
    assert spoken(sizes) == "128, 256 and 512"
    assert spoken([64]) == "64"


@pytest.mark.slow
def test_preparing_needs_no_torch():
    """A worker process starts in a fraction of the time."""
    program = "import sys, labels4free.data.images.prepare; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
