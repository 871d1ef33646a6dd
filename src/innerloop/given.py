"""The dicts of weights that users' functions are given stay as they are; rates fit the weights."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor

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


def check_rate(name: str, rate: object, shape: Sequence[int]) -> None:
    """Raise a `UserError` unless a rate is a number, or a tensor that broadcasts against a weight.

    One with more entries than the weight would make a larger weight, without a word.
    """
    if isinstance(rate, numbers.Real):
        return
    if not isinstance(rate, Tensor):
        raise UserError(
            f"the inner learning rate of {name} is of type {type(rate).__name__}: give a number, "
            "or a tensor that broadcasts against the parameter"
        )
    pairs = zip(reversed(rate.shape), reversed(shape), strict=False)
    if rate.ndim > len(shape) or any(a not in (1, b) for a, b in pairs):
        raise UserError(
            f"the inner learning rate of {name} has the shape {list(rate.shape)}, which does not "
            f"broadcast against the parameter's, {list(shape)}: give a number, or a tensor of the "
            "parameter's shape"
        )
