from __future__ import annotations

import json
from dataclasses import replace

import pytest
from PIL import Image
from tests.refusals import refuses
from tests.tiny import KEEP_ALL

from labels4free import cli
from labels4free.checkpoints import loading
from labels4free.cli import sample
from labels4free.cli.sample_flags import (
    Files,
    Latents,
    Trust,
    Work,
    parse_augmentations,
    parse_count,
    parse_range,
    parse_shards,
    settings_of,
)
from labels4free.data.names import MANIFEST
from labels4free.errors import ConfigError
from labels4free.sampling import dataset
from labels4free.sampling.config import PAPER, SampleConfig
from labels4free.sampling.filters import NO_FILTERS, FilterConfig
from labels4free.sampling.shards import Partition
from labels4free.sampling.uncertainty import UncertaintyConfig


def test_writes_samples_and_says_where(tmp_path, write_alpha, generator_file, tiny_generator, capsys):
    generator_hash = loading.state_hash(tiny_generator)
    alpha = write_alpha(generator={"name": str(generator_file), "state_hash": generator_hash})
    out = tmp_path / "out"
    words = ["--num", "2", "--seed", "4", "--truncation-psi", "0.5", "--threshold", "0.8", "--size", "32"]
    assert cli.main(["sample", alpha, "--out", str(out), *words, *KEEP_ALL]) == cli.SUCCESS
    said = capsys.readouterr().out
    assert f"2 samples in {out}, masks cover" in said
    assert f"Contact sheet: {out / 'contact_sheet.png'}" in said
    assert f"How to read it: {out / 'README.md'}; to look at: {out / 'index.html'}" in said
    assert "2 pairs of 32 x 32 pixels" in (out / "index.html").read_text(encoding="utf-8")
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.png")) == sorted(
        ["contact_sheet.png", *(f"{folder}/0000{i}.png" for folder in ("images", "alpha", "masks") for i in (0, 1))]
    )
    manifest = json.loads((out / MANIFEST).read_text())
    assert manifest["generator"]["name"] == str(generator_file)
    assert manifest["generator"]["state_hash"] == generator_hash
    assert manifest["alpha_network"]["name"] == alpha
    settings = manifest["settings"]
    names = ("seed", "min_truncation_psi", "max_truncation_psi", "threshold", "size")
    assert [settings[k] for k in names] == [4, 0.5, 0.5, 0.8, 32]


@pytest.mark.slow
def test_says_what_was_dropped_and_what_is_left_to_others(tmp_path, write_alpha, generator_file, capsys):
    alpha = write_alpha(generator={"name": str(generator_file)})
    words = ["sample", alpha, "--out", str(tmp_path / "out"), "--num", "4", "--threshold", "0.1"]
    words += [*KEEP_ALL, "--shard-size", "2"]
    assert cli.main([*words, "--shards", "1"]) == cli.SUCCESS
    assert "This part is done; 2 of 4 samples are in" in capsys.readouterr().out
    assert not (tmp_path / "out" / "index.html").exists()
    assert cli.main(words) == cli.SUCCESS
    coverages = sorted(
        one["foreground_ratio"]
        for one in map(json.loads, (tmp_path / "out" / "records.jsonl").read_text().splitlines())
    )
    assert coverages[0] < coverages[1]
    words[3] = str(tmp_path / "fewer")
    assert cli.main([*words, "--min-foreground-ratio", str(coverages[1])]) == cli.SUCCESS
    said = capsys.readouterr().out
    assert "3 samples in" in said
    assert (
        f"Dropped 1 of 4: 1 foreground ratio below {coverages[1]:g}; see "
        f"{tmp_path / 'fewer' / 'contact_sheet_dropped.png'}" in said
    )


@pytest.mark.slow
def test_published_preset_writes_pages(tmp_path, write_alpha, generator_file):
    alpha, out = write_alpha(generator={"name": str(generator_file)}), tmp_path / "out"
    assert cli.main(["sample", alpha, "--out", str(out), "--num", "17", "--preset", "paper"]) == cli.SUCCESS
    kinds = ("composite", "alpha_mask", "original", "background", "hard_mask")
    assert sorted(path.name for path in (out / "grids").iterdir()) == sorted(
        f"00000{page}_{kind}.png" for page in (0, 1) for kind in kinds
    )
    with Image.open(out / "grids" / "000000_original.png") as page:
        assert page.size == (4 * 66 + 2, 4 * 66 + 2)
        with Image.open(out / "images" / "00005.png") as sixth:
            assert page.crop((68, 68, 132, 132)).tobytes() == sixth.tobytes()
    with Image.open(out / "grids" / "000001_hard_mask.png") as page:
        assert page.size == (68, 68)


def test_torchrun_says_which_part(monkeypatch):
    assert sample._partition(Work()) == Partition()
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert sample._partition(Work(shards="4-99", workers=2)) == Partition(2, 4, 99, 3, 8)
    monkeypatch.setenv("RANK", "three")
    refuses(ConfigError, "RANK must be a number, as torchrun sets it; got 'three'", sample._partition, Work())
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert [sample._own_device(name) for name in ("cuda", "cuda:0", "cpu")] == ["cuda:1", "cuda:0", "cpu"]


def flags(preset=None, latents=Latents(), files=Files(), trust=Trust(), work=Work()):  # noqa: B008  frozen
    return settings_of(preset, latents, files, trust, work)


def test_flags_become_settings():
    assert flags() == SampleConfig()
    assert flags("paper") == PAPER
    config = settings_of(
        None,
        Latents(seed=3, truncation_psi="0.5:1", style_mixing=0.25, label=2),
        Files(include="image, cutout", format="webdataset", threshold=0.5, backgrounds="#102030", alpha_bits=16),
        Trust(
            max_foreground_ratio=0.5, uncertainty="mixing:2,noise:1", ensemble=("a", "b"), max_uncertainty_quantile=0.9
        ),
        Work(shard_size=7),
    )
    assert config == SampleConfig(
        seed=3,
        min_truncation_psi=0.5,
        max_truncation_psi=1.0,
        style_mixing=0.25,
        label=2,
        parts=("image", "cutout"),
        format="webdataset",
        threshold=0.5,
        backgrounds="#102030",
        alpha_bits=16,
        shard_size=7,
        filters=FilterConfig(max_foreground_ratio=0.5, max_uncertainty_quantile=0.9),
        uncertainty=UncertaintyConfig(noise=1, mixing=2, ensemble=("a", "b")),
    )
    assert flags("paper", Latents(truncation_psi="1")).min_truncation_psi == 1.0
    paper_settings = flags("paper", trust=Trust(min_foreground_ratio=0.1))
    assert paper_settings.filters == replace(NO_FILTERS, min_foreground_ratio=0.1)
    refuses(ConfigError, "Unknown preset 'x'; there is one, paper", flags, preset="x")


@pytest.mark.parametrize(
    ("word", "count"), [("16", 16), ("10k", 10_000), ("10M", 10_000_000), ("1.5k", 1500), ("1_000", 1000), ("-3", -3)]
)
def test_counts(word, count):
    assert parse_count(word) == count


def test_words_that_flags_take():
    assert (parse_range("0.7"), parse_range("0.5:1")) == ((0.7, 0.7), (0.5, 1.0))
    assert (parse_shards("7"), parse_shards("0-99")) == ((7, 7), (0, 99))
    assert (parse_augmentations(None), parse_augmentations("noise:2")) == ({}, {"noise": 2})
    for parse, word, said in (
        (parse_count, "ten", "num must be a whole number such as 1000, 10k or 10M, got 'ten'"),
        (parse_count, "0.5", "got '0.5'"),
        (parse_count, "1.2345k", "got '1.2345k'"),
        (parse_range, "0.5:1:2", "a range such as 0.5:1, got '0.5:1:2'"),
        (parse_range, "a", "got 'a'"),
        (parse_shards, "0:9", "shards must be a range such as 0-99, got '0:9'"),
        (
            parse_augmentations,
            "flips:2",
            "uncertainty must be numbers of augmentations such as noise:2,mixing:2, got 'flips:2'",
        ),
        (parse_augmentations, "noise", "got 'noise'"),
        (parse_augmentations, "noise:1,noise:2", "got 'noise:1,noise:2'"),
    ):
        refuses(ConfigError, said, parse, word)


def test_defaults_are_those_of_the_library():
    usual = SampleConfig()
    shared = 0
    for group in (Latents(), Files(), Trust(), Work()):
        for name, value in vars(group).items():
            if hasattr(usual, name) and value is not None and name != "uncertainty":
                assert value == getattr(usual, name), name
                shared += 1
    assert shared >= 10


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({}, "does not say which generator it belongs to; name it with --generator"),
        ({"generator": {"name": "/no/such/file"}}, "was trained on /no/such/file, which is not there"),
    ],
)
def test_without_a_generator_it_says_what_to_do(tmp_path, write_alpha, info, said, refused):
    assert said in refused(["sample", write_alpha(**info), "--out", str(tmp_path / "out"), "--num", "1"])


def test_changed_generator_is_refused_unless_it_is_named(tmp_path, write_alpha, generator_file, capsys):
    alpha = write_alpha(generator={"name": str(generator_file), "state_hash": "another"})
    words = ["sample", alpha, "--out", str(tmp_path / "out"), "--num", "1"]
    assert cli.main(words) == cli.FAILURE
    assert "its weights are others" in capsys.readouterr().err
    assert cli.main([*words, *KEEP_ALL, "--generator", str(generator_file)]) == cli.SUCCESS
    assert "was trained on other weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--num", "0"], "num must be at least 1 sample, got 0"),
        (["--num", "1", "--threshold", "2"], "threshold must lie in [0, 1], got 2.0"),
        (["--num", "1", "--device", "toaster"], "toaster"),
    ],
)
def test_bad_values_are_one_sentence(tmp_path, write_alpha, generator_file, words, said, refused):
    alpha = write_alpha(generator={"name": str(generator_file)})
    assert said in refused(["sample", alpha, "--out", str(tmp_path / "out"), *words])


def test_interrupt_says_what_is_there(tmp_path, monkeypatch, capsys):
    def interrupted(*args, progress, **rest):
        progress(3, 9)
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "sample_dataset", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sample.sample_with_bar(None, tmp_path, 9, SampleConfig(), "tiny")
    said = capsys.readouterr().err
    assert (
        f"Stopped after 3 of 9 samples. Finished shards are in {tmp_path}; the same command goes on behind them."
        in said
    )


def test_masks_of_refined_alpha_are_taken_at_half_unless_a_threshold_is_given():
    refined = flags(files=Files(refine="guided"))
    assert (refined.refine, refined.threshold) == ("guided", 0.5)
    assert flags(files=Files(refine="guided", threshold=0.8)).threshold == 0.8
    assert flags("paper", files=Files(refine="guided")).threshold == 0.5
    said = "refine must be none or one of guided, closed-form, got 'snake'"
    refuses(ConfigError, said, flags, files=Files(refine="snake"))


def test_the_sharpness_filter_has_its_flag():
    assert flags(trust=Trust(min_sharpness_quantile=0.1)).filters == FilterConfig(min_sharpness_quantile=0.1)
