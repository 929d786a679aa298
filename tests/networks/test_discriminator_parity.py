"""NVIDIA's discriminators: labels, clamped activations and group sizes against the logits of the originals.

The weights follow the rules of the fixtures, so that this checks the network apart from any reader of files.
"""

from __future__ import annotations

import json
import re
import runpy

import numpy as np
import pytest
import torch

from labels4free.networks.discriminator import Discriminator, channels_by_resolution

TOLERANCE = 2e-5  # on logits of about 1
CLASSES = [0, 2, 1, 0, 0, 2, 1, 0]
HEAD = {"b4.conv.weight": "final_conv.0.weight", "b4.conv.bias": "final_conv.1.bias"}
TF_LAYERS = {"FromRGB": "fromrgb", "Conv0": "conv0", "Conv1_down": "conv1", "Skip": "skip"}
TF_HEAD = {"4x4/Conv": "b4.conv", "4x4/Dense0": "b4.fc", "Output": "b4.out"}


class Fixture:
    """One folder of files: the filling rules, the description, the expected arrays."""

    def __init__(self, shared, name):
        folder = shared / "fixtures"
        self.fill = runpy.run_path(str(folder / "fill.py"))
        self.describe = json.loads((folder / "nvlabs" / f"{name}.describe.json").read_text(encoding="utf-8"))
        with np.load(folder / "nvlabs" / f"{name}.expected.npz") as arrays:
            self.expected = {key: arrays[key] for key in arrays.files if key.startswith("D/")}

    def logits(self, network, images, n, labels=None):
        with torch.no_grad():
            return network(
                torch.from_numpy(self.fill["images"](images, 8, network.resolution)[:n]),
                None if labels is None else labels[:n],
            ).numpy()


def rosinality_key(key, resolution):
    """The name in this package of NVIDIA's tensor; None for the FIR kernels, which are constants."""
    if key.endswith("resample_filter"):
        return None
    if key in HEAD or key.startswith("mapping."):
        return HEAD.get(key, key)
    if match := re.fullmatch(r"b4\.(fc|out)\.(weight|bias)", key):
        return f"final_linear.{('fc', 'out').index(match[1])}.{match[2]}"
    side, layer, kind = re.fullmatch(r"b(\d+)\.(fromrgb|conv0|conv1|skip)\.(weight|bias)", key).groups()
    if layer == "fromrgb":
        assert int(side) == resolution
        return f"convs.0.{('weight', 'bias').index(kind)}.{kind}"
    block = f"convs.{resolution.bit_length() - int(side).bit_length() + 1}"
    if layer == "conv0":
        return f"{block}.conv1.{('weight', 'bias').index(kind)}.{kind}"
    return f"{block}.{'conv2' if layer == 'conv1' else 'skip'}.{('weight', 'bias').index(kind) + 1}.{kind}"


def load(network, state):
    """Fill the network from NVIDIA's names; everything but the FIR kernels must be given, and used."""
    ours = {rosinality_key(key, network.resolution): torch.from_numpy(np.asarray(v)) for key, v in state.items()}
    ours.pop(None, None)
    answer = network.load_state_dict(ours, strict=False)
    assert not answer.unexpected_keys
    assert all(key.endswith(".kernel") for key in answer.missing_keys)


def ada(fixture):
    kwargs = fixture.describe["init_kwargs"]["D"]
    size = kwargs["img_resolution"]
    network = Discriminator(
        size,
        channel_base=kwargs["channel_base"],
        channel_max=kwargs["channel_max"],
        stddev_group=kwargs["epilogue_kwargs"]["mbstd_group_size"],
        c_dim=kwargs["c_dim"],
        conv_clamp=kwargs["conv_clamp"],
    )
    load(network, fixture.fill["state"](fixture.describe["networks"]["D"]))
    return network


def assert_close(logits, expected, name):
    np.testing.assert_allclose(logits, expected, rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("name", ["ada_uncond", "ada_cond", "ada_fp16_clamp"])
def test_ada(shared, name):
    fixture = Fixture(shared, name)
    network = ada(fixture)
    labels = torch.nn.functional.one_hot(torch.tensor(CLASSES), 3).float() if network.c_dim else None
    assert sorted(fixture.expected) == ["D/logits_batch1", "D/logits_batch4", "D/logits_batch8"]
    for n in (1, 4, 8):
        logits = fixture.logits(network, f"nvlabs/{name}", n, labels)
        assert_close(logits, fixture.expected[f"D/logits_batch{n}"], f"{name}, {n} images")


def test_the_label_decides(shared):
    """The tolerance tells the classes apart, so that the test above can fail."""
    fixture = Fixture(shared, "ada_cond")
    labels = torch.eye(3)[[1]]
    logits = fixture.logits(ada(fixture), "nvlabs/ada_cond", 1, labels)
    assert abs(logits - fixture.expected["D/logits_batch1"]) > 100 * TOLERANCE


def test_the_limits_matter(shared):
    """Those that the fixture's maps reach: without one of them, or with another limit, the logits are others."""
    fixture = Fixture(shared, "ada_fp16_clamp")
    network = ada(fixture)
    expected = fixture.expected["D/logits_batch4"]
    for layer in (network.convs[0], network.convs[1].conv1, network.convs[1].conv2, network.convs[2].conv1):
        limit = layer.limit
        for wrong in (None, 0.9 * limit):
            layer.limit = wrong
            assert abs(fixture.logits(network, "nvlabs/ada_fp16_clamp", 4) - expected).max() > 10 * TOLERANCE
        layer.limit = limit


def tensorflow_state(fixture):
    """The variables of the TensorFlow network under NVIDIA's PyTorch names: transposed, never flipped."""
    tree = next(net for net in fixture.describe["networks_tree"] if net["name"] == "D")
    state = {}
    for name, shape, _ in tree["variables"]:
        if name == "lod":
            continue
        value = fixture.fill["fill"](name, shape, fixture.describe["salts"]["D"])
        layer, kind = name.rsplit("/", 1)
        if layer not in TF_HEAD:
            side, part = re.fullmatch(r"(\d+)x\1/(\w+)", layer).groups()
            layer = f"b{side}.{TF_LAYERS[part]}"
        value = value.transpose({4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[value.ndim]).copy()
        state[f"{TF_HEAD.get(layer, layer)}.{kind}"] = value
    return state


@pytest.mark.parametrize("group", [4, 8, 0])
def test_tensorflow(shared, group):
    fixture = Fixture(shared, "tf_stylegan2")
    kwargs = fixture.describe["converted_init_kwargs"]["D"]
    size = kwargs["img_resolution"]
    widths = channels_by_resolution(size, kwargs["channel_base"], kwargs["channel_max"])
    network = Discriminator(size, widths, stddev_group=group)
    load(network, tensorflow_state(fixture))
    for n in (1, 4):
        logits = fixture.logits(network, "nvlabs/tf", n)
        assert_close(logits, fixture.expected[f"D/logits_batch{n}"], f"{n} images")
    logits = fixture.logits(network, "nvlabs/tf", 8)
    assert_close(logits, fixture.expected[f"D/logits_batch8_group_of_{group or 8}"], "8 images")
