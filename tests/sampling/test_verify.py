from __future__ import annotations

import pytest
import torch
from tests.folders import content
from tests.refusals import refuses
from tests.sampling.data_sets import discs, sample

from labels4free.data.pairs.formats import PAIR_FORMATS
from labels4free.data.pairs.shard_records import shard_path
from labels4free.errors import ConfigError, DataError, RunError
from labels4free.sampling.filters import FilterConfig
from labels4free.sampling.shards import Partition
from labels4free.sampling.verify import recreate_pair, verify_data_set, write_recreation

pytestmark = pytest.mark.slow


@pytest.fixture
def make(tmp_path):
    """Make a data set of five candidates in three shards."""

    def make(**settings):
        sample(tmp_path / "out", 5, **settings)
        return tmp_path / "out"

    return make


@pytest.mark.parametrize("kind", PAIR_FORMATS)
def test_a_whole_data_set_is_sound_and_nothing_in_it_is_foreign(make, kind):
    out, seen = make(format=kind), []
    before = content(out)
    found = verify_data_set(out, progress=lambda *numbers: seen.append(numbers))
    assert found.sound
    assert (found.num, found.pairs, found.foreign) == (5, 5, ())
    assert found.files >= (3 if kind == "webdataset" else 11)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert content(out) == before


def test_says_what_is_wrong_with_which_shard(make):
    out = make()
    (out / "images" / "00000.png").unlink()
    (out / "masks" / "00001.png").write_bytes(b"x")
    path = out / "alpha" / "00004.png"
    path.write_bytes(bytes([*path.read_bytes()[:-1], 0xFF]))
    found = verify_data_set(out)
    assert not found.sound
    assert set(found.damaged) == {0, 2}
    assert found.damaged[0]["images/00000.png"] == "missing"
    assert found.damaged[0]["masks/00001.png"].startswith("1 bytes instead of")
    assert found.damaged[2] == {"alpha/00004.png": "other content"}


def test_records_and_files_over_all_shards_are_checked_too(make):
    out = make()
    shard_path(out, 1).write_bytes(b"{")
    record = shard_path(out, 0).read_bytes()
    shard_path(out, 0).write_bytes(record.replace(b'"center_bias":0.', b'"center_bias":0.1', 1))
    (out / "records.jsonl").write_bytes(b"")
    found = verify_data_set(out)
    assert found.damaged == {0: {"shards/000000.json": "other content"}, 1: {"shards/000001.json": "damaged"}}
    assert list(found.spanning) == ["records.jsonl"]


def test_unfinished_shards_and_foreign_files(tmp_path):
    out = tmp_path / "out"
    sample(out, 5, partition=Partition(first=1, last=1))
    found = verify_data_set(out)
    assert (found.missing, found.damaged, found.sound) == ((0, 2), {}, False)
    sample(out, 5)
    (out / "images" / "holiday.png").write_bytes(b"x")
    (out / "notes.txt").write_bytes(b"x")
    found = verify_data_set(out)
    assert found.sound
    assert found.foreign == ("images/holiday.png", "notes.txt")


@pytest.mark.parametrize("kind", PAIR_FORMATS)
def test_any_pair_can_be_made_again(make, kind, tmp_path):
    out = make(format=kind, min_truncation_psi=0.5, parts=("image", "alpha", "mask", "composite", "latents"))
    for index in range(5):
        pair = recreate_pair(out, index, discs())
        assert (pair.index, pair.differing, pair.reason) == (index, {}, None)
        assert len(pair.files) >= 3
    paths = write_recreation(pair, tmp_path / "again")
    assert [path.read_bytes() for path in paths] == list(pair.files.values())


@pytest.mark.parametrize("kind", ["folder", "webdataset"])
def test_a_pair_that_differs_is_noticed(make, kind):
    out = make(format=kind)
    if kind == "folder":
        (out / "masks" / "00003.png").write_bytes((out / "masks" / "00002.png").read_bytes())
        (out / "alpha" / "00003.png").unlink()
        expected = {"alpha/00003.png": "missing", "masks/00003.png": "other content"}
    else:
        (tar,) = sorted(out.glob("*000001.tar"))
        data = tar.read_bytes()
        at = data.rindex(b"IEND")
        tar.write_bytes(data[: at - 8] + bytes([data[at - 8] ^ 1]) + data[at - 7 :])
        expected = {name: "other content" for name in recreate_pair(out, 3, discs()).files if "mask" in name}
        assert expected
    assert dict(sorted(recreate_pair(out, 3, discs()).differing.items())) == expected


def test_a_candidate_that_was_left_out(make):
    out = make(filters=FilterConfig(min_foreground_ratio=0.1))
    reasons = [recreate_pair(out, index, discs()).reason for index in range(5)]
    assert 0 < reasons.count("foreground ratio below 0.1") < 5
    assert set(reasons) == {None, "foreground ratio below 0.1"}


def test_what_cannot_be_verified_or_made_again(make, tmp_path):
    out = make()
    refuses(RunError, "is no data set: it has no manifest", verify_data_set, tmp_path)
    refuses(ConfigError, "has the pairs 0 to 4, there is no number 5", recreate_pair, out, 5, discs())
    other = discs()
    with torch.no_grad():
        next(other.alpha_network.parameters()).add_(1)
    refuses(RunError, "made with another alpha network than this one", recreate_pair, out, 0, other)
    shard_path(out, 0).unlink()
    refuses(DataError, r"Shard 0 of .*, which pair 1 belongs to, is not finished", recreate_pair, out, 1, discs())
    (out / "manifest.json").write_text('{"kind": "labels4free_samples", "format": 1, "num": 3, "settings": {}, ')
    refuses(RunError, "cannot be read as a manifest", verify_data_set, out)
    (out / "manifest.json").write_text(
        '{"kind": "labels4free_samples", "format": 1, "num": 3, "settings": {}, "generator": {}, "alpha_network": {}}'
    )
    refuses(RunError, r"another version of labels4free \(format 1, this one writes 2\)", verify_data_set, out)
    refuses(RunError, "to add to it choose another output folder", sample, out, 5)
