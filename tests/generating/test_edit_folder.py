from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tests.generating.test_latent_edits import bar
from tests.refusals import refuses

from labels4free.errors import ConfigError, RunError
from labels4free.generating.directions import Directions
from labels4free.generating.edit_folder import write_edits
from labels4free.generating.images import Sources
from labels4free.generating.latent_edits import edit_latents
from labels4free.generating.moves import Move
from labels4free.generating.rendering import PictureConfig, Renderer
from labels4free.pictures.pixels import to_uint8

pytestmark = pytest.mark.slow

STEP = Directions("sefa", torch.eye(8), tuple(range(11))).step(0, 11)
MOVE = Move("0", STEP, (-9.0, 9.0))  # the bar stands at one end, and at the other


def pixels(path):
    with Image.open(path) as picture:
        return np.array(picture)


@pytest.fixture
def layered(tiny_generator):
    return bar(tiny_generator)


@pytest.fixture
def renderer(tiny_generator):
    return Renderer(tiny_generator, PictureConfig())


@pytest.mark.parametrize("fill", ["patches", "smooth"])
def test_where_both_alphas_are_0_an_edit_is_the_original_bit_for_bit(tmp_path, layered, renderer, fill):
    edits = write_edits(tmp_path, layered, renderer, Sources([3, 4]), MOVE, fill=fill, margin=0)
    names = [f"seed0000{seed}_by{degree}" for seed in (3, 4) for degree in ("-9", "+9")]
    assert [edit.name for edit in edits] == names
    for edit, (seed, degree) in zip(edits, [(s, d) for s in (3, 4) for d in (-9, 9)], strict=True):
        ws = renderer.ws_of_seed(seed)
        old, new = layered.foreground(ws), layered.foreground(ws + 0.7 * degree * STEP)
        outside = ((old.alpha == 0) & (new.alpha == 0))[0, 0].numpy()
        before, after = pixels(tmp_path / f"seed{seed:05d}.png"), pixels(tmp_path / f"{edit.name}.png")
        assert np.array_equal(before, to_uint8(old.image)[0])
        assert np.array_equal(after[outside], before[outside])
        inside = (new.alpha == 1)[0, 0].numpy()
        assert np.array_equal(after[inside], to_uint8(new.image)[0][inside])
        without = (to_uint8(new.image)[0] == before).all(axis=2)[outside].mean()
        assert edit.outside == pytest.approx(outside.mean())
        assert edit.equal_outside == 1
        assert edit.equal_without == pytest.approx(without)
        assert without < 0.5
        assert not edit.empty


def test_edits_are_those_of_edit_latents_and_the_sheet_has_all(tmp_path, layered, renderer):
    seen, latents = [], torch.randn(1, 11, 8, generator=torch.Generator().manual_seed(0))
    sources = Sources([3], latents)
    edits = write_edits(tmp_path / "out", layered, renderer, sources, MOVE, progress=lambda *state: seen.append(state))
    assert seen == [(k, 4) for k in range(1, 5)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "before_after.png",
        "edits.json",
        *(f"{name}{by}.png" for name in ("latent00000", "seed00003") for by in ("", "_by+9", "_by-9")),
    ]
    for name, ws, scale in (("seed00003", renderer.ws_of_seed(3), 0.7), ("latent00000", latents, 1)):
        for degree in (-9, 9):
            expected = edit_latents(layered, ws, ws + scale * degree * STEP)
            got = pixels(tmp_path / "out" / f"{name}_by{degree:+d}.png").astype(int)
            assert abs(got - to_uint8(expected)[0]).max() <= 1
    assert all(edit.equal_outside == 1 for edit in edits)
    assert pixels(tmp_path / "out" / "before_after.png").shape[1] > 5 * 256
    settings = json.loads((tmp_path / "out" / "edits.json").read_text())
    assert (settings["seeds"], settings["degrees"], settings["fill"]) == ([3], [-9, 9], "patches")


def test_bad_input_is_one_sentence(tmp_path, layered, renderer):
    out = tmp_path / "out"
    refuses(ConfigError, "nothing to edit", write_edits, out, layered, renderer, Sources(), MOVE)
    refuses(ConfigError, "got 'magic'", write_edits, out, layered, renderer, Sources([1]), MOVE, fill="magic")
    refuses(ConfigError, "got -1", write_edits, out, layered, renderer, Sources([1]), MOVE, margin=-1)
    assert not out.exists()
    write_edits(out, layered, renderer, Sources([1]), MOVE, fill="smooth")
    write_edits(out, layered, renderer, Sources([1]), MOVE, fill="smooth")
    other = Move("0", 2 * STEP, MOVE.degrees)
    refuses(
        RunError,
        "of another set of directions",
        write_edits,
        out,
        layered,
        renderer,
        Sources([1]),
        other,
        fill="smooth",
    )
    refuses(
        RunError, "made with seeds 1, asked", write_edits, out, layered, renderer, Sources([2]), MOVE, fill="smooth"
    )
