from __future__ import annotations

import copy
import os

import numpy as np
import pytest
import torch
from tests.checkpoints.ir_writer import ir_files, mapping_ir, synthesis_ir
from tests.tiny import tiny_generator as build_tiny_generator

from labels4free.checkpoints import model_zoo
from labels4free.checkpoints.foreign.openvino_ir import mobile_stylegan_from_openvino
from labels4free.errors import CheckpointError


@pytest.fixture
def mapping(tiny_generator):
    return mapping_ir(tiny_generator)


@pytest.fixture
def synthesis(tiny_generator):
    return synthesis_ir(tiny_generator)


def convert(mapping, synthesis):
    return mobile_stylegan_from_openvino(*mapping.files(), *synthesis.files())


@pytest.mark.slow
def test_every_weight_comes_back(tiny_generator):
    converted = mobile_stylegan_from_openvino(*ir_files(tiny_generator))
    assert converted.config() == tiny_generator.config()
    assert not converted.training
    expected = tiny_generator.state_dict()
    for name, value in converted.state_dict().items():
        if name != "w_avg" and not name.endswith("noise_strength"):
            assert torch.equal(value, expected[name]), name


def test_image_is_the_same(tiny_generator):
    converted = mobile_stylegan_from_openvino(*ir_files(tiny_generator))
    ws = tiny_generator.map(torch.randn(2, 8, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(converted.synthesize(ws).image, tiny_generator.synthesize(ws).image)


def test_noise_strength_is_the_deviation_of_the_map(tiny_generator):
    generator = copy.deepcopy(tiny_generator)
    noise = torch.full((1, 1, 8, 8), 3.0)
    noise[..., ::2] = -1.0  # mean 1, each two away from it
    generator.blocks[0].conv1.noise.copy_(noise)
    converted = mobile_stylegan_from_openvino(*ir_files(generator))
    assert converted.blocks[0].conv1.noise_strength.item() == 2.0
    assert converted.conv1.noise_strength.item() == pytest.approx(generator.conv1.noise.numpy().std(), rel=1e-6)


def test_w_avg_is_the_mean_of_ten_thousand(tiny_generator):
    converted = mobile_stylegan_from_openvino(*ir_files(tiny_generator))
    z = np.random.Generator(np.random.PCG64(0)).standard_normal((10_000, 8), np.float32)
    mean = tiny_generator.map(torch.from_numpy(z))[:, 0].mean(0)
    assert converted.w_avg.dtype == torch.float32
    assert converted.w_avg.abs().max() > 0.01
    torch.testing.assert_close(converted.w_avg, mean, rtol=0, atol=1e-5)


def test_other_depths_and_widths_are_read_from_the_tensors():
    generator = type(build_tiny_generator())((4, 8), z_dim=4, mapping_layers=1)
    rng = torch.Generator().manual_seed(0)
    for value in generator.state_dict().values():
        value.copy_(torch.randn(value.shape, generator=rng))
    converted = mobile_stylegan_from_openvino(*ir_files(generator))
    assert (converted.channels, converted.z_dim, converted.mapping_layers) == ((4, 8), 4, 1)
    assert converted.resolution == 16


WRONG_CONSTANTS = [
    ("mapping", "two", 3.0, "expected the constant [2.0], not [3.0]"),
    ("mapping", "epsilon", 1e-6, "expected the constant [1e-08]"),
    ("mapping", "half", 0.25, "expected the constant [0.5], not [0.25]"),
    ("mapping", "minus_one", 1.0, "expected the constant [-1.0], not [1.0]"),
    ("mapping", "one", 2.0, "expected the constant [1.0], not [2.0]"),
    ("mapping", "axis", 0, "expected the pixel norm of the input"),
    ("mapping", "1.slope", 0.1, "layer '1.slope'"),
    ("mapping", "0.gain", 1.0, "layer '0.gain'"),
    ("mapping", "0.weight", np.nan, "finite"),
    ("synthesis", "layers.1.conv2.slope", 0.01, "layer 'layers.1.conv2.slope'"),
    ("synthesis", "layers.0.haar.left.minus", -0.7071068, "layer 'layers.0.haar.left.minus'"),
    ("synthesis", "image.across.plus", 0.5, "layer 'image.across.plus'"),
    ("synthesis", "image.axis", 2, "a split into C low and 3C high bands"),
    ("synthesis", "image.lengths", 4, "a split into C low and 3C high bands"),
    ("synthesis", "image.axis3", 1, "one split into LH, HL and HH"),
    ("synthesis", "image.dims1", 3, "LH, HL and HH in this order"),
    ("synthesis", "to_img.weight", np.inf, "finite"),
    ("synthesis", "conv1.scale", 3e38, "values beyond float32"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "constant", "value", "message"), WRONG_CONSTANTS, ids=[c[1] for c in WRONG_CONSTANTS]
)
def test_unexpected_constant(mapping, synthesis, which, constant, value, message):
    {"mapping": mapping, "synthesis": synthesis}[which].overwrite(constant, value)
    with pytest.raises(CheckpointError) as caught:
        convert(mapping, synthesis)
    assert message in str(caught.value)


WRONG_ATTRIBUTES = [
    ("mapping", "0.product", "transpose_b", "false"),
    ("mapping", "mean", "keep_dims", "false"),
    ("synthesis", "conv1.convolution", "pads_begin", "0, 0"),
    ("synthesis", "layers.0.conv1.convolution", "pads_end", "1, 1"),
    ("synthesis", "layers.2.conv2.depthwise", "dilations", "2, 2"),
    ("synthesis", "layers.2.conv2.depthwise", "strides", "2, 2"),
]


@pytest.mark.parametrize(("which", "layer", "attribute", "value"), WRONG_ATTRIBUTES)
def test_unexpected_attribute(mapping, synthesis, which, layer, attribute, value):
    {"mapping": mapping, "synthesis": synthesis}[which].find(layer).find("data").set(attribute, value)
    with pytest.raises(CheckpointError, match=f"layer '{layer}'.*expected .*{attribute}=.*, not {value}"):
        convert(mapping, synthesis)


def test_unexpected_layer(mapping, synthesis):
    synthesis.find("layers.0.conv1.depthwise").set("type", "Convolution")
    with pytest.raises(
        CheckpointError, match=r"'layers\.0\.conv1\.depthwise' \(Convolution\) was found, expected Group"
    ):
        convert(mapping, synthesis)


@pytest.mark.parametrize("which", [0, 1])
def test_unused_weights_are_named(mapping, synthesis, which):
    (mapping, synthesis)[which].const("truncation", [0.7])
    with pytest.raises(CheckpointError, match=r"has 1 constants unknown to a MobileStyleGAN: truncation\."):
        convert(mapping, synthesis)


def test_swapped_bands(mapping, synthesis):
    first, second = (synthesis.find(f"layers.0.haar.band{k}").get("id") for k in (0, 1))
    for edge in synthesis.edges:
        if edge.get("from-layer") in (first, second):
            edge.set("from-layer", second if edge.get("from-layer") == first else first)
    with pytest.raises(CheckpointError, match="expected LH, HL and HH in this order"):
        convert(mapping, synthesis)


def test_a_shared_weight_is_not_taken_twice(mapping, synthesis):
    noise, other = (synthesis.find(f"layers.1.conv{k}.noise").get("id") for k in (1, 2))
    for edge in synthesis.edges:
        if edge.get("from-layer") == other:
            edge.set("from-layer", noise)
    with pytest.raises(CheckpointError, match="expected a constant of its own"):
        convert(mapping, synthesis)


def test_a_circular_graph_ends(mapping, synthesis):
    last = mapping.find("1.product").get("id")
    for edge in mapping.edges:
        if (edge.get("to-layer"), edge.get("to-port")) == (mapping.find("0.product").get("id"), "0"):
            source = next(e for e in mapping.edges if (e.get("to-layer"), e.get("to-port")) == (last, "0"))
            edge.set("from-layer", source.get("from-layer"))
            edge.set("from-port", source.get("from-port"))
    with pytest.raises(CheckpointError, match="expected a constant of its own"):
        convert(mapping, synthesis)


def test_networks_in_the_wrong_order(mapping, synthesis):
    with pytest.raises(CheckpointError, match="SynthesisNetwork is not a MobileStyleGAN as random-face ships it"):
        convert(synthesis, mapping)


def test_two_results(mapping, synthesis):
    mapping.layer("Result", ("0", 0), shapes=())
    with pytest.raises(CheckpointError, match="MappingNetwork has 2 results, expected one"):
        convert(mapping, synthesis)


def test_networks_of_different_models(mapping):
    other = type(build_tiny_generator())((16, 16), z_dim=4)
    with pytest.raises(CheckpointError, match=r"SynthesisNetwork does not fit together: blocks\.0\.conv1\.modulation"):
        convert(mapping, synthesis_ir(other))


@pytest.mark.parametrize("part", [1, 3])
def test_truncated_binary(tiny_generator, part):
    files = ir_files(tiny_generator)
    files[part] = files[part][:-1]
    with pytest.raises(CheckpointError, match="it is truncated"):
        mobile_stylegan_from_openvino(*files)


def test_real_w_avg_is_the_published_one(zoo_generator, shared):
    expected = np.load(shared / "data" / "mobile_faces" / "latents.npz")["w_avg"][0]
    np.testing.assert_allclose(zoo_generator.w_avg.numpy(), expected, rtol=0, atol=1e-4)


def test_real_mapping_gives_the_published_latents(zoo_generator, shared):
    latents = np.load(shared / "data" / "mobile_faces" / "latents.npz")
    seeds = [int(latents["seed0"]) + k for k in range(4)]
    z = np.concatenate([np.random.Generator(np.random.PCG64(s)).standard_normal((1, 512), np.float32) for s in seeds])
    w = zoo_generator.map(torch.from_numpy(z), float(latents["psi"]))[:, 0]
    np.testing.assert_allclose(w.numpy(), latents["w"][:4], rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # openvino's own
def test_real_generator_equals_openvino(zoo_generator, zoo_wheel):
    """Measured: 3.5e-4 on the image, 5e-6 on w; both sides in float32."""
    if os.environ.get("CI") == "true":
        import openvino
    else:
        openvino = pytest.importorskip("openvino")
    xml, binary, synthesis_xml, synthesis_bin = model_zoo.read_wheel(
        model_zoo.MODELS["mobilestylegan-ffhq-1024"], zoo_wheel
    )
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    core = openvino.Core()
    mapping = core.compile_model(core.read_model(xml, binary), "CPU", settings)
    synthesis = core.compile_model(core.read_model(synthesis_xml, synthesis_bin), "CPU", settings)
    z = torch.randn(1, 512, generator=torch.Generator().manual_seed(3))
    w = mapping({0: z.numpy()})[0]
    image = synthesis({0: w})[0]
    ws = zoo_generator.map(z)
    assert np.abs(ws[:, 0].numpy() - w).max() < 1e-4
    assert np.abs(zoo_generator.synthesize(ws).image.numpy() - image).max() < 1e-3
    assert image.std() > 0.1
