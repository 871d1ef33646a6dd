"""Give a run that has begun another length, if the result stays exact."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

from innerloop.algorithms.base import Algorithm
from innerloop.errors import UserError
from innerloop.outer_loop import OuterLoop
from innerloop.runs.folder import State
from innerloop.training.loop import rate_factor

# Shares of a run by the clock, whose iterations nobody can tell.
_CLOCK = [i / 1000 for i in range(1001)]


def check_length(
    then: OuterLoop, now: OuterLoop, state: State, algorithm: Algorithm, folder: Path
) -> None:
    """Raise a `UserError` unless the iterations so far are those of a run as long as `now` says.

    The share of the run that is done decides on the rate (`schedule`) and on what an algorithm does
    (`phase`).  Both must have been, in every iteration so far, what they would be in the other run.

    Args:
        then: the settings of the run.
        now: the same with other `iterations` or `max_seconds`.
        state: where the run is.
        algorithm: what is learnt.
        folder: of the run, for errors.
    """
    if state.iteration >= now.iterations:
        raise UserError(
            f"the run in {folder} has done {state.iteration} iterations, and {now.iterations} are "
            "asked for: give more iterations"
        )
    if now.max_seconds is not None and state.seconds >= now.max_seconds:
        raise UserError(
            f"the run in {folder} has trained for {state.seconds:.0f} seconds: max_seconds must be "
            f"more, not {now.max_seconds:g}"
        )
    if then.max_seconds is None and now.max_seconds is None:
        done = range(state.iteration)
        shares = [(i / then.iterations, i / now.iterations) for i in done]
    else:
        shares = [(share, 0.0) for share in _CLOCK] if state.iteration else []

    def rate(share: float) -> float:
        return rate_factor(now.schedule, state.schedule, share)

    def phase(share: float) -> Hashable:
        return algorithm.phase(share)

    name, by_share = type(algorithm).__name__, "goes by the share of the run that is done"
    pretrain = getattr(now, "pretrain", 0.0)
    pretraining = f"pretrain {pretrain} is a share of the run"
    for what, of, instead in (
        (pretraining, lambda share: share < pretrain, "train without pretrain"),
        (f"its schedule, {now.schedule}, {by_share}", rate, "train with schedule constant"),
        (f"what {name} computes {by_share}", phase, _without_phases(algorithm)),
    ):
        if any(of(before) != of(after) for before, after in shares):
            raise UserError(
                f"the run in {folder} cannot be given another length: {what}, and so its first "
                f"{state.iteration} iterations would have been different. Start a new run of that "
                f"length; to be free to choose it later, {instead}"
            )


def _without_phases(algorithm: Algorithm) -> str:
    """How to make an algorithm's computation the same throughout training."""
    if type(algorithm).phase is Algorithm.phase:
        return "override phase(progress), which says what of it matters: None for nothing"
    return "leave second_order_from and multi_step_loss_until at 0"
