from __future__ import annotations

import pytest
import torch
from tests.tiny import tiny_generator, tiny_stylegan2
from tests.tiny_generator_run import changed
from tests.tiny_run import write_generator

from labels4free.checkpoints.loading import read_checkpoint
from labels4free.checkpoints.native import write_native
from labels4free.checkpoints.places import beside
from labels4free.checkpoints.state_hash import state_hash
from labels4free.errors import CheckpointError, ConfigError
from labels4free.networks.discriminator import Discriminator
from labels4free.networks.merge_network import MergeNetwork
from labels4free.training.generator.first_networks import first_networks, freeze_blocks

CHANNELS = {4: 8, 8: 8, 16: 6, 32: 4}
ROSINALITY = "rosinality/tiny_train_checkpoint.pt"
NVIDIA = "nvlabs/ada_uncond.pkl"
UNASKED = ("channel_base", "channel_max", "z_dim", "w_dim")
OF_CLASSES = "nvlabs/ada_cond.pkl"


@pytest.fixture(scope="module")
def parent():
    """A generator of 32x32 pixels."""
    return tiny_stylegan2(channels=CHANNELS)


@pytest.fixture(scope="module")
def judge():
    torch.manual_seed(7)
    return Discriminator(32, {**CHANNELS, 8: 7})  # of widths of its own


@pytest.fixture(scope="module")
def alone(parent, tmp_path_factory):
    """The parent's file, without a discriminator."""
    return write_generator(tmp_path_factory.mktemp("alone") / "g.safetensors", parent)


@pytest.fixture(scope="module")
def both(parent, judge, tmp_path_factory):
    """The parent's file, with the discriminator's beside it."""
    path = write_generator(tmp_path_factory.mktemp("both") / "g.safetensors", parent)
    config, state = judge.config(), judge.state_dict()
    write_native(beside(path, "discriminator"), kind="discriminator", family="stylegan2", config=config, state=state)
    return path


def transfer(path, resolution=32, restart=0, c_dim=0, network=None, **changes):
    """What training begins with at that resolution; of the widths nothing is asked."""
    config = changed(pretrained=str(path), resolution=resolution, **changes)
    own = dict.fromkeys(UNASKED) | (network or {})
    return first_networks(changed(config, network=own), restart, c_dim=c_dim)


def assert_taken(network, source, names):
    """The network has the source's tensors of these names, and others under the rest."""
    own, theirs = network.state_dict(), source.state_dict()
    names = set(names)
    assert names
    for name in names:
        assert torch.equal(own[name], theirs[name]), name
    for name in own.keys() & theirs.keys() - names:
        alike = own[name].shape == theirs[name].shape and torch.equal(own[name], theirs[name])
        assert not alike or not own[name].any() or name.endswith(("kernel", "affine.bias")), name


# Random weights


def test_random_weights_depend_on_seed_and_restart_alone():
    torch.manual_seed(1)
    one, before = first_networks(changed()), torch.get_rng_state()
    torch.manual_seed(2)
    again = first_networks(changed())
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), before)  # neither drawn from nor seeded
    for part in ("generator", "discriminator"):
        assert state_hash(getattr(one, part)) == state_hash(getattr(again, part))
        for other in (first_networks(changed(seed=1)), first_networks(changed(), 1)):
            assert state_hash(getattr(other, part)) != state_hash(getattr(one, part))
    assert one.notes == ()


def test_random_weights_are_pinned():
    generator, discriminator, _ = first_networks(changed(seed=3))
    assert generator.constant[0, 0, 0, :3].tolist() == pytest.approx([0.3014795, -0.6707987, 0.1599399])
    from_rgb = discriminator.convs[0][0].weight[0, :, 0, 0]
    assert from_rgb.tolist() == pytest.approx([-1.4961534, -0.8891922, 0.0726186])


def test_both_are_trainable_and_of_one_width():
    generator, discriminator, _ = first_networks(changed())
    assert generator.channels == {4: 8, 8: 8, 16: 4} == discriminator.channels
    assert all(weight.requires_grad for weight in (*generator.parameters(), *discriminator.parameters()))
    assert {"constant", "blocks.b16.conv1.weight"} <= dict(generator.named_parameters()).keys()
    assert (generator.z_dim, generator.w_dim, generator.mapping_widths) == (8, 8, (8, 8))
    assert generator.conv_clamp is discriminator.conv_clamp is None


@pytest.mark.slow
@pytest.mark.parametrize(("resolution", "finest"), [(256, {256: 64, 128: 65}), (512, {512: 64, 256: 65})])
def test_without_a_base_widths_double_from_512_pixels_on(resolution, finest):
    networks = first_networks(changed(resolution=resolution, network={"channel_base": None, "channel_max": 65}))
    assert finest.items() <= networks.generator.channels.items()
    assert networks.discriminator.channels == networks.generator.channels


def test_sizes_that_are_asked_for():
    config = changed(network={"w_dim": 6, "z_dim": 4, "mapping_layers": 3, "stddev_group": 2, "conv_clamp": 9.0})
    generator, discriminator, _ = first_networks(config)
    assert (generator.z_dim, generator.w_dim, generator.mapping_widths) == (4, 6, (6, 6, 6))
    assert (discriminator.stddev_group, discriminator.conv_clamp, generator.conv_clamp) == (2, 9.0, 9.0)


def test_activations_are_limited_where_float16_is_computed_in():
    for part in first_networks(changed(), half=True)[:2]:
        assert part.conv_clamp == 256
    for part in first_networks(changed(network={"conv_clamp": 8.0}), half=True)[:2]:
        assert part.conv_clamp == 8


@pytest.mark.parametrize(("asked", "half", "limit"), [(None, False, None), (None, True, 256), (8.0, True, 8)])
def test_a_checkpoint_s_activations_are_limited_where_they_must_be(both, asked, half, limit):
    config = changed(pretrained=str(both), resolution=32, network=dict.fromkeys(UNASKED) | {"conv_clamp": asked})
    for part in first_networks(config, half=half)[:2]:
        assert part.conv_clamp == limit


def test_a_checkpoint_s_own_limit_is_kept(tmp_path):
    path = write_generator(tmp_path / "g.safetensors", tiny_stylegan2(channels=CHANNELS, conv_clamp=1.5))
    for part in transfer(path)[:2]:
        assert part.conv_clamp == 1.5


def test_classes():
    generator, discriminator, _ = first_networks(changed(), c_dim=3)
    assert (generator.c_dim, discriminator.c_dim) == (3, 3)


# From a checkpoint of the same resolution


def test_all_of_a_checkpoint_is_taken(both, parent, judge):
    generator, discriminator, notes = transfer(both)
    assert state_hash(generator.freeze()) == state_hash(parent)
    assert state_hash(discriminator) == state_hash(judge)
    assert notes == (f"The generator begins as that of {both}.", f"The discriminator begins as that of {both}.")
    assert discriminator.channels == judge.channels


def test_both_are_trainable_afterwards(both):
    generator, discriminator, _ = transfer(both)
    assert len(list(generator.parameters())) > 10
    assert all(weight.requires_grad for weight in (*generator.parameters(), *discriminator.parameters()))


def test_a_checkpoint_without_a_discriminator(alone, parent):
    generator, discriminator, notes = transfer(alone)
    assert state_hash(generator.freeze()) == state_hash(parent)
    assert notes == (
        f"The generator begins as that of {alone}.",
        f"{alone} has no discriminator: it begins with random weights.",
    )
    assert discriminator.channels == parent.channels
    again, other = transfer(alone).discriminator, transfer(alone, restart=1).discriminator
    assert state_hash(again) == state_hash(discriminator) != state_hash(other)


def test_a_restart_begins_with_the_same(both, parent):
    assert state_hash(transfer(both, restart=1).generator.freeze()) == state_hash(parent)


@pytest.mark.slow
@pytest.mark.parametrize("name", [ROSINALITY, NVIDIA])
def test_all_of_another_project_s_checkpoint_is_taken(shared, name):
    path = shared / "fixtures" / name
    found = read_checkpoint(path)
    generator, discriminator, notes = transfer(path, found.generator.resolution)
    assert state_hash(generator.freeze()) == state_hash(found.generator)
    assert state_hash(discriminator) == state_hash(found.discriminator)
    assert all(note.endswith(f"begins as that of {path}.") for note in notes)


@pytest.mark.slow
def test_a_checkpoint_of_classes_for_images_without(shared):
    path = shared / "fixtures" / OF_CLASSES
    found = read_checkpoint(path)
    generator, discriminator, notes = transfer(path)
    assert generator.c_dim == discriminator.c_dim == 0
    theirs, own = found.generator.state_dict(), generator.state_dict()
    first = next(name for name in own if own[name].shape != theirs[name].shape)
    assert first == "mapping.0.weight"
    rest = own.keys() - {first}
    assert all(torch.equal(own[name], theirs[name]) for name in rest)
    new = own[first].numel()
    assert (
        notes[0]
        == f"The generator begins as that of {path}, as far as the two are alike; {new:,} of its numbers are new."
    )
    assert torch.equal(discriminator.convs[1].conv1[0].weight, found.discriminator.convs[1].conv1[0].weight)
    assert discriminator(torch.zeros(2, 3, 32, 32)).shape == (2, 1)


@pytest.mark.slow
def test_classes_as_many_as_the_checkpoint_has(shared):
    path = shared / "fixtures" / OF_CLASSES
    found = read_checkpoint(path)
    generator, discriminator, _ = transfer(path, c_dim=3)
    assert state_hash(generator.freeze()) == state_hash(found.generator)
    assert state_hash(discriminator) == state_hash(found.discriminator)


# At another resolution


def test_at_a_higher_resolution_coarse_blocks_are_kept(both, parent, judge):
    generator, discriminator, notes = transfer(both, 64)
    assert generator.channels == {**CHANNELS, 64: 4}  # no wider than the finest that is there
    assert discriminator.channels == {**judge.channels, 64: 4}
    assert_taken(generator, parent, parent.state_dict())
    new = [value for name, value in generator.state_dict().items() if name.startswith("blocks.b64.")]
    assert len(new) > 5
    assert notes[0] == (
        f"The generator begins as that of {both}, as far as the two are alike; {sum(v.numel() for v in new):,} of its "
        "numbers are new."
    )
    # block k of 32 pixels is block k + 1 of 64
    for k in (1, 2, 3):
        ours, theirs = discriminator.convs[k + 1].state_dict(), judge.convs[k].state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), k
    for name in ("final_conv", "final_linear"):
        ours, theirs = (getattr(network, name).state_dict() for network in (discriminator, judge))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not torch.equal(discriminator.convs[0][0].weight, judge.convs[0][0].weight)  # of another resolution
    new = sum(p.numel() for k in (0, 1) for p in discriminator.convs[k].state_dict().values())
    assert notes[1].endswith(f"as far as the two are alike; {new:,} of its numbers are new.")
    assert discriminator(generator.synthesize(generator.map(torch.ones(2, 8))).image).shape == (2, 1)


@pytest.mark.parametrize(("resolution", "shift"), [(16, 1), (8, 2)])
def test_at_a_lower_resolution_coarse_blocks_are_kept(both, parent, judge, resolution, shift):
    generator, discriminator, notes = transfer(both, resolution)
    assert generator.channels == {size: count for size, count in CHANNELS.items() if size <= resolution}
    assert_taken(generator, parent, generator.state_dict())
    assert notes[0] == f"The generator begins as that of {both}."
    blocks = len(discriminator.convs)
    assert blocks == len(judge.convs) - shift
    for k in range(1, blocks):
        ours, theirs = discriminator.convs[k].state_dict(), judge.convs[k + shift].state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), k
    for name in ("final_conv", "final_linear"):
        ours, theirs = (getattr(network, name).state_dict() for network in (discriminator, judge))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    new = sum(p.numel() for p in discriminator.convs[0].state_dict().values())
    assert notes[1].endswith(f"; {new:,} of its numbers are new.")
    assert discriminator(generator.synthesize(generator.map(torch.ones(2, 8))).image).shape == (2, 1)


def test_coarse_maps_are_those_of_the_parent(both, parent):
    generator = transfer(both, 16).generator.freeze()
    z = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    ours = generator.synthesize(generator.map(z)).features
    theirs = parent.synthesize(parent.map(z)).features
    torch.testing.assert_close(ours, theirs[: len(ours)])


def test_new_blocks_depend_on_seed_and_restart(alone):
    names = ("blocks.b64.conv1.weight", "blocks.b64.to_rgb.weight")
    first, again, other, restart = (
        transfer(alone, 64, **changes).generator.state_dict() for changes in ({}, {}, {"seed": 1}, {"restart": 1})
    )
    for name in names:
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])
        assert not torch.equal(first[name], restart[name])


@pytest.mark.slow
@pytest.mark.parametrize("resolution", [16, 64])
def test_another_project_s_checkpoint_at_another_resolution(shared, resolution):
    path = shared / "fixtures" / ROSINALITY
    found = read_checkpoint(path)
    generator, discriminator, _ = transfer(path, resolution)
    shift = {16: -1, 64: 1}[resolution]
    assert torch.equal(generator.blocks["b8"].conv0.weight, found.generator.blocks["b8"].conv0.weight)
    ours, theirs = discriminator.convs[2 + shift].state_dict(), found.discriminator.convs[2].state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert generator.resolution == discriminator.resolution == resolution


# Refusals


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"z_dim": 9}, "has 8 where the settings ask for network.z_dim = 9: leave that out, and the file's is taken."),
        ({"w_dim": 9}, "has 8 where the settings ask for network.w_dim = 9: leave that out"),
        ({"mapping_layers": 3}, "has 2 where the settings ask for network.mapping_layers = 3: leave that out"),
        (
            {"channel_base": 64},
            "network.channel_base and network.channel_max, that is channels = {4: 16, 8: 8, 16: 4, 32: 2}",
        ),
        ({"channel_max": 8}, "that is channels = {4: 8, 8: 8, 16: 8, 32: 8}: leave that out"),
    ],
)
def test_widths_that_are_not_the_checkpoint_s(both, network, said):
    with pytest.raises(ConfigError) as caught:
        transfer(both, network=network)
    assert str(caught.value).startswith(str(both))
    assert said in str(caught.value)


def test_widths_that_are_the_checkpoint_s_may_be_asked_for(tmp_path):
    channels = {4: 8, 8: 8, 16: 4, 32: 2}
    path = write_generator(tmp_path / "g.safetensors", tiny_stylegan2(channels=channels))
    own = {"channel_base": 64, "channel_max": 8, "z_dim": 8, "w_dim": 8, "mapping_layers": 2}
    assert transfer(path, network=own).generator.channels == channels


def test_another_family_is_not_begun_with(tmp_path):
    path = write_generator(tmp_path / "g.safetensors", tiny_generator())
    with pytest.raises(CheckpointError) as caught:
        transfer(path)
    assert str(caught.value) == (
        f"{path} holds a generator of the family mobile_stylegan; training begins with a StyleGAN2."
    )


def test_a_file_without_a_generator(tmp_path, parent):
    network, path = MergeNetwork(parent.feature_specs, 32, width=4), tmp_path / "alpha.safetensors"
    config, state = network.config(), network.state_dict()
    write_native(path, kind="alpha_network", family="merge", config=config, state=state)
    with pytest.raises(CheckpointError) as caught:
        transfer(path)
    assert str(caught.value) == f"{path} holds no generator; training begins with a StyleGAN2."


@pytest.mark.parametrize("name", ["none.safetensors", "damaged.safetensors"])
def test_a_file_that_is_none(tmp_path, name):
    (tmp_path / "damaged.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=name):
        transfer(tmp_path / name)


# Frozen blocks


def test_blocks_are_frozen_from_the_image_on():
    discriminator = first_networks(changed()).discriminator
    freeze_blocks(discriminator, 0)
    assert all(weight.requires_grad for weight in discriminator.parameters())
    freeze_blocks(discriminator, 2)
    frozen = {name.split(".")[1] for name, weight in discriminator.named_parameters() if not weight.requires_grad}
    assert frozen == {"0", "1"}
    assert all(weight.requires_grad for weight in discriminator.convs[2].parameters())
    assert all(weight.requires_grad for weight in discriminator.final_conv.parameters())
    with pytest.raises(ConfigError, match=r"must be below 3, the blocks of a discriminator of 16 pixels, got 3\."):
        freeze_blocks(discriminator, 3)
