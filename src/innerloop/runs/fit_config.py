"""The settings of a run on objects of the user's own."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from innerloop.errors import UserError
from innerloop.outer_loop import OuterLoop

# What a run can be given as objects.
PARTS = ("algorithm", "train", "val", "test", "meta_optimizer", "schedule")


@dataclass(frozen=True)
class FitConfig(OuterLoop):
    """What `innerloop.fit` was given: the outer loop's settings, and the names of the objects."""

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

    def title(self) -> str:
        return f"{self.algorithm} on {self.data}, network {self.model}"

    def stem(self) -> str:
        """The beginning of the name of a run folder."""
        return re.sub(r"[^\w+-]+", "-", f"{self.data}-{self.algorithm}".lower())

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain values."""
        return {"objects": True, **super().to_dict()}

    @property
    def references(self) -> list[str]:
        """The code that the run names."""
        return [text for text in self.made_by.values() if text is not None]

    @staticmethod
    def describes(settings: Any) -> bool:
        """Whether these settings are of such a run."""
        return isinstance(settings, dict) and settings.get("objects") is True

    @classmethod
    def from_dict(cls, settings: dict[str, Any], source: str) -> FitConfig:
        """Settings as `to_dict` gave them.

        Raises:
            UserError: they are damaged; it names `source`.
        """
        given = {name: value for name, value in settings.items() if name != "objects"}
        fields = {field.name: field for field in dataclasses.fields(cls)}
        made_by = given.get("made_by")
        if (
            not given.keys() <= fields.keys()
            or not isinstance(made_by, dict)
            or not made_by.keys() <= set(PARTS)
            or not all(isinstance(text, str | None) for text in made_by.values())
        ):
            raise UserError(f"{source} holds no settings of a run by innerloop.fit")
        try:
            return cls(**given)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
        except TypeError as error:
            raise UserError(f"{source} is damaged: a setting has the wrong type") from error
