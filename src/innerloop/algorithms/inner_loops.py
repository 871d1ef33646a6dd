"""The inner loops of one task each: what they yield is checked, and loops of T tasks go in step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from torch import Tensor

from innerloop.algorithms.apart import stack
from innerloop.errors import UserError
from innerloop.functional import Params
from innerloop.trees import is_of_user

_first_order: ContextVar[bool] = ContextVar("first_order", default=False)


def steps_of(
    algorithm: Any,
    params: Params,
    support_x: Tensor,
    support_y: Tensor,
    *,
    inner_steps: int | None = None,
    n_way: int | None = None,
) -> Iterator[Params]:
    """`inner_loop` of one task, checked.

    Raises:
        UserError: it yields no weights, something else, or not all weights of the network.
    """
    name = f"inner_loop of {type(algorithm).__name__}"
    loop: Any = algorithm.inner_loop(
        params, support_x, support_y, inner_steps=inner_steps, n_way=n_way
    )
    if isinstance(loop, Mapping) or not isinstance(loop, Iterable):
        raise UserError(
            f"{name} returns a {type(loop).__name__}, and is to yield the fast weights before the "
            "first and after each inner step: write yield in place of return"
        )
    # What a forward of the user's own needs is not known.
    usual = "forward" not in vars(algorithm) and not is_of_user(type(algorithm).forward.__module__)
    needed = [n for n in params if "@" not in n] if usual else []
    empty = True
    for weights in loop:
        empty = False
        if not isinstance(weights, Mapping):
            raise UserError(
                f"{name} yields a {type(weights).__name__}: let it yield fast weights, a dict of "
                "tensors by parameter name"
            )
        missing = [n for n in needed if n not in weights]
        if missing:
            raise UserError(
                f"{name} yields no {', '.join(missing)}, for which the network's own weights "
                "would stand in: let it yield all that forward needs, for instance "
                "{**self.fast_weights(params, n_way), **fast}"
            )
        # A loop may go on with the dict that it yields.
        yield dict(weights)
    if empty:
        raise UserError(
            f"{name} yields nothing: let it yield the fast weights before the first and after "
            "each inner step"
        )


def in_step(algorithm: Any, loops: Sequence[Iterator[Params]], first_order: bool) -> Iterator[Any]:
    """Inner loops of T tasks, whose weights at each step are stacked, `[T, ...]`.

    Args:
        algorithm: whose loops they are.
        loops: one a task.
        first_order: for inner loops that go on with that of `GradientBased`: its gradients are
            constants when the result is differentiated.

    Raises:
        UserError: one takes fewer steps than another.
    """
    while True:
        # A generator runs in its caller's context, so only while it runs.
        token = _first_order.set(first_order)
        try:
            weights = [found for loop in loops for found in [next(loop, None)] if found is not None]
        finally:
            _first_order.reset(token)
        check_lengths(algorithm, len(weights) in (0, len(loops)))
        if not weights:
            return
        yield stack(weights)


def counted(algorithm: Any, steps: Iterator[Params], number: int) -> Iterator[Params]:
    """The weights before the first and after each inner step, of which there must be `number`.

    Raises:
        UserError: there are more, or fewer.
    """
    found = 0
    for weights in steps:
        found += 1
        if found <= number:
            yield weights
    if found != number:
        raise UserError(
            f"inner_loop of {type(algorithm).__name__} yields {found} sets of weights, and with "
            f"inner_steps={number - 1} it must yield {number}: those before the first and after "
            "each inner step. Where a task stops early, yield its last weights again for each step "
            "that is left"
        )


def dropping_second() -> bool:
    """True where inner gradients are to be constants whatever the algorithm says."""
    return _first_order.get()


def check_lengths(algorithm: Any, alike: bool) -> None:
    """Raise a `UserError` where tasks took different numbers of inner steps."""
    if not alike:
        raise UserError(
            f"inner_loop of {type(algorithm).__name__} takes more steps in one task than in "
            "another, and results are put together step by step: where a task stops early, yield "
            "its last weights again for each step that is left"
        )
