from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.tiny_distillation import OFF, SETTINGS, SIZE, Discs, changed, disc, to_pixels, write_photos
from tests.training.trainer_contract import TrainerContract

from labels4free.data.images.photos import open_photos
from labels4free.errors import CheckpointError
from labels4free.training.segmenter.check import check_segmenter, checked_example
from labels4free.training.segmenter.config import SegmenterLossConfig
from labels4free.training.segmenter.example_stream import ExampleStream
from labels4free.training.segmenter.pair_cache import PairCache
from labels4free.training.segmenter.trainer import SegmenterData, SegmenterTrainer, segmenter_loss
from labels4free.training_loop.run_dir import state_digest

pytestmark = pytest.mark.slow


def cache(count=8, digest="1"):
    discs = list(Discs(count))
    images = np.stack([to_pixels(x.image) for x in discs])
    alphas = np.stack([(x.alpha[0, 0] * 255).round().byte().numpy() for x in discs])
    return PairCache(images, alphas, [1.0] * count, digest)


@pytest.fixture
def stream():
    stream = ExampleStream(torch.device("cpu"))
    yield stream
    stream.close()


@pytest.fixture
def trainer(stream, tmp_path):
    def trainer(config=SETTINGS, pairs=None, **options):
        path = config.self_training.unlabelled
        photos = open_photos(path, SIZE) if path else None
        pairs = pairs or cache()
        data = SegmenterData(pairs.part(0, 6), pairs.part(6, 8), None, photos)
        return SegmenterTrainer(data, config, stream, **options)

    return trainer


# The step


def test_it_learns_discs(trainer):
    config = changed(
        steps=60, batch_size=8, network={"width": 8}, optimizer={"learning_rate": 0.01, "ema_half_life": 5.0}
    )
    one = trainer(changed(config, augmentation={"tone": 0.0, "background": 0.0, "resampling": 0.0}))
    found = [one.step()["loss"] for _ in range(60)]
    assert np.mean(found[-10:]) < 0.4 * np.mean(found[:10])
    health = one.check()
    assert health.problem is None
    assert health.numbers["teacher_miou"] > 0.93
    assert health.score == health.numbers["augmented_miou"] > 0.93


def test_a_step_moves_the_network_and_its_average(trainer):
    one = trainer()
    before = [value.clone() for value in one.network.parameters()]
    numbers = one.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, one.network.parameters(), strict=True))
    assert one.iteration == 1
    assert numbers.keys() == {"loss", "loss_cross_entropy", "loss_iou", "loss_absolute", "foreground_ratio"}
    average = dict(one.kept.state_dict())
    assert all(torch.equal(value, average[name]) for name, value in one.network.state_dict().items())
    one.step()
    assert not torch.equal(one.kept.head[0].weight, one.network.head[0].weight)
    assert not torch.equal(one.kept.stem[1].running_var, one.network.stem[1].running_var)  # averaged, too


def test_gradients_are_shortened(trainer):
    one = trainer(changed(optimizer={"max_gradient_norm": 1e-3}))
    one.step()
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in one.network.parameters()))
    assert norm == pytest.approx(1e-3, rel=0.01)


def test_nothing_moves_where_the_loss_is_not_finite(trainer):
    one = trainer()
    one.network.head[2].bias.data.fill_(float("inf"))
    before = state_digest(dict(one.network.named_parameters()))
    with pytest.raises(FloatingPointError, match="the segmenter's loss is not finite"):
        one.step()
    assert state_digest(dict(one.network.named_parameters())) == before
    assert one.iteration == 0


# Self-training


@pytest.fixture
def self_training(tmp_path):
    photos = write_photos(tmp_path / "photos")
    values = {
        "unlabelled": str(photos),
        "photo_fraction": 1.0,
        "min_agreement": 0.0,
        "min_foreground_ratio": 0.0,
        "max_foreground_ratio": 1.0,
    }
    return changed(self_training=values)


def test_photos_come_in_the_second_part(trainer, self_training):
    one = trainer(self_training)
    fractions = []
    for _ in range(4):
        fractions.append(one.step().get("photo_fraction"))
        if one.iteration == 2:
            expected = {name: value.clone() for name, value in one.kept.state_dict().items()}
    assert fractions == [None, None, 1.0, 1.0]
    found = one.labeller.state_dict()  # the average as it was then
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_photos_without_agreement_make_room_for_pairs(trainer, self_training):
    one = trainer(changed(self_training, self_training={"min_agreement": 1.0}))
    assert [one.step().get("photo_fraction") for _ in range(4)] == [None, None, 0.0, 0.0]


# State


class TestContract(TrainerContract):
    OTHER = ({"network": {"width": 3}}, "")

    @pytest.fixture(params=["pairs", "photos"])
    def make(self, trainer, self_training, request):
        settings = SETTINGS if request.param == "pairs" else self_training
        return lambda restart=0, **options: trainer(changed(settings, **options), restart=restart)


def test_the_state_of_a_run_on_other_pairs_is_refused(trainer):
    with pytest.raises(CheckpointError, match="on other pairs"):
        trainer().load_state_dict(trainer(pairs=cache(digest="2")).state_dict())


# The loss


ALONE = SegmenterLossConfig(border=0.0, cross_entropy=0.0, iou=0.0, absolute=1.0)


def test_the_loss_by_hand():
    logits, alpha = torch.tensor([0.0, 0.0]).view(1, 1, 1, 2), torch.tensor([1.0, 0.5]).view(1, 1, 1, 2)
    weight = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)
    loss, numbers = segmenter_loss(logits, alpha, weight, SegmenterLossConfig(border=0.0, cross_entropy=2.0))
    both, either = 0.5 + 3 * 0.25, 1.0 + 3 * 0.75
    expected = {"cross_entropy": math.log(2), "iou": 1 - (1 + both) / (1 + either), "absolute": 0.5 / 4}
    assert {name: numbers[f"loss_{name}"] for name in expected} == pytest.approx(expected)
    assert float(loss) == pytest.approx(2 * math.log(2) + expected["iou"] + expected["absolute"])


def test_the_border_counts_more():
    alpha = disc()
    near = ((alpha > 0) & (alpha < 1)).float()
    wrong = torch.where(near > 0, 1 - alpha, alpha).clamp(0.001, 0.999).logit()
    plain, emphasised = (
        segmenter_loss(wrong, alpha, torch.ones_like(alpha), SegmenterLossConfig(border=b))[1]["loss_absolute"]
        for b in (0.0, 2.0)
    )
    assert emphasised > 1.5 * plain


def test_pixels_without_weight_do_not_count():
    alpha, weight = disc(), torch.zeros(1, 1, SIZE, SIZE)
    weight[..., :16, :] = 1
    right = alpha.clamp(0.001, 0.999).logit()
    wrong = torch.cat((right[..., :16, :], -right[..., 16:, :]), dim=2)
    config = SegmenterLossConfig()
    assert segmenter_loss(right, alpha, weight, config)[1] == segmenter_loss(wrong, alpha, weight, config)[1]
    assert segmenter_loss(right, alpha, 0 * weight, config)[1]["loss"] == 0  # and a batch without any is no error


# The check


class Teacher(torch.nn.Module):
    """Knows the discs by heart, as they are; or says one thing of everything."""

    multiple = 8

    def __init__(self, constant=None):
        super().__init__()
        self.constant, self.weight = constant, torch.nn.Parameter(torch.zeros(()))

    def forward(self, image):
        if self.constant is not None:
            return torch.full_like(image[:, :1], self.constant)
        red, colours = image[:, :1], torch.stack([x.image for x in Discs()])[:, 0]
        nearest = (image[:, None] - colours).abs().mean((2, 3, 4)).argmin(1)
        return torch.cat([Discs()[int(k)].alpha for k in nearest]).sub(0.5).mul(20) + 0 * red


def test_a_perfect_segmenter():
    config = changed(augmentation=vars(OFF).copy())
    health = check_segmenter(Teacher(), cache(), config)
    assert health.numbers["teacher_miou"] == health.numbers["augmented_miou"] == health.score == 1
    assert health.numbers["teacher_error"] < 0.1
    assert health.numbers["foreground_ratio"] == pytest.approx(
        float(torch.cat([x.alpha for x in Discs()]).mean()), abs=0.02
    )
    assert health.numbers["center_bias"] > 0.5
    assert health.problem is None
    assert not {"swap_gain", "inpainting_error", "agreement_photos"} & health.numbers.keys()


@pytest.mark.parametrize("constant", [-20.0, 0.1, 20.0])
def test_a_segmenter_that_says_one_thing_is_useless(constant):
    health = check_segmenter(Teacher(constant), cache(), SETTINGS)
    assert health.problem.startswith("the masks are no better than one that is the same everywhere (mean IoU 0.")
    assert health.numbers["agreement_tta"] == pytest.approx(1)
    assert not health.hopeless


def test_numbers_that_are_none():
    health = check_segmenter(Teacher(float("nan")), cache(), SETTINGS)
    assert health.problem == "the masks are not finite numbers"
    assert health.hopeless


def test_checked_examples_never_change():
    one, other = (checked_example(cache(), SETTINGS, 3, None) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one.image, cache()[3].image)


def test_photos_are_looked_at(tmp_path):
    photos = open_photos(write_photos(tmp_path / "photos"), SIZE)
    assert check_segmenter(Teacher(20.0), cache(), SETTINGS, None, photos).numbers["agreement_photos"] == pytest.approx(
        1
    )
