from __future__ import annotations

import numpy as np
import pytest
import torch

from labels4free.data.contact_sheet import contact_sheet, overlay
from labels4free.errors import DataError


def test_colours_and_places_without_titles() -> None:
    red = torch.tensor([1.0, -1.0, -1.0]).view(3, 1, 1).expand(3, 8, 8)
    alpha = torch.full((1, 8, 8), 0.6)
    mask = torch.ones(1, 8, 8, dtype=torch.bool)
    sheet = contact_sheet([[red, alpha], [mask]], cell=8)
    assert sheet.shape == (6 + 2 * (8 + 6), 6 + 2 * (8 + 6), 3)
    assert sheet.dtype == np.uint8
    assert (sheet[6:14, 6:14] == (255, 0, 0)).all()
    assert (sheet[6:14, 20:28] == 153).all()  # 0.6 * 255
    assert (sheet[20:28, 6:14] == 255).all()
    assert (sheet[20:28, 20:28] == 255).all()  # the short row leaves white
    assert (sheet[:6] == 255).all()
    assert (sheet[:, 14:20] == 255).all()


def test_black_mask_and_overshooting_image_are_clamped() -> None:
    sheet = contact_sheet(
        [[torch.zeros(1, 4, 4, dtype=torch.bool), torch.full((1, 3, 4, 4), 1.7), torch.full((3, 4, 4), -3.0)]], cell=4
    )
    assert (sheet[6:10, 6:10] == 0).all()
    assert (sheet[6:10, 16:20] == 255).all()
    assert (sheet[6:10, 26:30] == 0).all()


def test_resizes_by_box_down_and_nearest_up_and_keeps_the_aspect() -> None:
    checker = np.indices((4, 4)).sum(0) % 2 * 255
    assert (contact_sheet([[checker.astype(np.uint8)]], cell=2)[6:8, 6:8] == 128).all()
    up = contact_sheet([[np.array([[0, 255]], dtype=np.uint8)]], cell=4)
    assert up.shape == (6 + 2 + 6, 6 + 4 + 6, 3)
    assert (up[6:8, 6:8] == 0).all()
    assert (up[6:8, 8:10] == 255).all()


def test_titles_are_drawn_outside_the_pictures() -> None:
    black = np.zeros((32, 32), dtype=np.uint8)
    plain = contact_sheet([[black, black]], cell=32)
    titled = contact_sheet([[black, black]], ["image", "mask"], ["00007"], cell=32)
    above, left = titled.shape[0] - plain.shape[0], titled.shape[1] - plain.shape[1]
    assert above > 10
    assert left > 20
    assert (titled[above:, left:] == plain).all()
    assert (titled[:above] < 128).any()
    assert (titled[above:, :left] < 128).any()


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (torch.zeros(2, 4, 4), r"float32 \[2, 4, 4\]"),
        (torch.zeros(4, 4), r"float32 \[4, 4\]"),
        (torch.zeros(2, 3, 4, 4), r"float32 \[2, 3, 4, 4\]"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "uint8"),
        (np.zeros((4, 4), dtype=np.float32), "float32"),
        (np.zeros((4, 4, 4), dtype=np.uint8), r"\[4, 4, 4\]"),
    ],
)
def test_refuses_what_is_no_picture(picture: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        contact_sheet([[picture]])  # type: ignore[list-item]


def test_refuses_an_empty_sheet_and_titles_that_do_not_fit() -> None:
    for rows in ([], [[]]):
        with pytest.raises(DataError, match="at least one picture"):
            contact_sheet(rows)
    black = np.zeros((4, 4), dtype=np.uint8)
    with pytest.raises(DataError, match="1 columns needs as many column titles or none, got 2"):
        contact_sheet([[black]], ["a", "b"])
    with pytest.raises(DataError, match="1 rows needs as many row titles or none, got 2"):
        contact_sheet([[black]], row_titles=["a", "b"])


def test_overlay_paints_the_background_and_outlines_the_object() -> None:
    image = torch.zeros(3, 8, 8)
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, 2:7, 2:7] = True
    shown = overlay(image, mask)
    assert torch.equal(shown[:, 4, 4], torch.zeros(3))  # the inside is untouched
    assert torch.equal(shown[:, 2, 2:7], torch.ones(3, 5))
    assert torch.equal(shown[:, 4, 6], torch.ones(3))
    assert torch.allclose(shown[:, 0, 0], torch.tensor([-0.45, -0.27, 0.51]))
    assert torch.equal(overlay(image[None], mask[None]), shown[None])


def test_overlay_of_full_and_empty_masks_has_no_outline() -> None:
    image = torch.full((3, 6, 6), 0.5)
    assert torch.equal(overlay(image, torch.ones(1, 6, 6, dtype=torch.bool)), image)
    assert overlay(image, torch.zeros(1, 6, 6, dtype=torch.bool))[0].unique().numel() == 1


def test_overlay_refuses_alpha_and_other_sizes() -> None:
    with pytest.raises(DataError, match=r"boolean mask, got torch\.float32"):
        overlay(torch.zeros(3, 4, 4), torch.zeros(1, 4, 4))
    with pytest.raises(DataError, match=r"\[3, 4, 4\] and \[1, 4, 5\]"):
        overlay(torch.zeros(3, 4, 4), torch.zeros(1, 4, 5, dtype=torch.bool))
