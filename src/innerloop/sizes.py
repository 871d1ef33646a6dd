"""Shrink tasks that are too large for a data set, unless their size was asked for."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection

import numpy as np

from innerloop.config import TrainConfig
from innerloop.data.base import ClassIndexed
from innerloop.data.splits import split_classes
from innerloop.errors import UserError
from innerloop.ranges import SizeRange, ends_of, range_text

# The settings that say how large tasks are.
SIZES = ("n_way", "train_n_way", "k_shot", "train_k_shot", "k_query", "eval_k_query")


def fit_sizes(
    config: TrainConfig, data: ClassIndexed, given: Collection[str]
) -> tuple[TrainConfig, str | None]:
    """`config` with the largest tasks that `data` can serve, at most as large as it says.

    Args:
        config: the settings, `split` a name other than `auto`.
        data: what tasks are drawn from.
        given: the settings that the user gave: these are not changed.

    Returns:
        The settings, and a line that says what was lowered and why; None where nothing was.

    Raises:
        UserError: the data cannot serve what was given, or no tasks at all.
    """
    sizes = _Sizes(config, data, given)
    sizes.lower_ways()
    sizes.lower_shots()
    if not sizes.lowered:
        return config, None
    changes = [
        f"{name} {range_text(new)} instead of {range_text(getattr(config, name))}"
        for name, new in sizes.lowered.items()
    ]
    line = (
        f"{data.name} is too small for the usual tasks ({'; '.join(dict.fromkeys(sizes.why))}), "
        f"so these are smaller: {', '.join(changes)}"
    )
    return dataclasses.replace(config, **sizes.lowered), line  # type: ignore[arg-type]


def given_sizes(config: TrainConfig | None, settings: Collection[str]) -> set[str]:
    """Which sizes were given: those among `settings`, and those that differ from the recipe."""
    given = set(settings) & set(SIZES)
    if config is not None:
        usual = TrainConfig.recipe(config.algorithm, config.data, config.model)
        given |= {name for name in SIZES if getattr(config, name) != getattr(usual, name)}
    return given


class _Sizes:
    def __init__(self, config: TrainConfig, data: ClassIndexed, given: Collection[str]) -> None:
        self.config, self.data, self.given = config, data, given
        self.things = "images" if data.pixels else "examples"
        self.lowered: dict[str, SizeRange] = {}
        self.why: list[str] = []
        if config.split == "random" and data.num_classes < 3:
            some = "a single class" if data.num_classes == 1 else f"{data.num_classes} classes"
            raise UserError(f"{data.name} has {some}: {_NO_TRAINING}")
        self.parts = {p: c for p, c in split_classes(data, config.split).items() if len(c)}

    def lower_ways(self) -> None:
        """Ways: of validation and test tasks, and of those of training."""
        own, config = self.config.train_n_way, self.config
        ways = {part: self._ways(part, classes) for part, classes in self.parts.items()}
        # Validation can be left out.
        poor = [part for part in ("train", *ways, "test") if ways.get(part, 0) < 2]
        if poor:
            raise UserError(
                f"{self.data.name} has {self.data.num_classes} classes, too few of them in part "
                f"{poor[0]} of split {config.split}: {_NO_TRAINING}"
            )
        together = own in (None, config.n_way)
        used = ways if together else {p: n for p, n in ways.items() if p != "train"}
        part = min(used, key=lambda part: used[part])
        n_way = self._at_most("n_way", used[part], self._counted(part, used[part]))
        if together and own is not None:
            self.lowered |= {"train_n_way": n_way} if n_way < config.n_way else {}
        elif own is not None:
            self._at_most("train_n_way", ways["train"], self._counted("train", ways["train"]))

    def lower_shots(self) -> None:
        """Shots and queries."""
        least = {part: self._smallest(classes) for part, classes in self.parts.items()}
        queries = {p: "k_query" if p == "train" else "eval_k_query" for p in least}
        own = self.config.train_k_shot
        shots = {p: "k_shot" if own is None or p != "train" else "train_k_shot" for p in least}
        for part, (number, reason) in least.items():
            kept = getattr(self.config, queries[part]) if queries[part] in self.given else 1
            self._at_most(shots[part], max(1, number - kept), reason)
        for part, (number, reason) in least.items():
            k_shot = self._most(shots[part])
            leaves = f"{shots[part]} {k_shot} leaves"
            self._at_most(queries[part], number - k_shot, reason, leaves)

    def _smallest(self, classes: np.ndarray) -> tuple[int, str]:
        """How many examples the smallest class has, and the same in words."""
        counts = self.data.counts[classes]
        number, name = int(counts.min()), self.data.names[int(classes[counts.argmin()])]
        if number < 2:
            raise UserError(
                f"class {name!r} of {self.data.name} has {number} of the {self.things}: it needs "
                "two or more, to learn from and to ask for; add some, or leave it out"
            )
        return number, f"{number} {self.things} in class {name!r}"

    def _at_most(self, name: str, most: int, reason: str, leaves: str = "that allows") -> int:
        """The setting of this name, at most so large."""
        value: SizeRange = self.lowered.get(name, getattr(self.config, name))
        low, high = ends_of(value)
        if high <= most:
            return high
        if name in self.given:
            raise UserError(
                f"{name} is {range_text(value)}, but {self.data.name} has {reason}: {leaves} "
                f"{most} at most; lower {name}, or leave it out"
                + (" and lower k_shot" if most < 1 else "")
            )
        self.lowered[name] = most if low == high else (min(low, most), most)
        self.why.append(reason)
        return most

    def _most(self, name: str) -> int:
        """The setting of this name as far as it was lowered, the greatest of a range."""
        return ends_of(self.lowered.get(name, getattr(self.config, name)))[1]

    def _ways(self, part: str, classes: np.ndarray) -> int:
        """How many classes the largest task can have."""
        number = len(classes)
        if self.config.within_group:
            number = max(Counter(self.data.groups[int(c)] for c in classes).values())
        return number * (4 if self._turned(part) else 1)

    def _turned(self, part: str) -> bool:
        return self.config.rotate if part == "train" else self.config.rotate_test

    def _counted(self, part: str, ways: int) -> str:
        """How many classes a part has for a task, in words."""
        of = " of one group" if self.config.within_group else ""
        turned = ", turned ones counted" if self._turned(part) else ""
        return f"{ways} classes{of} in part {part}{turned}"


_NO_TRAINING = (
    "training, validation and test tasks each need two classes or more of their own. Give 10 "
    "classes or more, or divide them yourself, into folders train, val and test. To tell a few "
    "classes apart nothing has to be trained: innerloop adapt MODEL --support FOLDER"
)
