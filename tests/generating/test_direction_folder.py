from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from tests.refusals import refuses
from tests.soft_disc import SoftDisc

from labels4free.errors import ConfigError, RunError
from labels4free.generating.direction_folder import (
    LookConfig,
    read_note,
    sheet_name,
    write_direction_folder,
    write_factor_file,
)
from labels4free.generating.directions import read_directions, sefa
from labels4free.generating.images import Sources
from labels4free.generating.ranking import look_at_directions
from labels4free.generating.rendering import PictureConfig, Renderer
from labels4free.pictures.contact_sheet import contact_sheet

THREE = LookConfig(number=3)
NAMES = {"generator": "tiny", "alpha_network": "disc"}


@pytest.fixture
def write(tmp_path, tiny_generator):
    renderer, directions = Renderer(tiny_generator, PictureConfig()), sefa(tiny_generator, [1, 2])

    def write(config=THREE, alpha=None, seeds=(1, 2), names=NAMES):
        return write_direction_folder(
            tmp_path / "out", renderer, Sources(seeds), directions, config, alpha_network=alpha, names=names
        )

    return write


@pytest.mark.slow
def test_the_folder_has_directions_figures_and_sheets(tmp_path, write, tiny_generator):
    shown, out = write(alpha=SoftDisc()), tmp_path / "out"
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    sheets = [f"sheets/{sheet_name(k)}" for k in range(3)]
    assert files == ["directions.json", "directions.safetensors", "overview.png", *sheets]
    found = read_directions(out, tiny_generator)
    assert torch.equal(found.vectors, sefa(tiny_generator, [1, 2]).vectors)
    note = json.loads((out / "directions.json").read_text())
    assert note == read_note(out)
    assert [entry["direction"] for entry in note["directions"]] == [one.number for one in shown]
    ratios = [entry["ratio"] for entry in note["directions"]]
    assert ratios == sorted(ratios, reverse=True)
    assert note["directions"][0]["ratios"] == list(shown[0].change.ratios)
    expected = look_at_directions(
        Renderer(tiny_generator, PictureConfig()), Sources([1, 2]), found, [0, 1, 2], (-3.0, 0.0, 3.0), SoftDisc()
    )
    assert [one.change for one in expected] == [one.change for one in shown]
    assert note["settings"]["degrees"] == [-3, 0, 3]
    write(alpha=SoftDisc())  # and once more
    refuses(RunError, "made with seeds 1,2, asked for was 1", write, alpha=SoftDisc(), seeds=(1,))
    refuses(RunError, "of another alpha network", write)


def test_the_overview_has_both_ends_of_the_ranking(tmp_path, tiny_generator, monkeypatch):
    monkeypatch.setattr("labels4free.generating.direction_folder._ENDS", 3)  # eight there are
    renderer, directions = Renderer(tiny_generator, PictureConfig()), sefa(tiny_generator)
    config = LookConfig(number=8, degrees=(-1.0, 1.0), cell=24)
    options = {"alpha_network": SoftDisc(), "names": NAMES}
    shown = write_direction_folder(tmp_path, renderer, Sources([1, 2, 3]), directions, config, **options)
    titles = ["-1", "+1", "-1", "+1"], [f"{one.number}: {one.change.ratio:.2f}" for one in (*shown[:3], *shown[-3:])]
    rows = [[*one.pictures[0], *one.pictures[1]] for one in (*shown[:3], *shown[-3:])]
    with Image.open(tmp_path / "overview.png") as image:
        assert np.array_equal(np.asarray(image), contact_sheet(rows, *titles, cell=24))


def test_without_an_alpha_network_there_is_no_ranking(tmp_path, write):
    assert [one.number for one in write(LookConfig(99))] == list(range(8))
    note = read_note(tmp_path / "out")
    assert note["ranked"] is False
    assert set(note["directions"][0]) == {"direction", "value"}


def test_bad_input_is_one_sentence(tmp_path, write, tiny_generator):
    for config in ({"number": 0}, {"cell": 0}, {"degrees": ()}, {"degrees": (math.nan,)}):
        with pytest.raises(ConfigError):
            LookConfig(**config)
    refuses(ConfigError, "ends in .pt", write_factor_file, tmp_path / "x.txt", sefa(tiny_generator), "tiny")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "directions.json").write_text("{}")
    refuses(RunError, "no note of directions", write)
