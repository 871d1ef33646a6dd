"""Any inner optimiser on T tasks, and its state as something to differentiate by."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from innerloop.algorithms.apart import task_by_task
from innerloop.errors import UserError
from innerloop.functional import Params, Rates
from innerloop.inner import InnerOptimizer


def check_optimizer(optimizer: Any) -> None:
    """Raise a `UserError` unless `optimizer` is an object with the two methods."""
    if isinstance(optimizer, type) or not isinstance(optimizer, InnerOptimizer):
        what = optimizer if isinstance(optimizer, type) else type(optimizer)
        raise UserError(
            "inner_optimizer must be an object with init(weights) and "
            f"update(weights, gradient, state, rates), not {what.__module__}.{what.__name__}: "
            "innerloop.inner.SGD() and innerloop.inner.Adam() are, optimisers of torch.optim are "
            "not"
        )


def first_state(optimizer: InnerOptimizer, weights: Params) -> Any:
    """The state of T tasks before the first step.

    Args:
        optimizer: see `InnerOptimizer`.
        weights: `[T, ...]` by name.
    """
    if _is_elementwise(optimizer):
        return _checked(optimizer.init({**weights}))
    return task_by_task(_of_one(optimizer, lambda w: (w, optimizer.init({**w}))), (0,), (weights,))[
        1
    ]


def step(
    optimizer: InnerOptimizer, weights: Params, gradient: Params, state: Any, rates: Rates
) -> tuple[Params, Any]:
    """The weights and the state of T tasks after a step.

    Raises:
        UserError: the optimiser wrote into its arguments, returned other weights than it was
            given, or a state that cannot be taken apart by tasks.
    """
    given = [t for tree in (weights, gradient, state) for t in _tensors(tree)]
    versions = [t._version for t in given]
    if _is_elementwise(optimizer):
        # New containers, which an optimiser may fill: a step may be taken again.
        given_state = tree_map(lambda leaf: leaf, state)
        found = optimizer.update({**weights}, {**gradient}, given_state, rates)
        _check_step(optimizer, weights, found)
    else:
        update = _of_one(optimizer, optimizer.update)
        found = task_by_task(update, (0, 0, 0, None), (weights, gradient, state, rates))
    if versions != [t._version for t in given]:
        raise UserError(
            f"{type(optimizer).__name__}.update writes into the tensors that it is given: let it "
            "return new ones"
        )
    return found


def check_weights(what: str, before: Params, after: Any) -> None:
    """Raise a `UserError` unless these are weights with the names and shapes of those before."""
    shapes = {name: p.shape for name, p in before.items()}
    kind = "" if isinstance(after, dict) else f"a {type(after).__name__}"
    found = {} if kind else {n: getattr(p, "shape", None) for n, p in after.items()}
    if kind or found != shapes:
        names = [n for n in shapes | found if found.get(n) != shapes.get(n)]
        raise UserError(
            f"{what} must return the weights after the step, a dict of tensors with the names and "
            f"shapes that it was given, not {kind or 'others: ' + ', '.join(names[:4])}"
        )


def _check_step(optimizer: InnerOptimizer, before: Params, found: Any) -> None:
    what = f"update of {type(optimizer).__name__}"
    if not (isinstance(found, tuple) and len(found) == 2):
        raise UserError(
            f"{what} must return (weights, state), the weights as a dict with the names and "
            f"shapes that it was given and the state None where there is none, not a "
            f"{type(found).__name__}"
        )
    check_weights(what, before, found[0])
    _checked(found[1])


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


def _is_elementwise(optimizer: InnerOptimizer) -> bool:
    return bool(getattr(optimizer, "elementwise", False))


def _of_one(optimizer: InnerOptimizer, update: Any) -> Any:
    """`update` of one task, what it returns checked, here and against the other tasks."""
    numbers: list[Any] = []

    def checked(weights: Params, *others: Any) -> tuple[Params, Any]:
        found = update({**weights}, *others)
        _check_step(optimizer, weights, found)
        leaves, structure = tree_flatten(found[1])
        numbers.append(([leaf for leaf in leaves if not isinstance(leaf, Tensor)], structure))
        if numbers[0] != numbers[-1]:
            raise UserError(
                "the state of an inner optimiser differs between tasks in more than the values of "
                "its tensors: keep as a tensor what depends on the task"
            )
        return found[0], found[1]

    return checked


def _checked(state: Any) -> Any:
    for leaf in tree_flatten(state)[0]:
        if leaf is not None and not isinstance(leaf, Tensor | int | float | str):
            raise UserError(
                "the state of an inner optimiser is made of tensors and numbers in dicts, lists "
                f"and tuples; this one holds a {type(leaf).__name__}"
            )
    return state


def split_state(state: Any) -> tuple[Params, Any]:
    """The part of a state that can be differentiated, by number; and the rest, for `join_state`."""
    leaves, structure = tree_flatten(state)
    # No parameter has a @ in its name.
    carried = {
        f"state@{i}": leaf
        for i, leaf in enumerate(leaves)
        if isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())
    }
    rest = [None if f"state@{i}" in carried else leaf for i, leaf in enumerate(leaves)]
    return carried, (rest, structure)


def join_state(carried: Params, rest: Any) -> Any:
    """The state that `split_state` took apart."""
    others, structure = rest
    leaves = [carried.get(f"state@{i}", other) for i, other in enumerate(others)]
    return tree_unflatten(leaves, structure)
