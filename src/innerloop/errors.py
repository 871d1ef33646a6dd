"""The exception for mistakes that a user can correct, and checks that raise it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

# Pixels; a picture of more has to be scaled down.
LARGEST_SIDE = 4096
# Steps of an inner loop, or of a solver in it.
MOST_STEPS = 10_000


class UserError(ValueError):
    """A mistake in an argument, a setting or a file.

    Its message names what is wrong and how to correct it.  The command line
    prints the message alone, without a traceback, and exits with status 2.
    From Python it is an ordinary `ValueError`.
    """


def first_line(error: BaseException, width: int = 160) -> str:
    """The first line of what an error says, cut to `width`; its type, if it says nothing."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return textwrap.shorten(lines[0], width, placeholder=" ...")


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, str):
        way_out = "leave out the quotes" if _reads_as_number(value) else "give a number"
        raise UserError(f"{name} must be a number, not {value!r}: {way_out}")
    if isinstance(value, bool):
        raise UserError(f"{name} must be a number, not {value}: give a number")
    if value is not None and not isinstance(value, Real):
        raise UserError(f"{name} must be a number, not a {type(value).__name__}")


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def plain(value: Any) -> Any:
    """A number of NumPy's as one of Python's own, which files can hold; all else as it is."""
    of_numpy = type(value).__module__ == "numpy" and getattr(value, "shape", None) == ()
    return value.item() if of_numpy else value


def given(**values: Any) -> None:
    """Raise a `UserError` that names the first value that is None."""
    for name, value in values.items():
        if value is None:
            raise UserError(f"{name} must not be None: leave it out for its default")


def true_or_false(**values: Any) -> None:
    """Raise a `UserError` that names the first value that is neither true nor false; 0 and 1 are.

    Any text is true to Python, `"no"` as well.
    """
    for name, value in values.items():
        value = plain(value)
        if not isinstance(value, Real) or value not in (0, 1):
            raise UserError(f"{name} must be True or False, not {value!r}")


def at_least(least: int, **values: int | None) -> None:
    """Raise a `UserError` that names the first value below `least`, or not whole; None passes."""
    for name, value in values.items():
        whole(**{name: value})
        if value is not None and value < least:
            raise UserError(f"{name} must be at least {least}, not {value}")


def whole(**values: int | None) -> None:
    """Raise a `UserError` that names the first value that is not a whole number; None passes."""
    for name, value in values.items():
        _check_number(name, value)
        if value is not None and not isinstance(value, Integral):
            raise UserError(f"{name} must be a whole number, not {value}")


def number_of_steps(**values: int | None) -> None:
    """Raise a `UserError` that names the first value that is no number of inner steps; None passes.

    More than `MOST_STEPS` would go on for hours, without a word and without getting anywhere.
    """
    at_most(MOST_STEPS, **values)
    at_least(1, **values)


def not_negative(**values: float | None) -> None:
    """Raise a `UserError` that names the first value below 0; None passes."""
    for name, value in values.items():
        _check_number(name, value)
        if value is not None and not value >= 0:
            raise UserError(f"{name} must be at least 0, not {value}")


def at_most(most: int, **values: int | None) -> None:
    """Raise a `UserError` that names the first value above `most`; None passes."""
    for name, value in values.items():
        _check_number(name, value)
        if value is not None and value > most:
            raise UserError(f"{name} must be at most {most:,}, not {value:,}")


def side_of_image(**values: int | None) -> None:
    """Raise a `UserError` that names the first value that no side of an image has; None passes."""
    for name, value in values.items():
        whole(**{name: value})
        if value is not None and not 1 <= value <= LARGEST_SIDE:
            raise UserError(f"{name} must be between 1 and {LARGEST_SIDE:,} pixels, not {value:,}")


def above_zero(**values: float | None) -> None:
    """Raise a `UserError` that names the first value that is not greater than 0; None passes."""
    for name, value in values.items():
        _check_number(name, value)
        if value is not None and not value > 0:
            raise UserError(f"{name} must be greater than 0, not {value}")


def finite_above_zero(**values: float | None) -> None:
    """Raise a `UserError` that names the first value that is not above 0, or infinite."""
    above_zero(**values)
    for name, value in values.items():
        if value == float("inf"):
            raise UserError(f"{name} must be a finite number, not {value}")


def share_of_training(**values: float) -> None:
    """Raise a `UserError` that names the first value outside 0..1."""
    for name, value in values.items():
        _check_number(name, value)
        if value is None or not 0 <= value <= 1:
            raise UserError(f"{name} is a share of training, 0 to 1, not {value}")


def share_below_one(**values: float) -> None:
    """Raise a `UserError` that names the first value outside 0 to less than 1."""
    for name, value in values.items():
        _check_number(name, value)
        if value is None or not 0 <= value < 1:
            raise UserError(f"{name} must be at least 0 and less than 1, not {value}")


def share_inside(**values: float) -> None:
    """Raise a `UserError` that names the first value that is not above 0 and below 1."""
    for name, value in values.items():
        _check_number(name, value)
        if value is None or not 0 < value < 1:
            raise UserError(f"{name} is a share above 0 and below 1, not {value}")


def one_of(choices: Iterable[str], **values: str) -> None:
    """Raise a `UserError` that names the first value that is none of `choices`."""
    for name, value in values.items():
        # Lists cannot be looked up in dicts.
        if not isinstance(value, str) or value not in choices:
            raise UserError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def clearer(error: Exception) -> Exception:
    """The same error, reworded where PyTorch's message says too little."""
    text = first_line(error)
    if isinstance(error, IndexError) and "out of bounds" in text and "Target" in text:
        return UserError(
            f"a class label is not among the network's outputs ({text}): labels run from 0 to N-1, "
            "and the last layer needs a row for each class, or head='shared'"
        )
    missing = "derivative for" in text and "is not implemented" in text
    if missing or "differentiate twice" in text or "support double backward" in text:
        return no_second_derivative(text)
    if "support the deepcopy protocol" in text:
        return UserError(
            "copy.deepcopy is called on weights of the network or on a part of it, and weights "
            "follow from others after an inner step, so that PyTorch copies none: use the part "
            "itself, or call it with the values that its weights have, torch.func.functional_call("
            "part, {name: p.detach() for name, p in part.named_parameters()}, x)"
        )
    return error


def no_second_derivative(what: str) -> UserError:
    """The error for an operation that can be differentiated once."""
    return UserError(
        f"an operation of the network or the loss has no second derivative ({what}): use "
        "another, or first_order=True, which all algorithms but iMAML have"
    )
