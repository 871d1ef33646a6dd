"""The dicts of weights that users' functions are given stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from innerloop.errors import UserError

T = TypeVar("T")


def keeping(loss: Callable[..., T]) -> Callable[..., T]:
    """`loss`, which must leave the dicts that it is given as they are.

    What it puts into one would be there the next time as well, and its gradient would be that of
    something else.
    """

    def kept(*trees: dict[str, Any]) -> T:
        before = [dict(tree) for tree in trees]
        found = loss(*trees)
        for tree, was in zip(trees, before, strict=True):
            others = [n for n in {**was, **tree} if tree.get(n) is not was.get(n)]
            if others:
                raise UserError(
                    f"a loss, or a hook of an algorithm, changed {', '.join(map(repr, others))} in "
                    "the dict of weights that it was given: fill a new dict, such as "
                    "{**params, name: value}"
                )
        return found

    return kept
