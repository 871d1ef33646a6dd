"""How many classes or examples a task has: one number, or the least and the greatest.

This module imports neither PyTorch nor NumPy, so that `--help` is instant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Short, whatever the value is: YAML's references can make a small file mean an endless one.
from reprlib import repr
from typing import Any

from innerloop.errors import UserError, at_least, plain

SizeRange = int | tuple[int, int]
"""How many; or the least and the greatest, between which each task has its own number."""

_TEXT = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


def range_from(name: str, value: Any) -> SizeRange:
    """A range as Python, a file or the command line has it.

    Args:
        name: of the setting, for errors.
        value: a number, two of them, or text such as `5` or `3-10`.

    Raises:
        UserError: it is none of these.
    """
    if isinstance(value, str) and (match := _TEXT.fullmatch(value.strip())):
        value = [int(number) for number in match.groups() if number is not None]
        value = value[0] if len(value) == 1 else value
    several = isinstance(value, Sequence) and not isinstance(value, str)
    numbers = [plain(number) for number in (value if several else [value])]
    if all(map(_is_whole, numbers)) and len(numbers) == (2 if several else 1):
        return (numbers[0], numbers[1]) if several else numbers[0]
    raise UserError(f"{name} must be a whole number, or a range such as 3-10, not {repr(value)}")


def ends_of(value: SizeRange) -> tuple[int, int]:
    """The least and the greatest."""
    return value if isinstance(value, tuple) else (value, value)


def check_range(least: int, **values: SizeRange | None) -> None:
    """Raise a `UserError` for a range that begins below `least` or ends before it begins."""
    for name, value in values.items():
        if value is None:
            continue
        low, high = ends_of(value)
        at_least(least, **{name: low})
        if low > high:
            raise UserError(f"{name} goes from the least to the greatest number, not {low}-{high}")


def range_text(value: SizeRange | None) -> str:
    """What `range_from` reads as this range."""
    if value is None:
        return "None"
    low, high = ends_of(value)
    return str(low) if low == high else f"{low}-{high}"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
