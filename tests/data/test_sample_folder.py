from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from labels4free.data.sample_folder import (
    FOLDERS,
    KIND,
    MANIFEST,
    SampleRecord,
    open_sample_folder,
    read_record,
    sample_path,
    write_manifest,
    write_sample,
)
from labels4free.errors import RunError

if TYPE_CHECKING:
    from pathlib import Path


def _manifest(**changes: Any) -> dict[str, Any]:
    return {
        "kind": KIND,
        "settings": {"seed": 3, "size": 16},
        "generator": {"name": "a", "fingerprint": "g"},
        "alpha_network": {"fingerprint": "n"},
        "num": 4,
    } | changes


def _pictures() -> dict[str, np.ndarray]:
    """16x16: alpha 255 in the middle 8x8 and 51 in half of the first row, 0 elsewhere."""
    rgb = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    alpha = np.zeros((16, 16), dtype=np.uint8)
    alpha[4:12, 4:12] = 255
    alpha[0, :8] = 51
    mask = np.where(alpha > 200, 255, 0).astype(np.uint8)
    return {"images": rgb, "alpha": alpha, "masks": mask, "composites": rgb, "backgrounds": rgb}


def test_measurements_by_hand_survive_the_disk(tmp_path: Path) -> None:
    open_sample_folder(tmp_path / "out", _manifest())
    written = write_sample(tmp_path / "out", 7, _pictures())
    assert written == SampleRecord(
        index=7,
        coverage=64 / 256,
        alpha_mean=round((64 + 8 * 0.2) / 256, 6),
        binarity=round(1 - 2 * 8 * 0.2 / 256, 6),
        polarity=round(1 - 8 * 0.2 / (256 - 12 * 12), 6),
    )
    assert read_record(tmp_path / "out", 7, 16) == written
    assert sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.png")) == sorted(
        f"{folder}/00007.png" for folder in FOLDERS
    )


def test_extremes_of_binarity_and_polarity(tmp_path: Path) -> None:
    open_sample_folder(tmp_path / "out", _manifest())
    frame = np.full((32, 32), 255, dtype=np.uint8)
    frame[4:28, 4:28] = 0
    record = write_sample(tmp_path / "out", 0, _pictures() | {"alpha": frame, "masks": frame})
    assert (record.polarity, record.binarity, record.coverage) == (-1.0, 1.0, round(1 - 24 * 24 / 1024, 6))
    undecided = np.full((32, 32), 128, dtype=np.uint8)
    record = write_sample(tmp_path / "out", 1, _pictures() | {"alpha": undecided, "masks": frame})
    assert record.polarity == 0.0
    assert record.binarity < 0.005


@pytest.mark.parametrize("folder", FOLDERS)
def test_sample_with_a_missing_file_is_not_there(tmp_path: Path, folder: str) -> None:
    open_sample_folder(tmp_path / "out", _manifest())
    write_sample(tmp_path / "out", 0, _pictures())
    sample_path(tmp_path / "out", folder, 0).unlink()
    assert read_record(tmp_path / "out", 0, 16) is None


def test_damaged_or_other_sized_mask_is_not_there(tmp_path: Path) -> None:
    open_sample_folder(tmp_path / "out", _manifest())
    write_sample(tmp_path / "out", 0, _pictures())
    assert read_record(tmp_path / "out", 0, 32) is None
    path = sample_path(tmp_path / "out", "masks", 0)
    path.write_bytes(path.read_bytes()[:50])
    assert read_record(tmp_path / "out", 0, 16) is None


def test_same_folder_opens_again_and_may_grow(tmp_path: Path) -> None:
    for num in (4, 4, 9):
        open_sample_folder(tmp_path / "a" / "b", _manifest(num=num, generator={"name": "other", "fingerprint": "g"}))
    assert json.loads((tmp_path / "a" / "b" / MANIFEST).read_text())["num"] == 9


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settings": {"seed": 4, "size": 16}}, "made with seed 3, asked for was 4"),
        ({"generator": {"name": "a", "fingerprint": "x"}}, "of another generator"),
        ({"alpha_network": {"fingerprint": "x"}}, "of another alpha network"),
        ({"num": 3}, "is for 4 samples of the same settings, asked for were 3"),
    ],
)
def test_refuses_another_data_set_and_leaves_it_alone(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    open_sample_folder(tmp_path / "out", _manifest())
    before = (tmp_path / "out" / MANIFEST).read_bytes()
    with pytest.raises(RunError, match=said):
        open_sample_folder(tmp_path / "out", _manifest(**changes))
    assert (tmp_path / "out" / MANIFEST).read_bytes() == before


def test_refuses_a_foreign_folder_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(RunError, match="not empty and holds no earlier samples"):
        open_sample_folder(tmp_path, _manifest())
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]
    with pytest.raises(RunError, match="is a file"):
        open_sample_folder(tmp_path / "holiday.jpg", _manifest())
    with pytest.raises(RunError, match="cannot be written"):
        open_sample_folder(tmp_path / "holiday.jpg" / "below", _manifest())


@pytest.mark.parametrize("content", ["{", "[]", '{"kind": "other"}', json.dumps(_manifest(num="4")), "\udcff"])
def test_refuses_a_folder_whose_manifest_is_none_of_ours(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunError, match="manifest of samples"):
        open_sample_folder(tmp_path, _manifest())


def test_a_killed_first_write_does_not_block_the_folder(tmp_path: Path) -> None:
    (tmp_path / f".{MANIFEST}.1-ab.tmp").write_text("{")
    open_sample_folder(tmp_path, _manifest())
    (tmp_path / "masks" / ".00000.png.1-ab.tmp").write_text("half")
    open_sample_folder(tmp_path, _manifest())
    assert not list((tmp_path / "masks").iterdir())
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*FOLDERS, MANIFEST])


def test_manifest_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).mkdir()
    with pytest.raises(RunError, match=r"manifest\.json cannot be written"):
        write_manifest(tmp_path, _manifest())
    assert [p.name for p in tmp_path.iterdir()] == [MANIFEST]
