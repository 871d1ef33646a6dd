"""Keywords that a function or a class does not have: an error with the nearest that it has.

Numbers of NumPy's become Python's own on the way in.

This module imports neither PyTorch nor NumPy.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, TypeVar

from innerloop.errors import UserError, plain, true_or_false

P = ParamSpec("P")
T = TypeVar("T")


def arguments_of(made_by: Callable[..., Any]) -> set[str]:
    """The names of what a function takes, or a class and its bases, whose arguments it hands on."""
    return {
        parameter.name
        for maker in _makers(made_by)
        for parameter in inspect.signature(maker).parameters.values()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }


def keywords_checked(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, which raises a `UserError` for a keyword that it does not have."""
    known, switches = arguments_of(function), _switches(function)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        check_keywords(function, kwargs, known)
        _check_switches(switches, args, kwargs)
        return function(*map(plain, args), **{n: plain(v) for n, v in kwargs.items()})

    return checked


def check_keywords(
    made_by: Callable[..., Any], given: Iterable[str], known: set[str] | None = None
) -> None:
    """Raise a `UserError` for the first keyword that `made_by` does not have."""
    known = arguments_of(made_by) if known is None else known
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(known))}"
            raise UserError(f"{made_by.__qualname__} has no argument {name!r}: {hint}")


def check_takes(
    what: str, function: Callable[..., Any], described: str, *args: Any, **kwargs: Any
) -> None:
    """Raise a `UserError` for a function of the user's that cannot be called so.

    Args:
        what: the setting that it is for.
        function: anything that can be called; what does not say what it takes passes.
        described: the arguments in words.
        *args, **kwargs: as many, of these names.
    """
    try:
        # Not of what a decorator is around: it may take other arguments.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        name = getattr(function, "__name__", type(function).__name__)
        raise UserError(
            f"{what} is called with {described}, and {name}{signature} cannot be: {error}"
        ) from None


class KeywordsChecked:
    """A class whose constructor answers a keyword that no class above has with a `UserError`.

    Python's own error would name the base class that a keyword was handed on to.  A class of a
    user's own that takes keywords without naming them is left to Python.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _checked(cls.__init__)  # type: ignore[method-assign]


def _checked(init: Callable[..., None]) -> Callable[..., None]:
    switches = _switches(init)

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        cls = type(self)
        # Only what was typed, not what a constructor hands on to the next.
        if kwargs and cls.__init__ is checked and not any(map(_takes_any, _makers(cls))):
            check_keywords(cls, kwargs)
        _check_switches(switches, (self, *args), kwargs)
        init(self, *map(plain, args), **{name: plain(value) for name, value in kwargs.items()})

    return checked


def _switches(function: Callable[..., Any]) -> dict[str, int]:
    """The arguments that are true or false, and their places."""
    parameters = list(inspect.signature(function).parameters.values())
    return {p.name: i for i, p in enumerate(parameters) if p.annotation in (bool, "bool")}


def _check_switches(switches: dict[str, int], args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    for name, place in switches.items():
        if name in kwargs:
            true_or_false(**{name: kwargs[name]})
        elif place < len(args):
            true_or_false(**{name: args[place]})


def _takes_any(maker: Any) -> bool:
    """True if a class of a user's own takes keywords without naming them."""
    parameters = inspect.signature(maker).parameters.values()
    mine = maker.__module__.startswith("innerloop.")
    return not mine and any(p.kind is p.VAR_KEYWORD for p in parameters)


def _makers(made_by: Callable[..., Any]) -> list[Any]:
    """The classes with constructors among a class and its bases; or the function itself."""
    mro = [cls for cls in getattr(made_by, "__mro__", ()) if cls is not object]
    return [cls for cls in mro if "__init__" in vars(cls)] or [made_by]
