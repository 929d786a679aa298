from __future__ import annotations

import re

import pytest
from tests.refusals import refuses
from tests.soft_disc import SoftDisc

from labels4free.errors import RunError
from labels4free.generating.direction_folder import LookConfig, write_direction_folder
from labels4free.generating.directions import sefa
from labels4free.generating.images import Sources
from labels4free.generating.rendering import PictureConfig, Renderer
from labels4free.pages.directions import write_directions_page

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("alpha", [SoftDisc(), None], ids=["ranked", "not ranked"])
def test_page_has_a_sheet_of_each_direction_in_the_order_of_the_ranking(tmp_path, tiny_generator, alpha):
    shown = write_direction_folder(
        tmp_path,
        Renderer(tiny_generator, PictureConfig()),
        Sources([1, 2]),
        sefa(tiny_generator),
        LookConfig(4),
        alpha_network=alpha,
        names={"generator": "<tiny>", "alpha_network": "disc"},
    )
    page = write_directions_page(tmp_path).read_text()
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    captions = re.findall(r"<figcaption>Direction (\d+)([^<]*)</figcaption>", page)
    assert [int(number) for number, _ in captions] == [one.number for one in shown]
    assert page.count("data:image/jpeg") == 4
    assert "4 directions of &lt;tiny&gt;, " in page
    assert ("from those of the object to those of the scene" in page) is (alpha is not None)
    if alpha:
        assert captions[0][1] == f": inside over outside {shown[0].change.ratio:.2f}"
        assert "Alpha network: disc." in page
    else:
        assert "Without an alpha network." in page
    assert f"--directions {tmp_path} --direction {shown[0].number}" in page


def test_another_folder_is_refused(tmp_path):
    refuses(RunError, "cannot be read as a manifest of directions", write_directions_page, tmp_path)
