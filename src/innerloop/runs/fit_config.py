"""The settings of a run on objects of the user's own."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from innerloop.config.files import complete, settings_from
from innerloop.errors import UserError
from innerloop.outer_loop import OuterLoop, Part

# What a run can be given as objects.
OBJECTS = ("algorithm", "train", "val", "test", "meta_optimizer", "schedule")


@dataclass(frozen=True)
class ObjectSettings(Part):
    """What objects a run was given."""

    algorithm: str = ""
    """Name of the algorithm's class."""
    model: str = ""
    """Name of the network's class."""
    data: str = ""
    """Short name of the data."""
    inputs: str = "unit"
    """Pixels, where examples are images: as the sampler of training tasks has them, or 0 to 1."""
    made_by: dict[str, str | None] = dataclasses.field(default_factory=dict)
    """Where each object comes from: MODULE:NAME or FILE.py:NAME; None for one that has to be given
    again."""

    def check(self) -> None:
        super().check()
        texts = all(isinstance(text, str | None) for text in self.made_by.values())
        if not self.made_by.keys() <= set(OBJECTS) or not texts:
            raise UserError(f"made_by must name where {', '.join(OBJECTS)} come from")


@dataclass(frozen=True)
class FitConfig(OuterLoop, ObjectSettings):
    """What `innerloop.fit` was given: the outer loop's settings, and the names of the objects."""

    parts: ClassVar[Mapping[str, type[Any]]] = {"objects": ObjectSettings, **OuterLoop.parts}

    def title(self) -> str:
        return f"{self.algorithm} on {self.data}, network {self.model}"

    def stem(self) -> str:
        """The beginning of the name of a run folder."""
        return re.sub(r"[^\w+-]+", "-", f"{self.data}-{self.algorithm}".lower())

    @property
    def references(self) -> list[str]:
        """The code that the run names."""
        return [text for text in self.made_by.values() if text is not None]

    @staticmethod
    def describes(settings: Any) -> bool:
        """True if these settings are of such a run."""
        return isinstance(settings, dict) and ("objects" in settings or "made_by" in settings)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any], source: str) -> FitConfig:
        """Settings by name or by part.

        Raises:
            UserError: they are damaged; it names `source`.
        """
        return complete(cls, settings_from(settings, cls, source), source)
