from __future__ import annotations

import base64
import io
import json
import logging
import re
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from tests.data.pair_sets import layout, pair
from tests.soft_disc import SoftDisc
from tests.tiny import tiny_generator

from labels4free.data.pairs.formats import PAIR_FORMATS
from labels4free.data.pairs.manifest import read_manifest
from labels4free.data.pairs.record import PairRecord
from labels4free.data.pairs.shard_records import ShardRecord, read_shard, write_shard
from labels4free.errors import DataError, RunError
from labels4free.layered import LayeredGenerator
from labels4free.pages.data_set import DOUBTFUL, SAMPLES, Spread, _cell, _cells, write_sample_page
from labels4free.sampling.config import SampleConfig
from labels4free.sampling.dataset import sample_dataset
from labels4free.sampling.filters import NO_FILTERS, FilterConfig
from labels4free.sampling.shards import Partition
from labels4free.sampling.uncertainty import UncertaintyConfig
from labels4free.sampling.verify import verify_data_set

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def _sample(out: Path, num: int = 4, partition: Partition | None = None, **changes: Any) -> Path:
    config = SampleConfig(**{"shard_size": 3} | changes)
    layered = LayeredGenerator(tiny_generator(), SoftDisc()).eval()
    sample_dataset(layered, out, num, config, generator_name="tiny <b>", partition=partition)
    return out


def _page(out: Path) -> str:
    return write_sample_page(out).read_text(encoding="utf-8")


def _pictures(page: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(code))) for code in re.findall(r"base64,([^\"]+)", page)]


def _captions(page: str, title: str) -> list[str]:
    section = page.split(f"<h2>{title}</h2>")[1].split("</section>", maxsplit=1)[0]
    return re.findall(r"<figcaption>([^<]*)</figcaption>", section)


def _indices(page: str, title: str) -> list[int]:
    return [int(caption[:5]) for caption in _captions(page, title)]


@pytest.mark.parametrize("name", PAIR_FORMATS)
def test_every_format_has_the_same_pictures(name: str, tmp_path: Path) -> None:
    page = _page(_sample(tmp_path / "set", format=name))
    _page(_sample(tmp_path / "folder"))
    shown, expected = (
        re.findall(r"base64,([^\"]+)", (tmp_path / s / "index.html").read_text()) for s in ("set", "folder")
    )
    assert shown == expected
    assert len(shown) == 2 * 4
    assert verify_data_set(tmp_path / "set").foreign == ()
    assert page == _page(tmp_path / "set")
    assert not re.search(r"(src|href)=\"(?!data:)|https?:|<script", page)
    assert "tiny &lt;b&gt;" in page
    assert "<b>:" not in page


@pytest.mark.parametrize("measured", [True, False])
def test_samples_are_spread_evenly_and_doubtful_ones_come_worst_first(tmp_path: Path, measured: bool) -> None:
    uncertainty = {"uncertainty": UncertaintyConfig(mixing=1)} if measured else {}
    page = _page(out := _sample(tmp_path / "set", 40, filters=NO_FILTERS, **uncertainty))
    records = [record for shard in range(14) for record in read_shard(out, shard).records]
    worst = sorted(records, key=lambda record: -record.uncertainty if measured else record.sharpness)[:DOUBTFUL]
    samples, doubtful = (_indices(page, title) for title in ("Samples", "Look at these first"))
    assert samples == [round(k * 39 / (SAMPLES - 1)) for k in range(SAMPLES)]
    assert doubtful == [one.index for one in worst]
    assert ("uncertainty 0" in page) == measured
    assert not measured or f"uncertainty {worst[0].uncertainty:.4f}" in page
    assert "Nothing: every candidate passed the filters." in page
    assert page.count("<svg viewBox") == (3 if measured else 2)


def test_dropped_ones_with_their_reasons(tmp_path: Path) -> None:
    out = _sample(tmp_path / "set", 6, filters=FilterConfig(min_sharpness_quantile=0.5, calibration=6))
    page = _page(out)
    (reason,) = read_manifest(out)["summary"]["dropped"]
    assert f'<th scope="row">{reason}</th><td>3</td>' in page
    dropped = [record.index for shard in range(2) for record, _ in read_shard(out, shard).dropped]
    assert len(dropped) == 3
    kept = [index for index in range(6) if index not in dropped]
    assert _indices(page, "Samples") == kept
    with Image.open(out / "contact_sheet_dropped.png") as sheet:
        assert _pictures(page)[-1].size == sheet.size
    assert 'class="bar bar-2"' in page


@pytest.mark.parametrize(
    ("parts", "rows"),
    [
        (("image", "alpha", "mask"), [["image", "cut-out"], ["alpha", "mask"]]),
        (("image", "composite", "background", "mask"), [["image", "cut-out", "mask"], ["composite", "background"]]),
        (("mask",), [["mask"]]),
        (("cutout",), [["cut-out"]]),
        (("latents",), []),
    ],
)
def test_any_parts(parts: tuple[str, ...], rows: list[list[str]], tmp_path: Path) -> None:
    assert _cells(dict.fromkeys(parts)) == rows
    page = _page(_sample(tmp_path / "set", 1, parts=parts, alpha_bits=16))
    assert len(_captions(page, "Samples")) == bool(rows)
    if rows:
        assert _pictures(page)[0].width == {1: 172, 2: 338, 3: 360}[max(map(len, rows))]


def test_the_board_shows_where_alpha_is_nothing() -> None:
    image = np.full((320, 320, 3), 100, np.uint8)
    alpha = np.zeros((320, 320), np.uint16)
    alpha[160:] = 65535
    cell = _cell("cut-out", {"image": image, "alpha": alpha})
    assert [tuple(cell[0, x]) for x in (0, 31, 32, 63, 64)] == [(v,) * 3 for v in (255, 255, 214, 214, 255)]
    assert (cell[160:] == 100).all()
    ready = np.dstack([image, (alpha // 257).astype(np.uint8)])
    assert np.array_equal(_cell("cut-out", {"cutout": ready, "image": image * 0}), cell)
    assert np.array_equal(_cell("alpha", {"alpha": alpha}), (alpha // 257).astype(np.uint8))


def test_a_damaged_pair_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = _sample(tmp_path / "set")
    (out / "masks" / "00001.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert len(_captions(_page(out), "Samples")) == 3
    assert "Pair 1 is left out of the page." in caplog.text


def test_only_of_a_finished_data_set(tmp_path: Path) -> None:
    def refused(error: type[Exception], said: str) -> None:
        with pytest.raises(error, match=said):
            write_sample_page(out)

    out = tmp_path / "set"
    refused(RunError, "is no data set")
    _sample(out, partition=Partition(last=0))
    refused(RunError, "is unfinished")
    _sample(out)
    (out / "shards" / "000001.json").write_text("{")
    refused(DataError, r"000001\.json is damaged")
    (out / "shards" / "000001.json").unlink()
    refused(RunError, r"Shard 1 of .* is not finished")
    assert not (out / "index.html").exists()


def test_a_large_data_set_needs_little_memory_and_makes_a_small_page(tmp_path: Path) -> None:
    out, shards, size = _sample(tmp_path / "set"), 100, 200
    for shard in range(shards):
        numbers = range(shard * size, (shard + 1) * size)
        records = tuple(
            PairRecord(i, (i % 997) / 996, 0.5, (i % 31) / 31, 0.1, 1, 1.0, 0.7, None, i / (shards * size))
            for i in numbers
        )
        write_shard(out, ShardRecord(shard, numbers.start, numbers.stop, {}, records, ()))
    manifest = read_manifest(out)
    manifest |= {"num": shards * size, "shard_count": shards}
    manifest["summary"] |= {"kept": shards * size, "uncertainty": 0.5}
    (out / "manifest.json").write_text(json.dumps(manifest))
    for index in [0, *range(19_990, 20_000)]:
        for part in ("images", "alpha", "masks"):
            (out / part / f"{index:05d}.png").write_bytes((out / part / "00001.png").read_bytes())
    tracemalloc.start()
    page = _page(out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000  # the records alone are more than 10 MB
    assert len(page) < 1_000_000
    assert _indices(page, "Look at these first") == [19_999 - k for k in range(DOUBTFUL)]


def test_the_page_is_small_however_grainy_the_pictures_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = ("image", "alpha", "mask", "composite", "background")
    out = _sample(tmp_path / "set", 40, parts=parts, filters=FilterConfig(min_sharpness_quantile=0.5, calibration=40))
    rng = np.random.default_rng(0)
    with Image.open(out / "contact_sheet_dropped.png") as sheet:
        grain = rng.integers(80, 176, (sheet.height, sheet.width, 3), dtype=np.uint8)
    Image.fromarray(grain).save(out / "contact_sheet_dropped.png")
    grain = grain[:160, :160]
    pictures = {part: grain if part not in ("alpha", "mask") else grain[..., 0] for part in parts}
    monkeypatch.setattr(PAIR_FORMATS["folder"], "pictures", lambda *_: pictures)
    page = _page(out)
    assert len(_captions(page, "Samples")) + len(_captions(page, "Look at these first")) == SAMPLES + DOUBTFUL
    assert len(page) < 3_000_000


def test_spread_counts_every_value_once() -> None:
    spread = Spread(0.001)
    assert spread.histogram("t") is None
    values = [0.0, 0.0499, 0.05, 0.3, 0.999, 1.0]
    for value in values:
        spread.add(value, kept=value != 0.3)
    histogram = spread.histogram("t", 0, 1)
    assert (histogram.low, histogram.width) == (0, 0.05)
    assert len(histogram.groups["kept"]) == 20
    assert {bar: count for bar, count in enumerate(histogram.groups["kept"]) if count} == {0: 2, 1: 1, 19: 2}
    assert histogram.groups["dropped"].index(1) == 6


def test_spread_finds_its_own_ends() -> None:
    spread = Spread(0.01)
    for value in (-3.21, 0.0, 7.5):
        spread.add(value, kept=True)
    histogram = spread.histogram("t")
    assert (histogram.low, histogram.width) == (-3.5, 0.5)
    assert {bar: count for bar, count in enumerate(histogram.groups["kept"]) if count} == {0: 1, 7: 1, 22: 1}
    assert len(histogram.groups["kept"]) == 23
    assert list(histogram.groups) == ["kept"]
    single = Spread(0.0001)
    single.add(0.0, kept=True)
    assert single.histogram("t", 0).groups == {"kept": [1]}


def test_cells_hold_for_every_part() -> None:
    pictures = pair(1).pictures
    assert {name for row in _cells(pictures) for name in row} == (set(layout().parts) - {"latents", "cutout"}) | {
        "cut-out"
    }
