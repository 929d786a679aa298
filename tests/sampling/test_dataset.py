from __future__ import annotations

import errno
import json
import logging

import pytest
import torch
from tests.folders import content
from tests.refusals import refuses
from tests.sampling.data_sets import sample

from labels4free.data.names import MANIFEST
from labels4free.data.pairs import folder as pair_folder
from labels4free.data.pairs.shard_records import shard_path
from labels4free.errors import DataError
from labels4free.files import write_failure
from labels4free.sampling.pair import PairRenderer
from labels4free.sampling.shards import Partition

# One data set, however it is made


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Five candidates in three shards, by one process at one go."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert sample(out, 5, seed=5).complete
    return content(out)


def test_what_a_data_set_consists_of(whole):
    files = {name for name, data in whole.items() if data is not None}
    assert files == {
        MANIFEST,
        "README.md",
        "contact_sheet.png",
        "records.jsonl",
        *(f"shards/00000{s}.json" for s in range(3)),
        *(f"{folder}/0000{i}.png" for folder in ("images", "alpha", "masks") for i in range(5)),
    }


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_and_batch_size_change_no_byte(tmp_path, whole, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        sample(tmp_path / "out", 5, seed=5, batch_size=threads)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert content(tmp_path / "out") == whole


def test_an_accelerator_makes_the_same_pairs_in_the_same_order(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(PairRenderer, "on_cpu", False)
    sample(tmp_path / "out", 5, seed=5, batch_size=3)
    records = [json.loads(line) for line in (tmp_path / "out" / "records.jsonl").read_text().splitlines()]
    expected = [json.loads(line) for line in whole["records.jsonl"].splitlines()]
    assert [one["index"] for one in records] == list(range(5))
    for one, other in zip(records, expected, strict=True):
        assert one["foreground_ratio"] == pytest.approx(other["foreground_ratio"], abs=0.01)


def test_processes_change_no_byte(tmp_path, whole):
    seen = []
    partition, progress = Partition(workers=2), lambda *numbers: seen.append(numbers)
    summary = sample(tmp_path / "out", 5, partition=partition, progress=progress, seed=5)
    assert (summary.rendered, summary.kept, summary.complete) == (5, 5, True)
    assert (seen[0], seen[-1]) == ((0, 5), (5, 5))
    assert content(tmp_path / "out") == whole


@pytest.mark.parametrize("world", [2, 5])
def test_ranks_change_no_byte(tmp_path, whole, world):
    out = tmp_path / "out"
    for rank in range(world):
        assert not (out / "records.jsonl").exists()
        summary = sample(out, 5, partition=Partition(rank=rank, world=world), seed=5)
        assert summary.complete == (rank == world - 1 or (world > 3 and rank >= 2))
        if summary.complete:
            break
        assert not json.loads((out / MANIFEST).read_text())["complete"]
    assert content(out) == whole


def test_job_array_changes_no_byte(tmp_path, whole):
    first = sample(tmp_path / "out", 5, partition=Partition(first=1, last=2), seed=5)
    assert (first.done, first.rendered, first.complete) == (3, 3, False)
    assert sample(tmp_path / "out", 5, partition=Partition(last=0), seed=5).rendered == 2
    assert content(tmp_path / "out") == whole


def test_shard_size_changes_no_pair(tmp_path, whole):
    sample(tmp_path / "out", 5, seed=5, shard_size=100)
    found = content(tmp_path / "out")
    pictures = [name for name in whole if name.endswith(".png")]
    assert len(pictures) == 16
    assert {name: found[name] for name in pictures} == {name: whole[name] for name in pictures}
    assert found["records.jsonl"] == whole["records.jsonl"]


class _StopError(Exception):
    pass


def _stop_after(samples):
    def progress(done, num):
        if done >= samples:
            raise _StopError

    return progress


def test_interrupted_and_continued_equals_uninterrupted(tmp_path, whole):
    out = tmp_path / "out"
    with pytest.raises(_StopError):
        sample(out, 5, progress=_stop_after(3), seed=5)
    left = content(out)
    assert not json.loads(left[MANIFEST] or b"")["complete"]
    assert not any(name.endswith(".tmp") for name in left)
    assert [name for name in left if name.startswith("shards/")] == ["shards/000000.json"]
    assert "images/00002.png" not in left  # of a shard that was not finished
    assert sample(out, 5, seed=5).rendered == 3
    assert content(out) == whole


def test_finished_data_set_is_not_rendered_again(tmp_path, whole):
    out, seen = tmp_path / "out", []
    sample(out, 5, seed=5)
    summary = sample(out, 5, progress=lambda *numbers: seen.append(numbers), seed=5)
    assert (summary.rendered, summary.kept) == (0, 5)
    assert seen == [(0, 5), (2, 5), (4, 5), (5, 5)]
    assert content(out) == whole


def test_growing_adds_shards_and_leaves_the_others_alone(tmp_path, whole):
    out = tmp_path / "out"
    sample(out, 3, seed=5)
    untouched = shard_path(out, 0).stat().st_mtime_ns
    summary = sample(out, 5, seed=5)
    assert summary.rendered == 3  # the short last shard again, and a new one
    assert shard_path(out, 0).stat().st_mtime_ns == untouched
    assert content(out) == whole


@pytest.mark.parametrize(
    "damage",
    [
        lambda out: (out / "masks" / "00002.png").write_bytes(b"x"),
        lambda out: (out / "images" / "00003.png").unlink(),
        lambda out: (out / "alpha" / "00002.png").write_bytes((out / "alpha" / "00003.png").read_bytes()),
        lambda out: shard_path(out, 1).write_bytes(b'{"shard": 1'),
        lambda out: shard_path(out, 1).write_bytes(shard_path(out, 0).read_bytes()),
    ],
    ids=["overwritten", "missing", "exchanged", "record cut off", "record of another"],
)
def test_damaged_shard_is_made_again(tmp_path, whole, damage, caplog):
    out = tmp_path / "out"
    sample(out, 5, seed=5)
    damage(out)
    with caplog.at_level(logging.WARNING):
        assert sample(out, 5, seed=5).rendered == 2
    assert "000001.json" in caplog.text or "Shard 1 is damaged" in caplog.text
    assert content(out) == whole


def test_leftovers_of_a_killed_process_are_removed_and_those_of_a_living_one_stay(tmp_path):
    from labels4free.files import temporary_path

    out = tmp_path / "out"
    sample(out, 1)
    living = temporary_path(out / "masks" / "00000.png")
    number = next(part for part in living.name.split(".") if part.count("-") == 2).split("-")[1]
    dead = living.with_name(living.name.replace(f"-{number}-", f"-{2**22 + 1}-"))
    for path in (living, dead):
        path.write_bytes(b"half")
    sample(out, 1)
    assert living.exists()
    assert not dead.exists()


def test_no_space_is_one_sentence_and_finished_shards_stay(tmp_path, monkeypatch, whole):
    out, write = tmp_path / "out", pair_folder.write_entry

    def write_until_full(path, pieces, **options):
        if path.name == "00003.png":
            raise DataError(write_failure(path, OSError(errno.ENOSPC, "No space left on device")))
        return write(path, pieces, **options)

    monkeypatch.setattr(pair_folder, "write_entry", write_until_full)
    said = r"no space left to write .*00003.png.* 1 of 3 shards are finished and stay valid; the same command goes on"
    refuses(DataError, said, sample, out, 5, seed=5)
    monkeypatch.undo()
    assert not [name for name in content(out) if name.endswith(".tmp")]
    assert sample(out, 5, seed=5).rendered == 3
    assert content(out) == whole
