from __future__ import annotations

import re

import pytest
import torch
from tests.networks.seeded_weights import fill
from torch.nn import functional as F

from labels4free.checkpoints.model_zoo import model_path
from labels4free.checkpoints.native import write_native
from labels4free.checkpoints.places import beside
from labels4free.errors import CheckpointError, ConfigError
from labels4free.evaluation.generators.feature_nets import (
    DiscriminatorFeatures,
    EfficientNetFeatures,
    LpipsDistance,
    load_feature_net,
)
from labels4free.metrics.perceptual import perceptual_distance
from labels4free.networks.discriminator import Discriminator
from labels4free.networks.efficientnet_lite import EfficientNetLite0
from labels4free.networks.inception import InceptionV3
from labels4free.networks.lpips import Lpips


@pytest.fixture(scope="module")
def efficientnet():
    return EfficientNetFeatures(fill(EfficientNetLite0()))


def images(side, count=2):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(7)) * 2 - 1


def test_names_of_figures(efficientnet):
    names = [efficientnet.figure(kind) for kind in ("fid", "kid", "is", "ppl", "precision", "recall")]
    words = ["FD", "KID", "IS", "PPL", "Precision", "Recall"]
    assert names == [f"{word}-EffLite0" for word in words]
    discriminator = DiscriminatorFeatures(Discriminator(16, channels={4: 6, 8: 5, 16: 4}).eval())
    assert (discriminator.figure("fid"), discriminator.width) == ("FD-D", 6)


def test_images_are_resized_as_stated(efficientnet):
    x = images(300)
    small = F.interpolate(x, size=(224, 224), mode="bicubic", antialias=True).clamp(-1, 1)
    torch.testing.assert_close(efficientnet.features(x), efficientnet.network.features(small))
    x = images(224)
    torch.testing.assert_close(efficientnet.features(x), efficientnet.network.features(x))
    torch.testing.assert_close(efficientnet.logits(efficientnet.features(x)), efficientnet.network(x))


def test_distance(efficientnet):
    one, other = images(64, 3), images(64, 3).roll(1, 0)
    distance = efficientnet.distance(one, other)
    assert distance.shape == (3,)
    assert distance.min() > 0.01
    torch.testing.assert_close(efficientnet.distance(other, one), distance)
    assert efficientnet.distance(one, one).max() == 0


def test_distance_to_one_image(efficientnet):
    target, x = images(64, 1), images(64, 3).roll(1, 0).requires_grad_()
    found = efficientnet.distance_to(target)(x)
    torch.testing.assert_close(found, efficientnet.distance(x, target.expand(3, -1, -1, -1)))
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
    lpips = LpipsDistance(fill(Lpips()).requires_grad_(False))
    torch.testing.assert_close(lpips.distance_to(target)(x), lpips.distance(x, target.expand(3, -1, -1, -1)))


def test_distance_by_the_maps_of_the_discriminator():
    net = DiscriminatorFeatures(Discriminator(16, channels={4: 6, 8: 5, 16: 4}).eval().requires_grad_(False))
    x = images(32)
    assert [m.shape[1:] for m in net.maps(x)] == [(5, 8, 8), (6, 4, 4)]
    torch.testing.assert_close(
        net.distance_to(x[:1])(x), perceptual_distance(net.maps(x), [m[:1] for m in net.maps(x)])
    )
    assert net.distance_to(x[:1])(x)[1] > 0.01


def test_discriminator_sees_images_box_filtered():
    network = Discriminator(16, channels={4: 6, 8: 5, 16: 4}).eval().requires_grad_(False)
    net = DiscriminatorFeatures(network)
    x = images(32)
    features = net.features(x)
    assert features.shape == (2, 6)
    torch.testing.assert_close(net.features(F.avg_pool2d(x, 2)), features)
    torch.testing.assert_close(net.features(x[1:]), features[1:])  # alone or not
    with pytest.raises(ConfigError, match="images of 16x16 pixels or a multiple; these have 24"):
        net.features(images(24))
    for kind, text in (("is", "D cannot give an inception score; take"), ("ppl", "D cannot give a path length; take")):
        with pytest.raises(ConfigError, match=text):
            net.require(kind)
    net.require("fid")


def test_the_users_inception(tmp_path):
    path = tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    torch.save(fill(InceptionV3()).state_dict(), path)
    net = load_feature_net(str(path))
    names = [net.figure(kind) for kind in ("fid", "kid", "is", "precision", "ppl")]
    assert names == ["FID", "KID", "IS", "Precision-Inception", "PPL-Inception"]
    x = images(40)
    features = net.features(x)
    assert features.shape == (2, net.width) == (2, 2048)
    torch.testing.assert_close(net.logits(features), net.network(x))
    with pytest.raises(ConfigError, match="Inception cannot give a path length; take efficientnet-lite0 or LPIPS"):
        net.require("ppl")


def test_the_users_lpips(tmp_path):
    network = fill(Lpips())
    path = tmp_path / "lpips.pth"
    state = {re.sub(r"(lin\d)", r"\1.model.1", name): value for name, value in network.state_dict().items()}
    torch.save(state, path)
    net = load_feature_net(str(path))
    assert (net.figure("ppl"), net.kinds) == ("PPL", ("ppl",))
    one, other = images(32), images(32).flip(0)
    torch.testing.assert_close(net.distance(one, other), network(one, other))
    with pytest.raises(ConfigError, match="LPIPS cannot give a Fréchet distance; take efficientnet-lite0, discr"):
        net.require("fid")


def test_identity_is_that_of_the_weights(efficientnet):
    assert EfficientNetFeatures(fill(EfficientNetLite0())).identity == efficientnet.identity
    assert EfficientNetFeatures(fill(EfficientNetLite0(), seed=1)).identity != efficientnet.identity


def test_load_what_was_fetched(efficientnet, monkeypatch):
    monkeypatch.setattr("labels4free.evaluation.generators.feature_nets.fetch", model_path)
    state = efficientnet.network.state_dict()
    path = model_path("efficientnet-lite0")
    write_native(path, kind="feature_network", family="efficientnet-lite0", config={}, state=state)
    assert load_feature_net("efficientnet-lite0").identity == efficientnet.identity


def test_what_cannot_be_loaded(generator, tmp_path):
    with pytest.raises(
        ConfigError, match="No file or features 'vgg': give efficientnet-lite0, discriminator, or the file"
    ):
        load_feature_net("vgg")
    with pytest.raises(ConfigError, match="discriminator need the generator that it belongs to, got none"):
        load_feature_net("discriminator")
    path = tmp_path / "g.safetensors"
    write_native(path, kind="generator", family="stylegan2", config=generator.config(), state=generator.state_dict())
    with pytest.raises(CheckpointError, match="is a generator without a discriminator"):
        load_feature_net("discriminator", str(path))


def test_the_discriminator_beside_a_generator(generator, tmp_path):
    path, network = tmp_path / "g.safetensors", Discriminator(64, dict.fromkeys((4, 8, 16, 32, 64), 5))
    for file, kind, module in (
        (path, "generator", generator),
        (beside(path, "discriminator"), "discriminator", network),
    ):
        write_native(file, kind=kind, family="stylegan2", config=module.config(), state=module.state_dict())
    net = load_feature_net("discriminator", str(path))
    assert (net.figure("fid"), net.width) == ("FD-D", 5)
    assert not net.features(images(64)).requires_grad
