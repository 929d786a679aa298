"""Numbers as people write them on a command line: ``0-99,1000``."""

from __future__ import annotations

import re

from labels4free.errors import ConfigError

LARGEST_SEED = 2**32 - 1
"""PyTorch's generator on the CPU takes 32 bits of a seed: larger ones would repeat pictures."""

_MOST = 10_000_000  # a list of more numbers takes hundreds of megabytes; a mistyped range is likelier
_PART = re.compile(r"(\d+)(?:-(\d+))?", re.ASCII)


def parse_numbers(text: str, what: str = "seeds", largest: int = LARGEST_SEED) -> list[int]:
    """Read numbers and ranges, whose ends are included: ``0-2,9`` is 0, 1, 2 and 9.

    Args:
        text: Parts with commas between them.
        what: What the numbers are called in messages, in the plural.
        largest: No number may be larger; none is below 0.

    Returns:
        The numbers in the order written.

    Raises:
        ConfigError: If there is none, a part is neither a number nor a range, a range ends before it begins, a number
            is too large or comes twice, or there are more than ten million.
    """
    example = "such as 0-99,1000" if largest >= 1000 else "such as 0-3,5"
    if not text.strip():
        raise ConfigError(f"{what} must be numbers and ranges with commas between them, {example}; got none.")
    numbers: list[int] = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise ConfigError(
                f"{what} must be numbers from 0 and ranges with commas between them, {example}; got {part.strip()!r} "
                f"in {_short(text)}."
            )
        first, last = (_number(digits, what, largest) for digits in (match[1], match[2] or match[1]))
        if last < first:
            raise ConfigError(f"The range {part.strip()} of {what} ends before it begins: write {last}-{first}.")
        if len(numbers) + last - first >= _MOST:
            raise ConfigError(f"{what} may be {_MOST:,} at once, {_short(text)} are more: ask for them in parts.")
        numbers += range(first, last + 1)
    if len(set(numbers)) < len(numbers):
        seen: set[int] = set()
        twice = next(n for n in numbers if n in seen or seen.add(n))  # type: ignore[func-returns-value]
        raise ConfigError(f"{what} must differ, {twice} comes twice in {_short(text)}: leave one out.")
    return numbers


def format_numbers(numbers: list[int]) -> str:
    """Write ascending numbers as :func:`parse_numbers` reads them: 0, 1, 2 and 9 are ``0-2,9``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def _number(digits: str, what: str, largest: int) -> int:
    if len(digits) > 20 or int(digits) > largest:  # Python refuses to read thousands of digits
        raise ConfigError(f"{what} go from 0 to {largest}, got {_short(digits)}.")
    return int(digits)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
