"""Named splits of the classes into meta-train, meta-validation and meta-test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from innerloop.data.base import ClassIndexed, check_data
from innerloop.data.omniglot_facts import MINIMAL, class_names, facts
from innerloop.errors import UserError
from innerloop.keywords import keywords_checked

PARTS = ("train", "val", "test")
OMNIGLOT_CLASSES = 1623

Parts = tuple[list[int], list[int], list[int]]


@keywords_checked
def split_classes(data: ClassIndexed, name: str = "auto", seed: int = 0) -> dict[str, np.ndarray]:
    """Split the classes of a data set by the protocol of that name.

    Which class goes where depends on the names of the classes (and on the seed,
    where one is used), never on the order of files, on global random state, or on
    the version of a library.

    - `tutorial`: the first 1,100 characters train, the next 100 validate, the last
      423 test.
    - `tutorial-no-validation`: the first 1,200 train, the last 423 test.
    - `finn2017`: 1,100 / 100 / 423 characters drawn at random (by `seed`).
    - `vinyals2016`: 1,028 / 172 / 423 characters by fixed lists.
    - `lake2015`: the background alphabets train, but for the last five, which
      validate; the evaluation alphabets test.
    - `lake2015-small1`, `lake2015-small2`: the authors' two "minimal" background sets: four
      alphabets train, Latin validates; the evaluation alphabets test.
    - `csv`: what `train.csv`, `val.csv` and `test.csv` say.
    - `folders`: what the folders `train`, `val` and `test` say.
    - `given`: the one given to `innerloop.data.from_arrays` or `from_dataset`.
    - `groups`: 64 / 16 / 20 % of the groups (alphabets), drawn by `seed`.
    - `random`: 64 / 16 / 20 % of the classes, drawn by `seed`.
    - any other split that came with the data, by its name.
    - `auto`: `csv` if there is one, else the only split that came with the data, else
      `tutorial` for 1,623 classes, else `groups` from 10 groups on, else `random`.

    Args:
        data: the data set.
        name: one of the names above.
        seed: which draw `finn2017`, `groups` and `random` take.  It belongs to the
            protocol: training and evaluation must use the same.

    Returns:
        `"train"`, `"val"` and `"test"`, each an `int64` array of class indices in
        ascending order; disjoint.  `"val"` may be empty.

    Raises:
        UserError: no such split, or it does not fit this data set.
    """
    check_data(data)
    if name == "auto":
        name = automatic_split(data)
    if name in data.splits:
        given = data.splits[name]
        parts = tuple(list(given.get(part, ())) for part in PARTS)
    elif name in _BUILT_IN:
        parts = _BUILT_IN[name](data, seed)
    else:
        raise UserError(
            f"there is no split named {name!r}; {data.name} has "
            f"{', '.join(['auto', *available_splits(data)])}"
        )
    split = {
        part: np.array(sorted(classes), dtype=np.int64)
        for part, classes in zip(PARTS, parts, strict=True)
    }
    together = np.concatenate(list(split.values()))
    if len(np.unique(together)) != len(together):
        raise UserError(f"split {name!r} of {data.name} has the same class in two parts")
    if len(together) and not 0 <= together.min() <= together.max() < data.num_classes:
        raise UserError(f"split {name!r} of {data.name} names classes that are not there")
    return split


@keywords_checked
def available_splits(data: ClassIndexed) -> list[str]:
    """Names of the splits that fit a data set, without `auto`."""
    names = list(data.splits)
    for name, rule in _BUILT_IN.items():
        if name in names or name == "csv":
            continue
        try:
            rule(data, 0)
        except UserError:
            continue  # It does not fit this data set, which is what is being asked.
        names.append(name)
    return names


def automatic_split(data: ClassIndexed) -> str:
    """Name of the split that `auto` stands for."""
    if "csv" in data.splits:
        return "csv"
    if len(data.splits) == 1:
        return next(iter(data.splits))
    if data.num_classes == OMNIGLOT_CLASSES:
        return "tutorial"
    return "groups" if len(_groups(data)) >= 10 else "random"


def _tutorial(data: ClassIndexed, seed: int) -> Parts:
    _need_omniglot_size(data, "tutorial")
    return _ranges(1100, 1200)


def _tutorial_no_validation(data: ClassIndexed, seed: int) -> Parts:
    _need_omniglot_size(data, "tutorial-no-validation")
    return _ranges(1200, 1200)


def _finn2017(data: ClassIndexed, seed: int) -> Parts:
    _need_omniglot_size(data, "finn2017")
    index = {name: i for i, name in enumerate(data.names)}
    order = [index[name] for name in _shuffled(list(data.names), seed)]
    return order[:1100], order[1100:1200], order[1200:]


def _vinyals2016(data: ClassIndexed, seed: int) -> Parts:
    index = _omniglot_index(data, "vinyals2016")
    rule = facts()["vinyals2016"]
    names = class_names(facts())
    test = names[names.index(rule["test_from"]) :]
    val = [name for name in names if name.split("/")[0] in rule["val"]]
    train = sorted(set(names) - set(test) - set(val))
    return [index[n] for n in train], [index[n] for n in val], [index[n] for n in test]


def _lake2015(data: ClassIndexed, seed: int) -> Parts:
    background = sorted(facts()["background"])
    return _by_alphabet(data, "lake2015", background[:-5], background[-5:])


def _lake2015_small1(data: ClassIndexed, seed: int) -> Parts:
    return _by_alphabet(data, "lake2015-small1", MINIMAL["small1"][:-1], MINIMAL["small1"][-1:])


def _lake2015_small2(data: ClassIndexed, seed: int) -> Parts:
    return _by_alphabet(data, "lake2015-small2", MINIMAL["small2"][:-1], MINIMAL["small2"][-1:])


def _by_alphabet(data: ClassIndexed, name: str, train: Sequence[str], val: Sequence[str]) -> Parts:
    """Some background alphabets train, others validate, and the evaluation alphabets test."""
    index = _omniglot_index(data, name)
    wanted = (train, val, facts()["evaluation"])
    of_train, of_val, of_test = (
        [i for name, i in index.items() if name.split("/")[0] in alphabets] for alphabets in wanted
    )
    return of_train, of_val, of_test


def _csv(data: ClassIndexed, seed: int) -> Parts:
    raise UserError(
        f"{data.name} came without train.csv, val.csv and test.csv; "
        f"it has {', '.join(['auto', *available_splits(data)])}"
    )


def _by_groups(data: ClassIndexed, seed: int) -> Parts:
    groups = _groups(data)
    parts = _shares(_shuffled(groups, seed), f"groups of {data.name}")
    train, val, test = (
        [i for i, group in enumerate(data.groups) if group in set(part)] for part in parts
    )
    return train, val, test


def _random(data: ClassIndexed, seed: int) -> Parts:
    index = {name: i for i, name in enumerate(data.names)}
    parts = _shares(_shuffled(list(data.names), seed), f"classes of {data.name}")
    train, val, test = ([index[name] for name in part] for part in parts)
    return train, val, test


_BUILT_IN: dict[str, Callable[[ClassIndexed, int], Parts]] = {
    "tutorial": _tutorial,
    "tutorial-no-validation": _tutorial_no_validation,
    "finn2017": _finn2017,
    "vinyals2016": _vinyals2016,
    "lake2015": _lake2015,
    "lake2015-small1": _lake2015_small1,
    "lake2015-small2": _lake2015_small2,
    "csv": _csv,
    "groups": _by_groups,
    "random": _random,
}


def _ranges(first_val: int, first_test: int) -> Parts:
    return (
        list(range(first_val)),
        list(range(first_val, first_test)),
        list(range(first_test, OMNIGLOT_CLASSES)),
    )


def _shuffled(names: list[str], seed: int) -> list[str]:
    """Names in the order of their SHA-256, which is the same everywhere."""

    def key(name: str) -> tuple[bytes, str]:
        # A folder's name may hold bytes that are not text.
        text = f"{seed}:{name}".encode(errors="surrogateescape")
        return hashlib.sha256(text).digest(), name

    return sorted(names, key=key)


def _shares(names: list[str], what: str) -> tuple[list[str], list[str], list[str]]:
    """64, 16 and 20 %, at least one each."""
    if len(names) < 3:
        raise UserError(f"too few {what} to split in three: {len(names)}, at least 3 are needed")
    test = max(1, round(0.2 * len(names)))
    val = max(1, round(0.16 * len(names)))
    return names[test + val :], names[test : test + val], names[:test]


def _groups(data: ClassIndexed) -> list[str]:
    return sorted(set(data.groups) - {""})


def _need_omniglot_size(data: ClassIndexed, name: str) -> None:
    if data.num_classes != OMNIGLOT_CLASSES:
        raise UserError(
            f"split {name!r} is for the {OMNIGLOT_CLASSES:,} characters of Omniglot; "
            f"{data.name} has {data.num_classes:,} classes: use auto, groups or random"
        )


def _omniglot_index(data: ClassIndexed, name: str) -> dict[str, int]:
    if set(data.names) != set(class_names(facts())):
        raise UserError(
            f"split {name!r} names alphabets of Omniglot, which {data.name} does not have: "
            "use auto, groups or random"
        )
    return {class_name: i for i, class_name in enumerate(data.names)}
