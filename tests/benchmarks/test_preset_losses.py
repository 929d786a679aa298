from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from labels4free.training.alpha.config import TrainConfig
from labels4free.training.alpha.paper_config import PaperConfig
from labels4free.training.config_file import assemble
from labels4free.training.presets import PRESETS

_FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def as_replay(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(_FOLDER))  # it imports its neighbour alpha_seeds
    spec = importlib.util.spec_from_file_location("preset_losses", _FOLDER / "preset_losses.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.as_replay
    sys.modules.pop("alpha_seeds", None)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PRESETS if isinstance(PRESETS[name].config, PaperConfig)])
def test_every_published_preset_has_settings_of_the_default_recipe(name, as_replay):
    paper = PRESETS[name].config
    config = assemble(TrainConfig(), None, as_replay(paper))
    assert isinstance(config, TrainConfig)
    assert config.steps == paper.steps
    assert config.batch_size == paper.batch_size * paper.accumulation
    assert config.loss.inpainting_error == 0
    assert config.background.filled_fraction == 0


def test_weights_are_those_of_an_adversarial_loss_of_weight_one(as_replay):
    config = assemble(TrainConfig(), None, as_replay(PRESETS["car-single-gpu"].config))  # 0.1, 20, 20 and 40
    assert config.loss.binarization == pytest.approx(200)
    assert config.loss.coverage == pytest.approx(400)
    assert assemble(TrainConfig(), None, as_replay(PRESETS["ffhq-paper"].config)).loss.min_background_coverage == 0
