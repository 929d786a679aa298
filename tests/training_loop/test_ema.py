from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from labels4free.errors import CheckpointError, ConfigError
from labels4free.training_loop.ema import Ema


class Cell(nn.Module):
    """One parameter, one buffer."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value]))
        self.register_buffer("seen", torch.tensor(int(value)))


def test_by_hand():
    ema = Ema(Cell(0.0), half_life_steps=1)
    ema.update(Cell(8.0), 0)
    assert ema.module.weight.item() == 4  # d = 1/2
    ema.update(Cell(0.0), 1)
    assert ema.module.weight.item() == 2


def test_an_old_weight_counts_half_after_the_half_life():
    ema = Ema(Cell(1.0), half_life_steps=10)
    for step in range(10):
        ema.update(Cell(0.0), step)
    assert ema.module.weight.item() == pytest.approx(0.5, rel=1e-5)


def test_buffers_are_copied():
    ema = Ema(Cell(0.0), half_life_steps=100)
    ema.update(Cell(7.0), 0)
    assert ema.module.seen.item() == 7
    assert ema.module.weight.item() < 1


def test_is_a_frozen_copy():
    cell = Cell(3.0).train()
    ema = Ema(cell, half_life_steps=0)
    assert not ema.module.training
    assert not any(p.requires_grad for p in ema.module.parameters())
    with torch.no_grad():
        cell.weight.fill_(5.0)
    assert ema.module.weight.item() == 3
    ema.update(cell, 0)
    assert ema.module.weight.item() == 5  # half life 0: the newest weights
    assert cell.training
    assert cell.weight.requires_grad


def test_follows_until_the_start():
    ema = Ema(Cell(0.0), half_life_steps=1, start_step=2)
    for step, expected in enumerate([8.0, 8.0, 8.0]):
        ema.update(Cell(8.0), step)
        assert ema.module.weight.item() == expected
    ema.update(Cell(0.0), 3)
    assert ema.module.weight.item() == 4


def test_ramp_caps_the_half_life():
    ema = Ema(Cell(0.0), half_life_steps=10, ramp=0.05, start_step=100)
    assert ema.decay(99) == ema.decay(100) == 0
    assert ema.decay(120) == pytest.approx(0.5)  # 20 steps since the start, half life 1
    assert ema.decay(140) == pytest.approx(0.5**0.5)
    assert ema.decay(10_000) == ema.decay(300) == pytest.approx(0.5**0.1)


def test_saved_and_restored_exactly():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    steps = [{k: torch.randn_like(v) for k, v in module.named_parameters()} for _ in range(6)]

    def run(ema: Ema, first: int, last: int) -> None:
        for step in range(first, last):
            module.load_state_dict(steps[step], strict=False)
            ema.update(module, step)

    whole = Ema(module, half_life_steps=3, ramp=0.5)
    resumed = Ema(module, half_life_steps=3, ramp=0.5)
    run(whole, 0, 3)
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    run(whole, 3, 6)
    run(resumed, 3, 6)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_errors():
    with pytest.raises(ConfigError, match="at least 0 steps, got -1"):
        Ema(Cell(0.0), half_life_steps=-1)
    with pytest.raises(ConfigError, match="got nan"):
        Ema(Cell(0.0), half_life_steps=float("nan"))
    with pytest.raises(ConfigError, match="and -5"):
        Ema(Cell(0.0), half_life_steps=1, start_step=-5)
    with pytest.raises(ConfigError, match=r"above 0.*got 0\.0"):
        Ema(Cell(0.0), half_life_steps=1, ramp=0.0)
    with pytest.raises(CheckpointError, match="do not fit the network"):
        Ema(Cell(0.0), half_life_steps=1).load_state_dict({"weight": torch.zeros(2), "seen": torch.tensor(0)})
    with pytest.raises(ValueError, match="zip"):
        Ema(nn.Linear(1, 1), half_life_steps=1).update(nn.Linear(1, 1, bias=False), 0)


class Normed(nn.Module):
    """One parameter, one buffer of fractions, one of whole numbers."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value]))
        self.register_buffer("mean", torch.tensor([value]))
        self.register_buffer("seen", torch.tensor(int(value)))


@pytest.mark.parametrize(("averaged", "mean"), [(True, 4.0), (False, 8.0)])
def test_buffers_are_averaged_if_asked(averaged, mean):
    ema = Ema(Normed(0.0), half_life_steps=1, average_buffers=averaged)
    ema.update(Normed(8.0), 0)
    assert (ema.module.weight.item(), ema.module.mean.item(), ema.module.seen.item()) == (4, mean, 8)
