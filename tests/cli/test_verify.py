from __future__ import annotations

import shlex

import pytest
from tests.refusals import refuses
from tests.tiny import KEEP_ALL
from tests.tiny_run import content

from labels4free import cli
from labels4free.cli.sample_flags import Files, Latents, Trust, Work, settings_of
from labels4free.sampling.card import sample_flags
from labels4free.sampling.config import PAPER, SampleConfig
from labels4free.settings_fields import as_json


@pytest.fixture
def data_set(tmp_path, generator_file, write_alpha, quick, capsys):
    """Four pairs in two shards, from files that the manifest names."""
    alpha = write_alpha(generator={"name": str(generator_file)})
    words = ["sample", alpha, "--out", str(tmp_path / "out"), "--num", "4", "--threshold", "0.2"]
    assert cli.main([*words, *KEEP_ALL, "--shard-size", "2"]) == cli.SUCCESS
    capsys.readouterr()
    return tmp_path / "out"


def test_a_sound_data_set(data_set, capsys):
    (data_set / "notes.txt").write_text("x")
    assert cli.main(["verify", str(data_set)]) == cli.SUCCESS
    said = capsys.readouterr().out
    assert "4 pairs of 4 candidates, 14 files checked" in said
    assert "none of the data set's: notes.txt" in said
    assert "All of it is there and undamaged." in said


@pytest.mark.slow
def test_the_command_that_it_prints_mends_a_damaged_one(data_set, capsys):
    before = content(data_set)
    (data_set / "masks" / "00002.png").unlink()
    (data_set / "images" / "00003.png").write_bytes(b"")
    assert cli.main(["verify", str(data_set)]) == cli.FAILURE
    said = capsys.readouterr().out
    assert "shard 1 is damaged: " in said
    assert "1 shards damaged, 0 unfinished" in said
    command = shlex.split(said.splitlines()[-1])
    assert command[:2] == ["labels4free", "sample"]
    assert cli.main(command[1:]) == cli.SUCCESS
    assert content(data_set) == before


@pytest.mark.slow
def test_recreates_a_pair(data_set, tmp_path, capsys):
    again = tmp_path / "again"
    assert cli.main(["verify", str(data_set), "--recreate", "3", "--out", str(again)]) == cli.SUCCESS
    assert "Pair 3 is the stored one, byte for byte (3 files)." in capsys.readouterr().out
    for folder in ("images", "alpha", "masks"):
        name = f"{folder}/00003.png"
        assert (again / name).read_bytes() == (data_set / name).read_bytes()
    (data_set / "alpha" / "00003.png").write_bytes(b"x")
    assert cli.main(["verify", str(data_set), "--recreate", "3"]) == cli.FAILURE
    said = capsys.readouterr().out
    assert "alpha/00003.png: other content" in said
    assert "Pair 3 differs from the stored one in 1 of 3 files" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        (Latents(), Files(), Trust()),
        (Latents(seed=3, truncation_psi="0.5:1", style_mixing=0.25), Files(include="image,mask", size=64), Trust()),
        (Latents(truncation_psi="0.5"), Files(format="coco", category="cat"), Trust()),
        (
            Latents(label=2),
            Files(backgrounds="#102030", image_format="jpeg", quality=80, alpha_bits=16, threshold=0.5),
            Trust(
                max_foreground_ratio=0.5,
                uncertainty="noise:1,mixing:2",
                ensemble=("a", "b"),
                max_uncertainty_quantile=0.9,
            ),
        ),
        (
            Latents(),
            Files(),
            Trust(min_foreground_ratio=0.0, max_components=2, min_discriminator_score_quantile=0.1, discriminator="d"),
        ),
    ],
)
@pytest.mark.parametrize("preset", [None, "paper"])
def test_flags_of_a_manifest_give_its_settings(flags, preset, monkeypatch):
    import tyro

    from labels4free.checkpoints import loading
    from labels4free.cli import sample

    config = settings_of(preset, *flags, Work(shard_size=7))
    words = sample_flags(as_json(config) | {"noise": "fixed"})
    given = {}
    monkeypatch.setattr(loading, "load_layered", lambda *a: (_ for _ in ()).throw(RuntimeError("far enough")))
    monkeypatch.setattr("labels4free.cli.sample.settings_of", lambda *a: given.setdefault("config", settings_of(*a)))
    refuses(RuntimeError, "far enough", tyro.cli, sample.run, args=["SOURCE", "--out", "x", "--num", "1", *words])
    assert given["config"] == config


def test_defaults_need_no_flags():
    assert sample_flags(as_json(SampleConfig())) == []
    assert sample_flags(as_json(PAPER)) == ["--preset", "paper"]


def test_what_is_no_data_set(tmp_path, refused):
    assert "is no data set: it has no manifest.json" in refused(["verify", str(tmp_path)])
