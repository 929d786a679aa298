"""What every format of data sets of pairs must do; what only one does is in that one's test."""

from __future__ import annotations

import builtins
import errno
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data import pair_sets
from tests.data.pair_sets import EMPTY, INDICES, SHARD, SIDE, assert_same, layout, pair, write, write_shard

from labels4free.data.names import PARTS
from labels4free.data.pairs.formats import PAIR_FORMATS, open_pairs, read_pairs
from labels4free.errors import ConfigError, DataError


class PairFormatContract:
    """A subclass gives the name of its format."""

    name: str

    @property
    def format(self):
        return PAIR_FORMATS[self.name]

    def test_what_is_written_is_read_back_to_the_bit(self, tmp_path):
        write(self.name, tmp_path)
        pairs = open_pairs(tmp_path)
        assert len(pairs) == len(INDICES)
        assert set(pairs.parts) == set(PARTS)
        for read, index in zip(pairs, INDICES, strict=True):
            assert_same(read, pair(index))
        assert_same(pairs[-1], pair(INDICES[-1]))
        assert not pairs.skipped
        assert [read.record.index for read in read_pairs(str(tmp_path))] == list(INDICES)

    @pytest.mark.slow
    @pytest.mark.parametrize("parts", [("image", "mask"), ("mask", "alpha", "image"), ("image", "mask", "latents")])
    def test_any_parts_in_any_order_8_bit(self, tmp_path, parts):
        write(self.name, tmp_path, layout(parts, alpha_bits=8))
        for read, index in zip(open_pairs(tmp_path), INDICES, strict=True):
            assert_same(read, pair(index, 8), parts)

    def test_some_pictures_of_a_pair(self, tmp_path):
        write(self.name, tmp_path, layout(("image", "mask")))
        pairs = open_pairs(tmp_path)
        assert pairs.pictures(1).keys() == {"image", "mask"}
        assert np.array_equal(pairs.pictures(-1, ["mask"])["mask"], pair(9).pictures["mask"])
        with pytest.raises(DataError, match="holds no cutout: its pairs have image, mask"):
            pairs.pictures(0, ["cutout"])
        with pytest.raises(IndexError, match="has 8 pairs, there is no number 8"):
            pairs[8]

    @pytest.mark.parametrize(("image_format", "suffix"), [("jpeg", ".jpg"), ("webp", ".webp")])
    def test_other_image_formats(self, tmp_path, image_format, suffix):
        """Only colour pictures lose something; what is no picture of colours is a PNG file, but for WebP cut-outs."""
        settings = layout(image_format=image_format, quality=90)
        write(self.name, tmp_path, settings)
        assert any(file.endswith(suffix) for file in self.format.encode(pair(1), settings).files)
        for read, index in zip(open_pairs(tmp_path), INDICES, strict=True):
            written = pair(index)
            for part in ("alpha", "mask", "cutout"):
                assert np.array_equal(read.pictures[part], written.pictures[part]), part
            error = np.abs(read.pictures["image"].astype(int) - written.pictures["image"]).mean()
            assert 0.5 < error < 60  # noise keeps badly; another picture would be about 85 off

    def test_the_same_pairs_give_the_same_bytes(self, tmp_path, monkeypatch):
        entries = write(self.name, tmp_path / "a")
        monkeypatch.setattr("time.time", lambda: 4e9)
        assert write(self.name, tmp_path / "b") == entries
        assert pair_sets.files(tmp_path / "a") == pair_sets.files(tmp_path / "b")

    def test_lengths_and_checksums_cover_every_file(self, tmp_path):
        entries = write(self.name, tmp_path, card="\n# Cats\n")
        assert {file: (entry.bytes, entry.sha256) for file, entry in entries.items()} == pair_sets.sums(tmp_path)
        assert (tmp_path / "README.md").read_text().endswith("\n# Cats\n")

    def test_finishing_twice_is_finishing_once(self, tmp_path):
        write(self.name, tmp_path)
        before = pair_sets.files(tmp_path)
        records = [(s, [pair(i).record for i in INDICES if i // SHARD == s]) for s in range(3)]
        self.format.finish(tmp_path, layout(), records)
        assert pair_sets.files(tmp_path) == before

    def test_encoding_in_threads_is_encoding(self):
        with ThreadPoolExecutor(len(INDICES)) as pool:
            found = pool.map(lambda index: self.format.encode(pair(index), layout()).files, INDICES)
        assert list(found) == [self.format.encode(pair(index), layout()).files for index in INDICES]

    def test_encoding_goes_to_other_processes(self):
        kind, encoded = pickle.loads(pickle.dumps((self.format, self.format.encode(pair(0), layout()))))
        assert kind is self.format
        assert encoded.files == kind.encode(pair(0), layout()).files

    def test_an_interrupted_shard_leaves_nothing(self, tmp_path):
        encoded = [self.format.encode(pair(i), layout()) for i in range(2)]
        with pytest.raises(KeyboardInterrupt):
            write_shard(self.name, tmp_path, 0, encoded, KeyboardInterrupt())
        assert pair_sets.files(tmp_path) == {}

    @pytest.mark.parametrize("after", [0, 10_000])
    def test_no_space_left_leaves_nothing(self, tmp_path, monkeypatch, after):
        """Writing fails for real: the system takes no more bytes than allowed."""
        room = [after]
        encoded = [self.format.encode(pair(i), layout()) for i in range(3)]
        real = builtins.open

        class Full:
            def __init__(self, file):
                self.file = file

            def write(self, data):
                room[0] -= len(data)
                if room[0] < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return self.file.write(data)

            def __enter__(self):
                return self

            def __exit__(self, *failure):
                self.file.close()

            def __getattr__(self, attribute):
                return getattr(self.file, attribute)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", lambda path, mode="r", **options: Full(real(path, mode, **options)))
            with pytest.raises(DataError, match=r"There is no space left to write .*Nothing was left behind\."):
                write_shard(self.name, tmp_path, 0, encoded)
        assert pair_sets.files(tmp_path) == {}

    def test_a_finished_shard_stays_when_the_next_fails(self, tmp_path):
        kind = self.format
        entries = write_shard(self.name, tmp_path, 0, [kind.encode(pair(0), layout())])
        before = pair_sets.sums(tmp_path)
        assert {file: (entry.bytes, entry.sha256) for file, entry in entries.items()} == before
        with pytest.raises(ZeroDivisionError):
            write_shard(self.name, tmp_path, 1, [kind.encode(pair(5), layout())], ZeroDivisionError())
        assert pair_sets.sums(tmp_path) == before

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        encoded = self.format.encode(pair(0), layout())
        with pytest.raises(DataError, match=r"cannot be written: (Not a directory|File exists)"):
            write_shard(self.name, tmp_path / "file", 0, [encoded])

    def test_shards_without_pairs(self, tmp_path):
        write(self.name, tmp_path, indices=(5, 6))
        assert [read.record.index for read in open_pairs(tmp_path)] == [5, 6]

    def test_no_pair_at_all(self, tmp_path):
        write(self.name, tmp_path, indices=())
        with pytest.raises(DataError, match=r"holds no pair|holds no image|names no image"):
            open_pairs(tmp_path).names  # noqa: B018  a list of names is read at once

    def test_an_empty_mask_is_a_mask(self, tmp_path):
        write(self.name, tmp_path, indices=(EMPTY,))
        (read,) = open_pairs(tmp_path)
        assert not read.pictures["mask"].any()
        assert read.pictures["mask"].shape == (SIDE, SIDE)

    def test_labels_and_unknown_numbers_are_kept(self, tmp_path):
        kind, one = self.format, pair(0, label=3, uncertainty=0.25)
        write_shard(self.name, tmp_path, 0, [kind.encode(one, layout())])
        kind.finish(tmp_path, layout(), [(0, [one.record])])
        (read,) = open_pairs(tmp_path)
        assert (read.record.label, read.record.uncertainty, read.record.discriminator_score) == (3, 0.25, None)

    def test_what_a_format_needs(self):
        kind = self.format
        kind.check(layout(("image", "mask")))
        if kind.needs:
            with pytest.raises(ConfigError, match="image was not asked for: add it to the parts"):
                kind.check(layout(("alpha",)))

    def test_a_data_set_that_is_not_finished(self, tmp_path):
        write(self.name, tmp_path)
        (tmp_path / "shards").mkdir()
        with pytest.raises(DataError, match="is unfinished: go on with the same `labels4free sample` command"):
            open_pairs(tmp_path)
        (tmp_path / "manifest.json").write_text("{}")
        (tmp_path / "shards" / "000000.json").write_text("{}")
        Image.new("RGB", (8, 8)).save(tmp_path / "contact_sheet.png")
        assert len(open_pairs(tmp_path)) == len(INDICES)

    def test_pairs_of_damaged_records_are_skipped(self, tmp_path, caplog):
        write(self.name, tmp_path)
        for path in tmp_path.rglob("*"):
            if path.is_file():
                path.write_bytes(path.read_bytes().replace(b'"center_bias": ', b'"center_bras": '))
        pairs = open_pairs(tmp_path)
        assert list(pairs) == []
        assert len(pairs.skipped) == len(INDICES)
        assert "Skipped 1 pair(s) in" in caplog.text
        assert "These are no measurements of a pair" in caplog.text
        with pytest.raises(DataError, match=r"holds no readable pair, of 8\. The record of"):
            pairs[0]

    @pytest.mark.parametrize("there", [True, False])
    def test_no_data_set(self, tmp_path, there):
        path = tmp_path / "none"
        if there:
            path.mkdir()
            (path / "notes.txt").write_text("")
        with pytest.raises(DataError, match="holds no image/mask pairs" if there else "does not exist"):
            open_pairs(path)

    @pytest.mark.parametrize("parts", [tuple(PARTS), ("image", "mask")])
    def test_one_pair_found_by_its_number(self, tmp_path, parts):
        """From its shard alone: the others may be anywhere."""
        settings = layout(parts)
        write(self.name, tmp_path, settings)
        for path in [*tmp_path.glob("*.jsonl"), *tmp_path.glob("instances*"), *tmp_path.glob("*/*2.*")]:
            path.unlink()
        for index in (5, 6):
            found = self.format.pictures(tmp_path, settings, index // SHARD, index)
            assert found.keys() == set(parts) - {"latents"}
            for part, pixels in found.items():
                assert np.array_equal(pixels, pair(index).pictures[part]), part
        with pytest.raises(DataError, match=r"0*7"):
            self.format.pictures(tmp_path, settings, 1, 7)  # was dropped
