from __future__ import annotations

import contextlib
import io
import json
import re
import warnings

import numpy as np
import pytest
from tests.sampling.data_sets import sample

from labels4free.data.pairs.formats import PAIR_FORMATS, open_pairs
from labels4free.data.pairs.manifest import read_manifest
from labels4free.sampling.card import DATA_SET, data_card, reading_programs
from labels4free.sampling.config import SampleConfig
from labels4free.sampling.filters import FilterConfig
from labels4free.sampling.uncertainty import UncertaintyConfig
from labels4free.sampling.verify import verify_data_set

NAMES = {"generator_name": "/home/me/cats/cat|`s.pkl", "alpha_name": "tiny-alpha"}


def _sample(out, num=4, **changes):
    sample(out, num, **NAMES, **changes)
    return (out / "README.md").read_text(encoding="utf-8")


def _programs(card):
    return re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIR_FORMATS)
def test_every_format_has_one_card_and_verify_knows_it(name, tmp_path):
    card = _sample(tmp_path / "a", format=name)
    assert card == _sample(tmp_path / "b", format=name)
    assert card.startswith("---\n" if name == "huggingface" else "# Images with masks: object\n")
    assert card.count("# Images with masks: object\n") == 1
    assert "README.md" in read_manifest(tmp_path / "a")["files"]
    assert verify_data_set(tmp_path / "a").foreign == ()
    (tmp_path / "a" / "README.md").write_text("changed")
    assert list(verify_data_set(tmp_path / "a").spanning) == ["README.md"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the readers' own
@pytest.mark.parametrize("parts", [("image", "alpha", "mask"), ("image", "mask", "cutout", "latents")])
@pytest.mark.parametrize("name", PAIR_FORMATS)
def test_its_programs_read_it(name, parts, tmp_path, monkeypatch):
    if name == "huggingface":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        import datasets

        datasets.disable_progress_bars()
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    card = _sample(tmp_path / "set", parts=parts, format=name, alpha_bits=16, image_format="jpeg")
    last = list(open_pairs(tmp_path / "set"))[-1]
    programs = _programs(card)
    assert len(programs) == 2
    for program in programs:
        found = {}
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            exec(program.replace(DATA_SET, str(tmp_path / "set")), found)
        for part in (set(parts) - {"latents"}) & found.keys():
            pixels = np.asarray(found[part])
            mask_of_coco = name == "coco" and part == "mask" and pixels.max() == 1
            assert np.array_equal(pixels * 255 if mask_of_coco else pixels, last.pictures[part]), part
        assert {"image", "mask"} <= found.keys()
        if "foreground_ratio" in found:
            assert found["foreground_ratio"] == last.record.foreground_ratio
    assert all(np.array_equal(found["latents"][key], last.latents[key]) for key in last.latents)


def test_a_format_without_a_program_of_its_own_is_read_by_ours():
    layout = SampleConfig().layout(8)
    assert reading_programs("another", layout, 3) == reading_programs("folder", layout, 3)[1:]


@pytest.mark.slow
def test_numbers_and_origin(tmp_path):
    card = _sample(
        tmp_path / "some",
        num=6,
        uncertainty=UncertaintyConfig(mixing=1),
        filters=FilterConfig(min_sharpness_quantile=0.5, calibration=6),
    )
    manifest = read_manifest(tmp_path / "some")
    summary = manifest["summary"]
    (reason,) = summary["dropped"]
    for line in (
        "| candidates | 6 |",
        "| kept | 3 (50.0%) |",
        f"| - {reason} | 3 |",
        (
            f"| foreground ratio of the pairs, mean (sd) | {summary['foreground_ratio_mean']:.4f} "
            f"({summary['foreground_ratio_sd']:.4f}) |"
        ),
        f"| uncertainty, mean (0: all augmentations agree) | {summary['uncertainty']:.4f} |",
        "| licence of its weights | unknown to labels4free |",
        "| `mask` | hard mask, 0 or 255: 255 where alpha exceeds 0.9 |",
    ):
        assert line in card.splitlines()
    assert manifest["generator"]["state_hash"] in card
    assert manifest["versions"]["torch"] in card
    assert "3 pairs of a generated image" in card
    assert "uncertainty, mean" not in _sample(tmp_path / "plain")


def test_no_folder_of_this_machine_and_no_time(tmp_path):
    card = _sample(tmp_path / "set", backgrounds="#102030", parts=("image", "mask", "composite"))
    assert "/home/me" not in card
    assert str(tmp_path) not in card
    assert "<code>cat\\|\\`s.pkl</code>" in card
    assert f"labels4free sample tiny-alpha --out {DATA_SET} --num 4 --generator 'cat|`s.pkl' " in card
    assert "--backgrounds '#102030'" in card
    assert "| `composite` | the object over <code>#102030</code> |" in card
    assert not re.search(r"20\d\d-\d\d|\d\d:\d\d", card)


def test_a_name_cannot_break_out(tmp_path):
    category = "a | b\n# <script>alert(1)</script> ```` [x](y)"
    card = _sample(tmp_path / "set", category=category, format="coco")
    assert card.startswith("# Images with masks: a \\| b # &lt;script>alert(1)&lt;/script> \\`\\`\\`\\` \\[x\\](y)\n")
    assert "\n# <script>" not in card.split("## How to make it again")[0]
    fence = re.search(r"^(`{3,})json$", card, flags=re.MULTILINE)
    assert fence is not None
    assert len(fence[1]) == 5
    settings = card.split(f"{fence[0]}\n")[1].split(f"\n{fence[1]}")[0]
    assert json.loads(settings)["category"] == category


def test_a_generator_of_the_zoo_has_its_licence(tmp_path):
    _sample(tmp_path / "set")
    manifest = read_manifest(tmp_path / "set")
    manifest["generator"]["name"] = "mobilestylegan-ffhq-1024"
    assert "| licence of its weights | Apache-2.0 (Sergei Belousov, arXiv 2104.04767) |" in data_card(manifest)
