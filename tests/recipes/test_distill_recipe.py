"""From a generator to a segmenter that finds objects in pictures, by command line: train, sample, distill."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tests import tiny_distillation
from tests.tiny import KEEP_ALL, tiny_generator
from tests.tiny_run import any_masks_serve, as_settings, tiny_config, write_generator

from labels4free import cli
from labels4free.checkpoints.loading import load_segmenter
from labels4free.training_loop.run_dir import RunDir

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

TEACHER = tiny_config(
    steps=3,
    resolution=8,
    checkpoint_interval=3,
    picture_interval=3,
    cache={"size": 8, "calibration_samples": 2},
    discriminator={"warmup_steps": 1},
    background={"filled_from_step": 1, "filled_full_step": 2},
    monitor={"interval": 3, "samples": 2},
)


@pytest.mark.parametrize("form", ["folder", "webdataset", "coco"])
def test_train_sample_distill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    any_masks_serve(monkeypatch)
    generator, teacher, pairs, run = (tmp_path / name for name in ("g.safetensors", "teacher", "pairs", "run"))
    write_generator(generator, tiny_generator())
    assert cli.main(["train", str(generator), "--out", str(teacher), *as_settings(TEACHER)]) == 0
    words = ["sample", str(teacher), "--out", str(pairs), "--num", "6", "--size", "32", "--format", form]
    words += [*KEEP_ALL, "--include", "image,alpha,mask"]
    assert cli.main([*words, "--uncertainty", "noise:1"]) == 0
    photos = tiny_distillation.write_photos(tmp_path / "photos")
    config = tiny_distillation.changed(
        steps=3,
        self_training={
            "unlabelled": str(photos),
            "min_agreement": 0.0,
            "min_foreground_ratio": 0.0,
            "max_foreground_ratio": 1.0,
        },
    )
    words = ["distill", "--pairs", str(pairs), "--out", str(run), *as_settings(config)]
    assert cli.main(words) == 0
    assert [entry["step"] for entry in RunDir(run).read_log()] == [1, 2, 3]
    alpha = load_segmenter(run).segment(torch.zeros(1, 3, 50, 70))
    assert alpha.shape == (1, 1, 50, 70)
    assert alpha.isfinite().all()
