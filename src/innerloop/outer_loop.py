"""The settings of the outer loop, shared by `fit` and `TrainConfig`.

This module imports neither PyTorch nor NumPy, so that `--help` is instant.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

# Short, whatever the value is: YAML's references can make a small file mean an endless one.
from reprlib import repr
from typing import Any, ClassVar, Literal

import yaml

from innerloop.errors import (
    UserError,
    above_zero,
    at_least,
    at_most,
    given,
    number_of_steps,
    plain,
    true_or_false,
)

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class Part:
    """Settings of one part, in a settings file and in `--help`."""

    def check(self) -> None:
        """Raise a `UserError` for a value out of range; all parts that an object has are asked."""
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if "None" not in str(field.type):
                given(**{name: value})
            if isinstance(field.default, bool):
                true_or_false(**{name: value})
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{name} must be a finite number, not {value}")
            if isinstance(value, int) and abs(value) >= 2**31:
                raise UserError(f"{name} must be less than {2**31:,}, not {repr(value)}")

    def named(self, names: str) -> dict[str, Any]:
        """Some settings by name, for the checks of `innerloop.errors`."""
        return {name: getattr(self, name) for name in names.split()}


@dataclass(frozen=True)
class OuterLoopSettings(Part):
    """The outer optimiser, its schedule and the length of training."""

    iterations: int = 1800
    """Outer steps."""
    max_seconds: float | None = None
    """End training after this much time, even if iterations are left; the schedule follows."""
    meta_batch_size: int = 2
    """Tasks in one outer step."""
    meta_optimizer: str = "adam"
    """What takes the outer steps: `adam`, `sgd`, or a class or function such as
    `torch.optim:AdamW`, called with the parameters and `lr=`."""
    meta_lr: float = 1e-2
    """Learning rate of the outer loop."""
    schedule: str = "cosine"
    """meta_lr over the run: `constant`, as it is; `linear`, straight down to 0; `cosine`, a short
    warm-up and a half cosine down to 1%; or a function such as `my_run.py:rate`, from the share of
    the run that is done, 0 to 1, to a factor."""
    clip_value: float | None = None
    """Clip each entry of the meta-gradient to plus or minus this."""
    clip_norm: float | None = 10.0
    """Clip the norm of the meta-gradient."""

    def check(self) -> None:
        super().check()
        at_least(1, **self.named("iterations meta_batch_size"))
        above_zero(**self.named("meta_lr max_seconds clip_value clip_norm"))
        for name, names in (("meta_optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            value = getattr(self, name)
            if value not in names and ":" not in value:
                raise UserError(
                    f"{name} must be one of {', '.join(names)}, or MODULE:NAME, not {repr(value)}"
                )


@dataclass(frozen=True)
class RunSettings(Part):
    """How a run is validated and tested, and where it is computed."""

    seed: int = 0
    """Initial weights and episodes are a pure function of it."""
    val_every: int = 400
    """Validate after this many outer steps; the best weights so far are what the run is for."""
    val_tasks: int = 100
    """Tasks in each validation."""
    test_tasks: int = 600
    """Tasks in the test at the end."""
    eval_inner_steps: int | None = None
    """Inner steps in validation and test; by default as many as in training."""
    threads: int | None = None
    """CPU threads; PyTorch's choice by default."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, mps."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """How exactly factors are multiplied: tf32 (cuda) and bf16 (cuda, or a CPU with AVX512-BF16)
    are faster and less exact."""

    def check(self) -> None:
        super().check()
        number_of_steps(**self.named("eval_inner_steps"))
        at_most(10_000, **self.named("threads"))
        at_least(0, **self.named("seed"))
        at_least(1, **self.named("val_every threads"))
        # An interval needs two.
        at_least(2, **self.named("val_tasks test_tasks"))


@dataclass(frozen=True)
class OuterLoop(RunSettings, OuterLoopSettings):
    """How a run trains, validates and tests: the keywords of `innerloop.fit`.

    Raises:
        UserError: a value out of range.
    """

    parts: ClassVar[Mapping[str, type[Any]]] = {
        "outer_loop": OuterLoopSettings,
        "run": RunSettings,
    }
    """What the settings are divided into in files."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, plain(getattr(self, field.name)))
        self.check()

    @classmethod
    def part_of(cls) -> dict[str, str]:
        """The part that each setting stands in."""
        return {f.name: part for part, kind in cls.parts.items() for f in dataclasses.fields(kind)}

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain values."""
        return dataclasses.asdict(self)

    def to_parts(self) -> dict[str, dict[str, Any]]:
        """All settings as plain values, by part, as they stand in files."""
        values = dataclasses.asdict(self)
        return {
            part: {field.name: values[field.name] for field in dataclasses.fields(kind)}
            for part, kind in self.parts.items()
        }

    def to_yaml(self) -> str:
        """All settings as a file of settings has them."""
        return yaml.safe_dump(self.to_parts(), sort_keys=False)

    def title(self) -> str:
        """Algorithm, data and setting in a few words."""
        raise NotImplementedError

    @property
    def regression(self) -> bool:
        """True if the tasks are known to have no classes."""
        return False
