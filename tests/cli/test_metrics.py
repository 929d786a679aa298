"""Generators measured by command line."""

from __future__ import annotations

import json

import pytest
from tests.evaluation.generators.small_nets import SmallNet, write_images
from tests.tiny import tiny_stylegan2

from labels4free.checkpoints.native import write_native
from labels4free.cli import main
from labels4free.evaluation.generators import feature_nets


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """A net of 12 features in the place of EfficientNet-Lite0, and an empty cache."""
    monkeypatch.setenv("LABELS4FREE_HOME", str(tmp_path / "cache"))
    load = feature_nets.load_feature_net
    monkeypatch.setattr(
        feature_nets,
        "load_feature_net",
        lambda name, *rest: SmallNet() if name == "efficientnet-lite0" else load(name, *rest),
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return str(write_images(tmp_path_factory.mktemp("photos")))


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    path, tiny = tmp_path_factory.mktemp("generator") / "g.safetensors", tiny_stylegan2()
    write_native(path, kind="generator", family="stylegan2", config=tiny.config(), state=tiny.state_dict())
    return str(path)


def test_a_generator(capsys, generator, photos, tmp_path):
    path = tmp_path / "figures.json"
    words = ["--metric", "fid20", "kid10", "ppl2_wend_4", "--seeds", "2", "--psi", "0.9", "--json", str(path)]
    assert main(["metrics", generator, "--data", photos, *words]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in out[:3]] == [
        "FD-Small (fid20)", "KID-Small (kid10)", "PPL-Small (ppl2_wend_4)"
    ]  # fmt: skip
    assert out[0].endswith("(2 seeds)   20 images beside 20 real")
    assert out[2].endswith("4 pairs")
    assert out[-1] == f"Figures: {path}"
    written = json.loads(path.read_text())
    assert written["generator"]["name"] == generator
    assert written["data"]["images"] == 40
    assert written["settings"]["truncation_psi"] == 0.9
    assert len(written["figures"][0]["values"]) == 2
    assert f"{written['figures'][0]['mean']:.3f} ±" in out[0]


def test_samples(capsys, photos, tmp_path):
    samples = str(write_images(tmp_path / "samples", count=12, side=48, seed=3))
    assert main(["metrics", "--samples", samples, "--data", photos, "--metric", "fid20"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("FD-Small (fid20)\t")
    assert "fid20: only 12 of 20 samples are there." in out
    assert "12 generated images are no more than its 12 features. Take kid20, which is unbiased." in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Give a GENERATOR, or --samples IMAGES in its place."),
        (["{generator}", "--samples", "{photos}"], "Give a GENERATOR, or --samples IMAGES in its place."),
        (["{generator}"], "fid20 compares with real images: say where they are."),
        (["{generator}", "--data", "gone"], "gone does not exist"),
        (["{generator}", "--data", "{photos}", "--features", "vgg"], "No file or features 'vgg': give"),
        (
            ["{generator}", "--data", "{photos}", "--features", "discriminator"],
            "is a generator without a discriminator",
        ),
        (["{generator}", "--data", "{photos}", "--resolution", "32"], "--resolution is for --samples"),
        (["--samples", "{photos}", "--data", "{photos}", "--seeds", "2"], "--seeds and --truncation-psi are for gen"),
        (["nothing", "--data", "{photos}"], "nothing is neither a file nor a model of the zoo"),
        (["{generator}", "--data", "{photos}", "--metric", "fid"], "Unknown metric 'fid'; the metrics are fid50k_full"),
        (["{generator}", "--data", "{photos}", "--seeds", "0"], "seeds must"),
        (["{generator}", "--data", "{photos}", "--device", "tpu"], "tpu"),
    ],
)
def test_bad_input_is_one_sentence(capsys, generator, photos, words, message):
    words = [word.format(generator=generator, photos=photos) for word in words]
    metric = [] if "--metric" in words else ["--metric", "fid20"]
    assert main(["metrics", *words, *metric]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err
