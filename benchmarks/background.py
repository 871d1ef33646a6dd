"""What a network for Lake's challenge learns from: background alphabets of Omniglot, and glyphs.

`innerloop train --config configs/background.yaml` trains on `data`.  No drawing of an evaluation
alphabet is among the training or the validation classes.
"""

from __future__ import annotations

import numpy as np

from innerloop.data import glyphs, omniglot
from innerloop.data.base import ImageClasses
from innerloop.data.splits import split_classes

# A task takes its classes from one group, and each group is as probable as another.  Characters of
# one alphabet are hard to tell apart, as in the test; those of groups that are drawn from all
# alphabets are more varied.
GLYPHS = 6000
# Of these glyphs each alphabet is a group of its own.
BY_ALPHABET = 2400
# Groups of characters of all alphabets, and characters in each.
DRAWN = {"omniglot": 50, "glyphs": 50}
EACH = 60


def data(omniglot_source: str | None) -> ImageClasses:
    """Those of the 25 background alphabets that `lake2015` trains on; see `mixed`."""
    return mixed(omniglot_source, "lake2015")


def small1(omniglot_source: str | None) -> ImageClasses:
    """Those of the first of the authors' "minimal" sets."""
    return mixed(omniglot_source, "lake2015-small1")


def small2(omniglot_source: str | None) -> ImageClasses:
    """Those of the second."""
    return mixed(omniglot_source, "lake2015-small2")


def mixed(omniglot_source: str | None, split: str) -> ImageClasses:
    """Alphabets and mixed groups, of Omniglot and of glyphs, as groups of classes.

    Each training alphabet turned by 0, 90, 180 and 270 degrees; alphabets of glyphs; characters
    drawn from all training alphabets, each turned by itself; the same of glyphs.  Which alphabets
    train and which ones validate, unturned, `split` says; here the split is named `background`.
    """
    drawn, made = omniglot(omniglot_source), glyphs(GLYPHS)
    parts = split_classes(drawn, split)
    images: list[np.ndarray] = []
    names: list[str] = []
    groups: list[str] = []
    splits: dict[str, list[int]] = {"train": [], "val": [], "test": []}

    def add(part: str, group: str, source: ImageClasses, c: int, turns: int = 0) -> None:
        splits[part].append(len(names))
        images.append(np.rot90(source.class_images(c), turns, axes=(-2, -1)))
        names.append(f"{group}/{source.names[c]}" + f"/turned{turns}" * bool(turns))
        groups.append(group)

    for part, turned in (("train", range(4)), ("val", range(1)), ("test", range(1))):
        for turns in turned:
            for c in map(int, parts[part]):
                add(part, f"omniglot {drawn.groups[c]} {turns}", drawn, c, turns)
    for c in range(BY_ALPHABET):
        add("train", f"glyphs {made.groups[c]}", made, c)
    rng = np.random.default_rng(0)
    for name, source, classes in (
        ("omniglot", drawn, parts["train"]),
        ("glyphs", made, np.arange(GLYPHS)),
    ):
        for number in range(DRAWN[name]):
            for c in rng.choice(classes, EACH, replace=False):
                add("train", f"{name} drawn {number}", source, int(c), int(rng.integers(4)))
    return ImageClasses.from_square(
        np.stack(images),
        names=names,
        groups=groups,
        name="background alphabets and glyphs",
        dark_ink=True,
        splits={"background": {part: np.array(classes) for part, classes in splits.items()}},
    )
