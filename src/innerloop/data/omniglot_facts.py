"""The expected contents of Omniglot, and the check of an archive against them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from innerloop.errors import UserError

DRAWINGS = 20
HALVES = ("background", "evaluation")
# The "minimal" background sets of Lake et al. 2019, five alphabets each; the last one of these
# validates here.
MINIMAL = {
    "small1": ("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin"),
    "small2": ("Greek", "Japanese_(katakana)", "Sanskrit", "Tagalog", "Latin"),
}
OFFICIAL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"


def facts() -> dict[str, Any]:
    """What is known about the data set in advance, from `assets/omniglot.json`.

    Returns:
        `"background"` and `"evaluation"`: alphabet to number of characters;
        `"vinyals2016"`: the split of that name.
    """
    text = resources.files("innerloop.data").joinpath("assets/omniglot.json").read_text("utf-8")
    facts: dict[str, Any] = json.loads(text)
    return facts


def class_names(alphabets: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The characters in the order of the prepared array.

    Args:
        alphabets: half to alphabet to number of characters.

    Returns:
        Names such as `"Greek/character03"`: the background alphabets first, then
        the evaluation alphabets, sorted within each half.
    """
    return [
        f"{alphabet}/character{number:02d}"
        for half in HALVES
        for alphabet in sorted(alphabets[half])
        for number in range(1, alphabets[half][alphabet] + 1)
    ]


@dataclass(frozen=True)
class OmniglotCounts:
    """How much there is.

    Attributes:
        directories: alphabets and characters together, 1,673 if complete.
        images: drawings, 32,460 if complete.
        alphabets: 50 if complete.
        characters: 1,623 if complete.
    """

    directories: int
    images: int
    alphabets: int
    characters: int

    def __str__(self) -> str:
        return (
            f"{self.directories:,} directories, {self.images:,} images, "
            f"{self.alphabets:,} alphabets, {self.characters:,} characters"
        )


def check_drawings(keys: Mapping[str, list[str]], origin: str) -> OmniglotCounts:
    """Count the drawings and compare with what Omniglot has.

    Args:
        keys: half to keys such as `"Greek/character03/0394_01.png"`.
        origin: where they are from, for the message.

    Raises:
        UserError: anything is missing or too much; the message names it.
    """
    alphabets = facts()
    problems = []
    characters: dict[str, int] = defaultdict(int)
    for half in HALVES:
        for key in keys[half]:
            characters[key.rsplit("/", 1)[0]] += 1
        problems += _compare(half, keys[half], alphabets[half])
    counts = OmniglotCounts(
        directories=len(characters) + len({name.split("/")[0] for name in characters}),
        images=sum(characters.values()),
        alphabets=len({name.split("/")[0] for name in characters}),
        characters=len(characters),
    )
    if problems:
        shown = "; ".join(problems[:5])
        more = f"; and {len(problems) - 5} more problems" if len(problems) > 5 else ""
        names = class_names(alphabets)
        total = sum(len(alphabets[half]) for half in HALVES)
        right = OmniglotCounts(total + len(names), DRAWINGS * len(names), total, len(names))
        raise UserError(
            f"{origin} is not the complete Omniglot: {shown}{more}. Found {counts}; right is "
            f"{right}. Download the two archives again from {OFFICIAL}"
        )
    return counts


def _compare(half: str, keys: list[str], alphabets: Mapping[str, int]) -> list[str]:
    """What is wrong with one half, in words."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for key in keys:
        alphabet, character, _ = key.split("/")
        found[alphabet][character] += 1
    if not set(found) & set(alphabets):
        return [f"none of the {half} alphabets is there"]
    problems = [f"alphabet {name} is missing" for name in sorted(set(alphabets) - set(found))]
    problems += [
        f"{name} is not an alphabet of the {half} half"
        for name in sorted(set(found) - set(alphabets))
    ]
    for alphabet in sorted(set(alphabets) & set(found)):
        expected = {f"character{n:02d}" for n in range(1, alphabets[alphabet] + 1)}
        problems += [
            f"{alphabet}/{name} is missing" for name in sorted(expected - set(found[alphabet]))
        ]
        problems += [
            f"{alphabet}/{name} is too much" for name in sorted(set(found[alphabet]) - expected)
        ]
        problems += [
            f"{alphabet}/{name} has {number} drawings instead of {DRAWINGS}"
            for name, number in sorted(found[alphabet].items())
            if name in expected and number != DRAWINGS
        ]
    return problems
