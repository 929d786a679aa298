"""A run that really collapses, found by the real check, and started over until its masks are sound."""

from __future__ import annotations

import pytest
from tests.tiny_run import tiny_config

from labels4free.errors import RunError
from labels4free.training.alpha.run import train_alpha_network
from labels4free.training_loop.run_dir import RunDir

LOSING = tiny_config(
    steps=60,
    batch_size=4,
    checkpoint_interval=1000,
    picture_interval=1000,
    # Masks are pushed to be hard at once, and hardly anything keeps them from covering all of every image.
    loss={
        "coverage": 0.2,
        "binarization": 3.0,
        "binarization_steps": 1,
        "inpainting_error": 0.0,
        "final_inpainting_error": 0.0,
    },
    alpha={"learning_rate": 0.02},
    monitor={"interval": 20, "grace_steps": 20, "max_restarts": 6},
)


@pytest.mark.slow
def test_a_run_that_collapses_is_started_over_until_its_masks_are_sound(tiny_generator, tmp_path, caplog):
    result = train_alpha_network(tiny_generator, tmp_path / "run", LOSING)
    lost = [entry for entry in RunDir(tmp_path / "run").read_log() if "lost" in entry]
    assert len(lost) == result.restarts >= 1
    assert [entry["restart"] for entry in lost] == list(range(result.restarts))
    assert all(entry["lost"].startswith(("the masks are ", "alpha is nearly the same")) for entry in lost)
    assert result.check.problem is None
    starting_over = [said for said in caplog.messages if "Starting over (1 of 6), with 6 warm-up steps" in said]
    assert len(starting_over) == 1


@pytest.mark.slow
def test_a_run_that_collapses_is_given_up_where_it_may_not_start_over(tiny_generator, tmp_path):
    config = tiny_config(**{**vars(LOSING), "monitor": {**vars(LOSING.monitor), "max_restarts": 0}})
    with pytest.raises(RunError, match=r"Training was lost in attempt 1, the last: (the masks are |alpha is nearly)"):
        train_alpha_network(tiny_generator, tmp_path / "run", config)
    assert not (tmp_path / "run" / "alpha.safetensors").exists()
