from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labels4free.data.pairs import rle
from labels4free.errors import DataError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from pycocotools import mask as coco

masks = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))
# pycocotools 2.0.11 and NumPy 2: its arrays do not know the argument copy.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def as_mask(*rows):
    return np.array([[character == "#" for character in row] for row in rows])


def text_of_coco(mask):
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))


# Values by hand


def test_runs_go_down_the_columns():
    mask = as_mask(".#.", "##.")
    assert rle.encode(mask).tolist() == [1, 3, 2]
    assert rle.area(rle.encode(mask)) == 3
    assert rle.bounding_box(rle.encode(mask), 2) == (0, 0, 2, 2)


def test_a_mask_that_begins_with_the_object_has_no_background_first():
    assert rle.encode(as_mask("#.")).tolist() == [0, 1, 1]
    assert rle.encode(as_mask("##", "##")).tolist() == [0, 4]
    assert rle.encode(as_mask("..")).tolist() == [2]


def test_text_by_hand():
    # 5 bits a character, +48; the fourth count as the difference to the second: 2 - 3 = -1 is 0b11111 -> 31 + 48.
    assert rle.to_text(np.array([1, 3, 2, 2])) == "132O"
    # 16 does not fit into 4 bits and a sign: low bits 10000 with "more" (16 + 32 + 48), then 0.
    assert rle.to_text(np.array([16])) == "`0"
    assert rle.to_text(np.array([15])) == "?"
    assert rle.from_text("132O").tolist() == [1, 3, 2, 2]
    assert rle.from_text("`0").tolist() == [16]


def test_bounding_boxes():
    assert rle.bounding_box(rle.encode(as_mask("....", "..#.", "..#.")), 3) == (2, 1, 1, 2)
    assert rle.bounding_box(rle.encode(as_mask("...", "...")), 2) == (0, 0, 0, 0)
    # The last pixel of one column and the first of the next are one run.
    assert rle.bounding_box(rle.encode(as_mask(".#", "#.")), 2) == (0, 0, 2, 2)


# Against others, and round trips


@given(masks)
def test_round_trip_and_agreement_with_coco(mask):
    counts, theirs = rle.encode(mask), text_of_coco(mask)
    text = rle.to_text(counts)
    assert text.encode() == theirs["counts"]
    assert np.array_equal(rle.from_text(text), counts)
    assert np.array_equal(rle.decode(counts, *mask.shape), mask)
    assert rle.area(counts) == coco.area(theirs) == mask.sum()
    assert list(rle.bounding_box(counts, mask.shape[0])) == coco.toBbox(theirs).tolist()


@pytest.mark.parametrize("density", [0.02, 0.5, 0.9])
def test_large_noise(density):
    mask = np.random.default_rng(0).random((70, 300)) < density
    assert rle.to_text(rle.encode(mask)).encode() == text_of_coco(mask)["counts"]


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=12))
def test_text_holds_any_counts(counts):
    assert rle.from_text(rle.to_text(np.array(counts))).tolist() == counts


# Damage


@pytest.mark.parametrize("text", ["", "é", " ", "1 2", "`", "p" * 9, "p" * 8 + "0"])
def test_text_that_is_none(text):
    with pytest.raises(DataError, match="This is no text of run lengths"):
        rle.from_text(text)


@pytest.mark.parametrize("counts", [[3], [2, 3], [5, -1], [10**12]])
def test_runs_of_another_size(counts):
    with pytest.raises(DataError, match="expected were 2 x 2; is it damaged"):
        rle.decode(np.array(counts), 2, 2)
