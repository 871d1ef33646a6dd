"""The objects of a run, and its phases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from innerloop.algorithms.base import Algorithm
from innerloop.config import TrainConfig
from innerloop.errors import UserError
from innerloop.runs.fit_config import FitConfig
from innerloop.runs.folder import (
    COUNTERS,
    LATER,
    Saved,
    State,
    new_state,
    restore,
)
from innerloop.runs.optimizer import OptimizerFactory
from innerloop.tasks.protocol import Tasks
from innerloop.training.fingerprint import check_same, fingerprint
from innerloop.training.phases import Phase, taken_over


@dataclass
class Job:
    """What a run works with.

    Attributes:
        config: the settings.
        algorithm: the algorithm with its network.
        tasks: by part; `"val"` and `"test"` where there are such.
        optimizer, schedule: functions of the user's own; None for those that `config` names.
        own: whether any of it is the user's own, so that resuming has to compare.
        phases: the stretches of the run; by default one, of all of it.
    """

    config: TrainConfig | FitConfig
    algorithm: Algorithm
    tasks: dict[str, Tasks]
    optimizer: OptimizerFactory | None = None
    schedule: Callable[[float], float] | None = None
    own: bool = False
    phases: tuple[Phase, ...] = ()

    def __post_init__(self) -> None:
        self.phases = self.phases or (Phase(self.algorithm, self.tasks["train"]),)

    def new_state(self, number: int = 0) -> State:
        """The state before the first iteration of a phase, from initial weights."""
        phase = self.phases[number]
        own = {"meta_optimizer": self.optimizer, "schedule": self.schedule}
        own = {name: value for name, value in own.items() if value is not None}
        found = None
        if self.own:
            found = fingerprint(self.config, self.algorithm, self.tasks, **own)
        state = new_state(
            self.config,
            phase.algorithm,
            self.optimizer,
            self.schedule,
            found,
            meta_lr=phase.meta_lr,
        )
        state.phase = number
        if phase.algorithm is not self.algorithm:
            state.best = taken_over(self.algorithm, state.params)
        return state

    def next_state(self, state: State) -> State:
        """The state in which the phase begins that follows on the one of `state`."""
        new = self.new_state(state.phase + 1)
        for name, p in taken_over(self.algorithm, state.params).items():
            new.params[name].copy_(p)
        for name in (COUNTERS | LATER).keys() - {"phase"}:
            setattr(new, name, getattr(state, name))
        new.best = state.best
        return new

    def resumed_state(self, saved: Saved | None, folder: Path) -> State:
        """The state of a checkpoint in `folder`; the first one where there is none yet."""
        if saved is None:
            return self.new_state()
        number = saved[1]["phase"]
        if number >= len(self.phases):
            raise UserError(f"the checkpoint in {folder} is of a phase that the run does not have")
        state = self.new_state(number)
        then = saved[1].get("fingerprint")
        if isinstance(then, dict) and state.fingerprint is not None:
            check_same(then, state.fingerprint, str(folder))
        restore(state, saved, f"the checkpoint in {folder}")
        return state
