from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from tests.evaluation.generators.small_nets import SmallNet
from tests.networks.seeded_weights import fill
from tests.tiny import tiny_stylegan2
from tests.tiny_run import write_generator

from labels4free import cli
from labels4free.checkpoints.loading import load_alpha_network, load_generator
from labels4free.checkpoints.native import write_native
from labels4free.checkpoints.places import beside
from labels4free.evaluation.generators import feature_nets
from labels4free.generating.latent_files import read_latents, write_latents
from labels4free.networks.discriminator import Discriminator
from labels4free.networks.lpips import Lpips
from labels4free.pictures.pixels import to_uint8, write_png


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """A net of 12 features in the place of EfficientNet-Lite0."""
    load = feature_nets.load_feature_net
    monkeypatch.setattr(
        feature_nets,
        "load_feature_net",
        lambda name, *rest: SmallNet() if name == "efficientnet-lite0" else load(name, *rest),
    )


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def photo(tmp_path, tiny_generator):
    """A picture of the generator, wider than high."""
    square = to_uint8(tiny_generator.synthesize(tiny_generator.draw_ws(3, 0)).image)[0]
    write_png(tmp_path / "photo.png", np.pad(square, ((0, 0), (10, 10), (0, 0))))
    return tmp_path / "photo.png"


@pytest.fixture
def command(generator_file, out):
    def command(*words, steps=2):
        settings = ["--steps", str(steps), "--set", "mean_samples=20"]
        return ["project", "--generator", str(generator_file), "--out", str(out), *settings, *map(str, words)]

    return command


@pytest.mark.slow
def test_a_photo(command, photo, out, said, tiny_generator):
    code, printed, ours = said(*command(photo, steps=60))
    assert (code, ours) == (cli.SUCCESS, [])
    lines = printed.splitlines()
    assert lines[0].startswith(f"{photo}: PSNR ")
    assert "not aligned" in lines[1]
    assert lines[2] == f"Projections: {out}; to look at: {out / 'comparison.png'}"
    figures = json.loads((out / "photo" / "projection.json").read_text())
    assert figures["loss_last"] < figures["loss_first"] / 10
    assert figures["psnr"] > 20
    assert figures["steps"] == 60
    ws = read_latents(out / "photo" / "latents.npz", tiny_generator)
    with Image.open(out / "photo" / "projection.png") as picture:
        assert np.array_equal(np.array(picture), to_uint8(tiny_generator.synthesize(ws).image)[0])
    torch.testing.assert_close(read_latents(out / "photo" / "projection.pt", tiny_generator), ws)
    with Image.open(out / "photo" / "path.webp") as film:
        assert (film.n_frames, film.size) == (61, (128, 64))
    with Image.open(out / "comparison.png") as sheet:
        assert sheet.width > 3 * 256


def test_what_is_done_is_kept(command, photo, out, said):
    assert said(*command(photo))[0] == cli.SUCCESS
    before = (out / "photo" / "latents.npz").stat().st_mtime_ns
    code, printed, _ = said(*command(photo))
    assert (code, (out / "photo" / "latents.npz").stat().st_mtime_ns) == (cli.SUCCESS, before)
    assert "(from before)" in printed
    write_png(photo, np.full((64, 64, 3), 99, dtype=np.uint8))
    assert "from before" not in said(*command(photo))[1]
    code, _, ours = said(*command(photo, steps=3))
    assert code == cli.FAILURE
    assert ours == [f"{out} holds projections made with steps 2, asked for was 3: choose another output folder."]


def test_bad_photos_are_named_and_the_others_done(command, photo, out, said, tmp_path):
    text, dot = tmp_path / "text.png", tmp_path / "dot.png"
    text.write_text("no picture")
    write_png(dot, np.zeros((1, 1, 3), dtype=np.uint8))
    code, printed, ours = said(*command(text, dot, tmp_path / "none.png", photo, "--no-film"))
    assert code == cli.FAILURE
    assert ours == [
        f"There is no image at {tmp_path / 'none.png'}.",
        f"{text} cannot be read as an image (its format is unknown).",
        f"{dot} has 1x1 pixels, too few to find in a generator: 32 at least.",
    ]
    assert printed.startswith(f"{photo}: PSNR ")
    assert not (out / "photo" / "path.webp").exists()
    assert sorted(path.name for path in out.iterdir()) == ["comparison.png", "photo", "projections.json"]


def test_masks(command, photo, out, said, write_alpha, red_file):
    code, printed, _ = said(*command(photo, "--mask", "--alpha", write_alpha(2.5), "--model", red_file))
    assert code == cli.SUCCESS
    assert "IoU of the masks 0." in printed
    for name in ("mask.png", "photo_mask.png"):
        with Image.open(out / "photo" / name) as mask:
            assert mask.size == (64, 64)
            assert set(np.unique(np.array(mask))) <= {0, 255}
    with Image.open(out / "comparison.png") as sheet:
        assert sheet.width > 5 * 256


def test_rosinality_files_in_and_out(photo, out, said, tmp_path):
    tiny = tiny_stylegan2()
    generator = write_generator(tmp_path / "stylegan2.safetensors", tiny)
    words = ["project", photo, "--generator", generator, "--preset", "stylegan2", "--set", "mean_samples=20"]
    assert said(*words, "--out", out, "--steps", "3")[0] == cli.SUCCESS
    file = out / "photo" / "projection.pt"
    (name, entry), *_ = torch.load(file, weights_only=True).items()
    assert name == "photo.png"
    assert [tuple(entry[key].shape) for key in ("img", "latent")] == [(3, 64, 64), (8,)]
    assert [tuple(one.shape) for one in entry["noise"]] == [
        (1, 1, spec.resolution, spec.resolution) for spec in tiny.feature_specs
    ]
    ws = entry["latent"].expand(1, tiny.num_ws, -1)
    torch.testing.assert_close(tiny.synthesize(ws, noise=entry["noise"]).image[0], entry["img"])
    assert said(*words, "--out", tmp_path / "on", "--steps", "1", "--start", file)[0] == cli.SUCCESS  # at a rate of 0
    again = torch.load(tmp_path / "on" / "photo" / "projection.pt", weights_only=True)["photo.png"]
    torch.testing.assert_close(again, entry)


def test_without_noise_maps_the_file_has_the_generators_own(photo, out, said, tmp_path):
    tiny = tiny_stylegan2()
    generator = write_generator(tmp_path / "stylegan2.safetensors", tiny)
    words = ["project", photo, "--generator", generator, "--set", "mean_samples=20", "--out", out, "--steps", "2"]
    assert said(*words)[0] == cli.SUCCESS
    entry = torch.load(out / "photo" / "projection.pt", weights_only=True)["photo.png"]
    assert entry["latent"].shape == (tiny.num_ws, 8)
    torch.testing.assert_close(tiny.synthesize(entry["latent"][None], noise=entry["noise"]).image[0], entry["img"])


def test_an_interrupt_keeps_what_there_is(command, photo, out, said, monkeypatch):
    from labels4free.training_loop.interrupts import Interrupts

    class Pressed(Interrupts):
        @property
        def requested(self):
            return "SIGINT"

        @requested.setter
        def requested(self, value):
            pass

    with monkeypatch.context() as patched:
        patched.setattr("labels4free.training_loop.interrupts.Interrupts", Pressed)
        code, printed, _ = said(*command(photo))
    assert code == cli.INTERRUPTED
    assert ", stopped at step 1 of 2)" in printed
    assert (out / "photo" / "latents.npz").is_file()
    code, printed, _ = said(*command(photo))
    assert code == cli.SUCCESS
    assert "stopped" not in printed
    assert "from before" not in printed


def test_a_tuned_generator_is_a_checkpoint_that_gives_the_picture(
    command, photo, out, said, tmp_path, write_alpha, red_file, tiny_generator
):
    words = command(photo, "--tune", 2, "--set", "tune_learning_rate=0.01", "--no-film")
    masks = ["--mask", "--alpha", write_alpha(2.5), "--model", red_file]
    assert said(*words, *masks)[0] == cli.SUCCESS
    folder, seen = out / "photo", tmp_path / "seen"
    assert json.loads((folder / "projection.json").read_text())["steps"] == 4
    file = folder / "generator.safetensors"
    assert said("generate", file, "--latents", folder / "latents.npz", "--out", seen)[0] == cli.SUCCESS
    with Image.open(seen / "latent00000.png") as made, Image.open(folder / "projection.png") as picture:
        assert np.array_equal(np.array(made), np.array(picture))
    tuned, ws = load_generator(file), read_latents(folder / "latents.npz", tiny_generator)
    assert not torch.equal(tuned.synthesize(ws).image, tiny_generator.synthesize(ws).image)
    alpha = load_alpha_network(write_alpha(2.5))(tuned.synthesize(ws).features)[0, 0]
    with Image.open(folder / "mask.png") as mask:
        assert np.array_equal(np.array(mask) > 127, alpha.detach().numpy() > 0.5)
    assert "(from before)" in said(*words, *masks)[1]
    file.unlink()
    assert "(from before)" not in said(*words, *masks)[1]
    assert file.is_file()


def test_each_photo_starts_at_its_own_latents(command, photo, out, said, tmp_path, tiny_generator):
    second = tmp_path / "second.png"
    second.write_bytes(photo.read_bytes())
    starts = [tiny_generator.draw_ws(seed, 0) for seed in (5, 6)]
    write_latents(tmp_path / "two.npz", starts, [5, 6], tiny_generator.w_avg)
    words = command(photo, second, "--start", tmp_path / "two.npz", "--no-film", steps=1)  # whose rate is 0
    assert said(*words)[0] == cli.SUCCESS
    for name, ws in zip(("photo", "second"), starts, strict=True):
        torch.testing.assert_close(read_latents(out / name / "latents.npz", tiny_generator), ws.contiguous())


def test_the_users_lpips_takes_the_place_of_efficientnet(command, photo, out, said, monkeypatch, tmp_path):
    file, load = tmp_path / "lpips.pth", feature_nets.load_feature_net
    file.touch()
    net = feature_nets.LpipsDistance(fill(Lpips()).requires_grad_(False))
    monkeypatch.setattr(feature_nets, "load_feature_net", lambda name, *rest: net if name == str(file) else load(name))
    assert said(*command(photo, "--lpips", file, "--no-film"))[0] == cli.SUCCESS
    assert json.loads((out / "projections.json").read_text())["perceptual network"] == net.identity
    assert "distance_Small" in json.loads((out / "photo" / "projection.json").read_text())


def test_the_discriminator_beside_the_generator_takes_part(photo, out, said, tmp_path):
    generator = write_generator(tmp_path / "g.safetensors", tiny_stylegan2())
    network = fill(Discriminator(64, channel_base=512, channel_max=16))
    write_native(
        beside(generator, "discriminator"),
        kind="discriminator",
        family="stylegan2",
        config=network.config(),
        state=network.state_dict(),
    )
    words = ["project", photo, "--generator", generator, "--set", "mean_samples=20", "--steps", "1", "--no-film"]
    assert said(*words, "--out", out)[0] == cli.SUCCESS
    assert json.loads((out / "projections.json").read_text())["discriminator's maps"] is True
    assert said(*words, "--out", tmp_path / "b", "--set", "discriminator=0")[0] == cli.SUCCESS
    assert json.loads((tmp_path / "b" / "projections.json").read_text())["discriminator's maps"] is False
    losses = [json.loads((d / "photo" / "projection.json").read_text())["loss_first"] for d in (out, tmp_path / "b")]
    assert losses[0] > losses[1] + 0.01


BAD = [
    ("", "Give photos: files"),
    ("no.png", "There is no image at no.png"),
    ("PHOTO --preset x", "Unknown preset 'x' of projections; there are default, stylegan2"),
    ("PHOTO --set learning_rate=nan", "learning_rate must be float, got nan"),
    ("PHOTO --tune -1", "tune_steps must be at least 0"),
    ("PHOTO --set x=1", "Unknown setting 'x'"),
    ("PHOTO --start no.npz", "There is no file of latents at no.npz"),
    ("PHOTO --lpips no.pth", "There is no file of LPIPS at no.pth"),
    ("PHOTO --mask", "No alpha network ships for"),
    ("PHOTO --alpha x", "--alpha is for --mask"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_values_are_one_sentence_and_write_nothing(command, photo, words, message, refused):
    assert message in refused(command(*[str(photo) if word == "PHOTO" else word for word in words.split()]))


def test_latents_that_do_not_fit_are_refused(command, photo, refused, tmp_path, tiny_generator):
    file, ws = tmp_path / "latents.npz", tiny_generator.draw_ws(0, 0)
    write_latents(file, [torch.zeros(1, 14, 512)], [-1], torch.zeros(512))
    assert "this generator takes [N, 11, 8]" in refused(command(photo, "--start", file))
    write_latents(file, [ws * math.nan], [-1], torch.zeros(8))
    assert "not all finite" in refused(command(photo, "--start", file))
    write_latents(file, [ws, ws], [-1, -1], torch.zeros(8))
    assert "Give latents of 1 photo to start at, got 2." in refused(command(photo, "--start", file))
    other = tmp_path / "other.pt"
    torch.save({"a.png": {"latent": torch.zeros(8), "noise": [torch.zeros(1, 1, 4, 4)]}}, other)
    assert f"{other} is a projection into another generator. Noise maps" in refused(command(photo, "--start", other))
    torch.save({"a.png": {"latent": torch.zeros(8), "noise": "x"}}, other)
    assert "should be a list of maps" in refused(command(photo, "--start", other))
