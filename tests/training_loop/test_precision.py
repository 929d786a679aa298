"""What is computed in fewer bits, on which devices, and that training goes on exactly with it."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tests.tiny import tiny_stylegan2
from tests.tiny_paper import CHANNELS, paper_trainer
from tests.tiny_run import tiny_config

from labels4free import losses
from labels4free.errors import ConfigError
from labels4free.networks.discriminator import Discriminator
from labels4free.networks.merge_network import MergeNetwork
from labels4free.training.alpha.feature_cache import build_cache
from labels4free.training.alpha.trainer import AlphaTrainer
from labels4free.training_loop import precision as precision_module
from labels4free.training_loop.precision import Precision
from labels4free.training_loop.run_dir import state_digest

pytestmark = pytest.mark.slow

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def cache(tiny_generator, tmp_path_factory):
    levels = MergeNetwork(tiny_generator.feature_specs, 64).levels
    return build_cache(tiny_generator, levels, tiny_config(), tmp_path_factory.mktemp("cache"))[0]


@pytest.fixture(params=["replay", "paper"])
def make(request, cache, tiny_generator):
    """Start a trainer of either recipe in a precision."""

    def make(precision):
        if request.param == "paper":
            return paper_trainer(tiny_stylegan2(channels=CHANNELS), precision=precision)
        config = tiny_config(precision=precision, discriminator={"warmup_steps": 1})
        network = MergeNetwork(cache.projection.specs(tiny_generator.feature_specs), 64, width=config.alpha.width)
        return AlphaTrainer(cache, network, config)

    return make


def advanced(trainer, steps):
    return [trainer.step() for _ in range(steps)]


# Which


@pytest.mark.parametrize(
    ("device", "bfloat16", "dtype"),
    [
        ("cpu", True, torch.float32),
        ("mps", True, torch.float32),
        ("cuda", True, torch.bfloat16),
        ("cuda", False, torch.float16),
    ],
)
def test_auto(monkeypatch, device, bfloat16, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: bfloat16)
    precision = Precision("auto", torch.device(device))
    assert (precision.dtype, precision.mixed) == (dtype, dtype != torch.float32)


@pytest.mark.parametrize(
    ("name", "device", "has"),
    [
        ("float16", "cpu", "float32, bfloat16"),
        ("bfloat16", "mps", "float32"),
        ("float16", "mps", "float32"),
        ("bfloat16", "cuda", "float32, float16"),
    ],
)
def test_what_a_device_lacks(monkeypatch, name, device, has):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: False)
    with pytest.raises(ConfigError) as caught:
        Precision(name, torch.device(device))
    assert str(caught.value) == (
        f"precision={name} cannot be had on the device {device}, which has {has}; choose one of them, or auto."
    )


def test_a_run_refuses_it_before_it_begins(train, tmp_path):
    with pytest.raises(ConfigError, match="precision=float16 cannot be had on the device cpu"):
        train(config=tiny_config(precision="float16"))
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=r"precision must be one of auto, float32, bfloat16, float16, got 'half'"):
        tiny_config(precision="half")


# What


def test_float32_changes_nothing():
    precision = Precision("float32", CPU)
    network = torch.nn.Identity()
    assert precision.network(network) is network
    with precision.autocast():
        assert not torch.is_autocast_enabled("cpu")
    assert not precision.scaler().is_enabled()


def test_networks_compute_in_few_bits_and_answer_in_many(tiny_generator):
    precision = Precision("bfloat16", CPU)
    network, judge = MergeNetwork(tiny_generator.feature_specs, 64), Discriminator(16, channel_max=8)
    seen = []
    network.head.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    judge.convs[1].register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    judge.final_conv.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    features = tiny_generator.synthesize(tiny_generator.map(torch.ones(1, 8))).features
    alpha = precision.network(network)(features)
    with precision.autocast():
        logits = judge(torch.randn(4, 3, 16, 16))
    assert seen == [torch.bfloat16, torch.bfloat16, torch.float32]
    assert alpha.dtype == logits.dtype == torch.float32
    torch.testing.assert_close(alpha, network(features), atol=0.02, rtol=0)


def test_small_deviations_are_not_lost():
    """In bfloat16 images that differ by 0.1 % have no deviation."""
    judge = Discriminator(16, channel_max=8)
    image = torch.randn(1, 3, 16, 16)
    images = (image + 1e-4 * torch.randn(4, 3, 16, 16)).requires_grad_()
    with Precision("bfloat16", CPU).autocast():
        judge(images).sum().backward()
    assert images.grad.isfinite().all()


def test_the_penalty_is_exact(make, monkeypatch):
    penalty, seen = losses.r1_penalty, []

    def watched(logits, real):
        node, names = logits.grad_fn, set()
        stack = [node]
        while stack:
            node = stack.pop()
            if node is not None and node not in names:
                names.add(node)
                stack += [function for function, _ in node.next_functions]
        seen.append({type(node).__name__ for node in names})
        return penalty(logits, real)

    monkeypatch.setattr(losses, "r1_penalty", watched)
    advanced(make("bfloat16"), 1)
    assert seen
    assert not [name for names in seen for name in names if "ToCopy" in name]  # nothing was cast on the way


def test_training_in_bfloat16_is_near_that_in_float32(make):
    exact, mixed = make("float32"), make("bfloat16")
    for ours, theirs in zip(advanced(mixed, 2), advanced(exact, 2), strict=True):
        assert ours.keys() == theirs.keys()
        assert ours != theirs
        assert ours["loss_discriminator"] == pytest.approx(theirs["loss_discriminator"], abs=0.05)
    assert all(p.dtype == torch.float32 for p in mixed.network.parameters())


def test_it_resumes_exactly(make):
    whole, stopped, again = (make("bfloat16") for _ in range(3))
    advanced(whole, 4)
    advanced(stopped, 2)
    again.load_state_dict(stopped.state_dict())
    advanced(again, 2)
    assert state_digest(again.state_dict()) == state_digest(whole.state_dict())


# Scaled gradients, which float16 needs


@pytest.fixture
def scaled(make, monkeypatch):
    """A trainer whose gradients are scaled as for float16, in float32 since CPUs have no other."""

    def scaled(scale=2.0**16):
        with monkeypatch.context() as patch:
            patch.setattr(
                Precision, "scaler", lambda self: torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2)
            )
            return make("float32")

    return scaled


def test_the_scale_does_not_matter_and_is_part_of_the_state(make, scaled):
    plain, with_scale = make("float32"), scaled()
    advanced(plain, 3)
    advanced(with_scale, 3)
    torch.testing.assert_close(with_scale.network.state_dict(), plain.network.state_dict(), rtol=1e-3, atol=1e-5)
    state = copy.deepcopy(with_scale.state_dict())
    assert state["alpha_scaler"]["scale"] == 2.0**17
    assert "alpha_scaler" not in plain.state_dict()
    again = scaled()
    again.load_state_dict(state)
    advanced(again, 2)
    advanced(with_scale, 2)
    assert state_digest(again.state_dict()) == state_digest(with_scale.state_dict())
    fresh = scaled()
    fresh.load_state_dict({name: value for name, value in state.items() if "scaler" not in name})
    assert fresh.iteration == 3  # begun on a device without float16


def test_gradients_beyond_the_range_cost_a_step_and_are_no_loss_that_is_no_number(scaled):
    trainer = scaled(scale=2.0**127)
    before = state_digest(trainer.discriminator.state_dict())
    weight = trainer.discriminator.final_linear[1].weight
    numbers = trainer.discriminator_update.apply("The loss", [((1000 * weight).sum(), {"seen": 1.0})])
    assert numbers == {"seen": 1.0}
    assert state_digest(trainer.discriminator.state_dict()) == before
    assert trainer.discriminator_update.scaler.get_scale() == 2.0**126
    logs = advanced(trainer, 3)
    assert all(math.isfinite(value) for entry in logs for value in entry.values())
    assert all(p.isfinite().all() for p in trainer.discriminator.parameters())


def test_float16_trains(make, monkeypatch):
    monkeypatch.setattr(precision_module, "_able", lambda device: ("float32", "bfloat16", "float16"))
    exact, half = make("float32"), make("float16")
    for ours, theirs in zip(advanced(half, 2), advanced(exact, 2), strict=True):
        assert ours["loss_discriminator"] == pytest.approx(theirs["loss_discriminator"], abs=0.02)
    assert half.state_dict()["alpha_scaler"]["scale"] == 2.0**16


def test_only_float16_is_scaled(monkeypatch):
    monkeypatch.setattr(precision_module, "_able", lambda device: ("float32", "bfloat16", "float16"))
    enabled = {name: Precision(name, CPU).scaler().is_enabled() for name in ("float32", "bfloat16", "float16")}
    assert enabled == {"float32": False, "bfloat16": False, "float16": True}
