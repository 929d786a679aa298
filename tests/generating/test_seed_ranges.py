from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.refusals import refuses

from labels4free.errors import ConfigError
from labels4free.generating.seed_ranges import LARGEST_SEED, format_numbers, parse_numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0", [0]),
        ("0-3", [0, 1, 2, 3]),
        ("7-7", [7]),
        ("9,0-2,5", [9, 0, 1, 2, 5]),
        (" 1 , 2-3 ", [1, 2, 3]),
        ("007", [7]),
        ("4294967295", [2**32 - 1]),
    ],
)
def test_numbers_and_ranges(text, numbers):
    assert parse_numbers(text) == numbers


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "such as 0-99,1000; got none"),
        ("  ", "got none"),
        ("a", "got 'a' in 'a'"),
        ("1,,2", "got '' in '1,,2'"),
        ("1,", "got '' in '1,'"),
        ("-3", "numbers from 0 and ranges with commas between them, such as 0-99,1000; got '-3'"),
        ("1.5", "got '1.5'"),
        ("0x10", "got '0x10'"),
        ("1-2-3", "got '1-2-3'"),
        ("1-", "got '1-'"),
        ("\u0661", "got '\u0661'"),
        ("5-2", "The range 5-2 of seeds ends before it begins: write 2-5"),
        ("4294967296", "seeds go from 0 to 4294967295, got '4294967296'"),
        (str(2**63 + 1), f"seeds go from 0 to 4294967295, got '{2**63 + 1}'"),
        ("9" * 10_000, "seeds go from 0 to 4294967295, got '9999"),
        ("1,3,2-4", "seeds must differ, 3 comes twice in '1,3,2-4': leave one out"),
        ("0-10000000", "seeds may be 10,000,000 at once, '0-10000000' are more"),
        ("0-4294967295", "are more: ask for them in parts"),
    ],
)
def test_what_is_no_list_of_seeds(text, said):
    with pytest.raises(ConfigError) as error:
        parse_numbers(text)
    assert said in str(error.value)
    assert len(str(error.value)) < 250


def test_seeds_beyond_the_largest_would_repeat():
    """Why there is a largest seed: PyTorch's CPU generator looks at 32 bits."""
    from labels4free.generators.base import sample_z

    assert sample_z(4, LARGEST_SEED + 1 + 5, 0).equal(sample_z(4, 5, 0))
    assert not sample_z(4, LARGEST_SEED, 0).equal(sample_z(4, 5, 0))


def test_other_numbers_have_other_words():
    refuses(ConfigError, "layers go from 0 to 9, got '10'", parse_numbers, "0-10", "layers", 9)


@pytest.mark.slow
@given(st.sets(st.integers(0, 60), min_size=1))
def test_format_is_undone_by_parse(numbers):
    ordered = sorted(numbers)
    text = format_numbers(ordered)
    assert parse_numbers(text) == ordered
    runs = sum(1 for n in numbers if n - 1 not in numbers)
    assert text.count(",") == runs - 1
