"""MAML's meta-gradient without storing the graph of the inner loop.

Reverse mode through the inner loop keeps the graph of every step until the end.  Here one walks
back through the steps, each with one Hessian-vector product (MixFlow-MG, Kemaev et al. 2025): at
any time there is the graph of a single step.  The walk needs the fast weights and the gradient of
each step.  Of K steps, only every √K-th set of fast weights is kept, and the steps between two of
them are taken again when the walk comes to them, the last ones excepted (Griewank 1992,
"Achieving logarithmic growth of temporal and spatial complexity in reverse automatic
differentiation"): memory grows by the root of K, and time by one more gradient for a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from innerloop.algorithms import noise
from innerloop.algorithms.gradient_based import GradientBased
from innerloop.algorithms.inner_update import join_state, split_state
from innerloop.algorithms.support import Support
from innerloop.functional import (
    Params,
    add,
    gradient,
    gradients,
    pullback,
    second_derivatives,
    zeros_like,
)
from innerloop.tasks.episodes import Episodes

# Short inner loops are not computed twice: a few sets of weights are small beside a step's graph.
_LEAST_KEPT = 8


class Place(NamedTuple):
    """What the inner loop carries into step `step`."""

    step: int
    fast: Params
    state: Any


def mixed_mode_gradient(
    maml: GradientBased, params: Params, tasks: Episodes, counts: Sequence[float]
) -> tuple[Params, Params]:
    """As `MAML.mean_gradient`; the query loss after step i counts `counts[i]` times."""
    number, n_way = tasks.num_tasks, tasks.n_way
    support = Support(tasks.support_x, tasks.support_y, n_way)

    def support_loss(params: Params, fast: Params, step: int) -> Tensor:
        return maml.inner_losses(params, fast, support, step)

    def query_loss(params: Params, fast: Params, step: int) -> tuple[Tensor, Params]:
        with noise.at(step, query=True):
            weights = maml.weights(params, fast, support, step)
            losses, metrics = maml.query_loss_each(weights, tasks)
        return counts[step] * losses.mean(), {name: m.mean() for name, m in metrics.items()}

    def start(params: Params) -> Place:
        fast = maml.started(params, n_way, number)
        return Place(0, fast, maml.first_state(fast))

    def taken(place: Place) -> tuple[Params, Place]:
        """The gradient of a step, and where the step leads."""
        step, fast, state = place
        slope = gradient(partial(support_loss, params, step=step), fast)
        return slope, Place(step + 1, *maml.advance_each(params, fast, slope, state, step))

    def update(
        params: Params, fast: Params, slope: Params, of_state: Params, rest: Any, step: int
    ) -> Params:
        state = join_state(of_state, rest)
        return _carried(Place(step, *maml.advance_each(params, fast, slope, state, step)))

    # The derivatives of the loss that counts with respect to `params`, and to what is carried
    # into a step, from the last step to the first.
    to_params, to_carried = zeros_like(params), Params()
    metrics: Params = {}
    for place, slope in _backwards(start(params), maml.inner_steps, taken):
        step, fast, state = place
        if slope is None:
            to_carried = zeros_like(_carried(place))
        else:
            of_state, rest = split_state(state)
            direct, to_fast, to_slope, to_state = pullback(
                partial(update, rest=rest, step=step),
                *(params, fast, slope, of_state),
                cotangent=to_carried,
            )
            second, onward = second_derivatives(
                partial(support_loss, step=step), params, fast, to_slope
            )
            to_params = add(add(to_params, direct), second)
            to_carried = add(to_fast, onward) | to_state
        if counts[step]:
            (direct, onward), scored = gradients(partial(query_loss, step=step), params, fast)
            to_params, to_carried = add(to_params, direct), to_carried | add(onward, to_carried)
            metrics = metrics or scored
    (through_start,) = pullback(lambda p: _carried(start(p)), params, cotangent=to_carried)
    return add(to_params, through_start), metrics


def _carried(place: Place) -> Params:
    """The fast weights, and what of the inner optimiser's state can be differentiated."""
    return place.fast | split_state(place.state)[0]


def _backwards(
    start: Place, steps: int, taken: Callable[[Place], tuple[Params, Place]]
) -> Iterator[tuple[Place, Params | None]]:
    """All points of an inner loop, the last first, with the gradients of their steps.

    Args:
        start: the first place.
        steps: K; there are K + 1 places.
        taken: takes a step; it is asked twice for most steps, and must answer alike.
    """
    length = max(_LEAST_KEPT, math.ceil(math.sqrt(steps)))
    place, kept, trail = start, list[Place](), list[tuple[Place, Params]]()
    for step in range(steps):
        if step % length == 0:
            kept.append(place)
            trail.clear()
        slope, after = taken(place)
        trail.append((place, slope))
        place = after
    yield place, None
    while True:
        kept.pop()
        while trail:
            yield trail.pop()
        if not kept:
            return
        place = kept[-1]
        for _ in range(length):
            slope, after = taken(place)
            trail.append((place, slope))
            place = after
