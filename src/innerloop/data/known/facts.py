"""What is known of the data sets: the classes of each part."""

from __future__ import annotations

import functools
import json
from importlib import resources

from innerloop.data.splits import PARTS
from innerloop.errors import UserError

# Classes of each part, as the papers count them.
COUNTS = {
    "cifar-fs": (64, 16, 20),
    "fc100": (60, 20, 20),
    "mini-imagenet": (64, 16, 20),
    "tiered-imagenet": (351, 97, 160),
    "cub": (100, 50, 50),
}


@functools.cache
def parts_of(name: str) -> dict[str, str]:
    """The part that each class belongs to, by its name in the archives.

    CIFAR-FS: Bertinetto et al. 2019; FC100, by superclass: Oreshkin et al. 2018 (TADAM);
    mini-ImageNet: Ravi and Larochelle 2017; tieredImageNet: Ren et al. 2018.
    """
    text = (resources.files("innerloop") / "data/assets/few_shot_splits.json").read_text("utf-8")
    return {c: part for part, classes in json.loads(text)[name].items() for c in classes}


def cub_part(number: int) -> str:
    """The part of a bird by its place in the sorted list, from 0 (Chen et al. 2019, their code)."""
    return "train" if number % 2 == 0 else "val" if number % 4 == 1 else "test"


def check_counts(name: str, found: dict[str, int]) -> None:
    """Raise a `UserError` if the parts do not have as many classes as the paper says."""
    wanted = dict(zip(PARTS, COUNTS[name], strict=True))
    if found != wanted:
        raise UserError(
            f"{name} has {' / '.join(map(str, wanted.values()))} classes for training, validation "
            f"and test, but the source has {' / '.join(str(found.get(p, 0)) for p in PARTS)}: it "
            "is not complete, or another data set"
        )
