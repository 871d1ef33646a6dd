"""Splits: the right sizes, disjoint, and the same whatever the order."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from innerloop.data import ImageClasses, available_splits, random_images, split_classes
from innerloop.data.omniglot_facts import class_names, facts
from innerloop.data.splits import automatic_split
from innerloop.errors import UserError

PARTS = ("train", "val", "test")
NAMES = class_names(facts())


def data_set(names, groups=(), **attributes) -> ImageClasses:
    """Classes of one tiny image each: splits look at names only."""
    array = np.zeros((len(names), 1, 1, 1, 1), np.uint8)
    return ImageClasses.from_square(array, names=list(names), groups=groups, **attributes)


def omniglot_names(names=NAMES) -> ImageClasses:
    return data_set(names, [name.split("/")[0] for name in names], name="omniglot")


def named(data: ImageClasses, split: dict[str, np.ndarray]) -> dict[str, set[str]]:
    return {part: {data.names[i] for i in classes} for part, classes in split.items()}


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("tutorial", (1100, 100, 423)),
        ("tutorial-no-validation", (1200, 0, 423)),
        ("finn2017", (1100, 100, 423)),
        ("vinyals2016", (1028, 172, 423)),
        ("lake2015", (813, 151, 659)),
        ("lake2015-small1", (110, 26, 659)),
        ("lake2015-small2", (130, 26, 659)),
        ("random", (1038, 260, 325)),
        ("groups", None),
        ("auto", (1100, 100, 423)),
    ],
)
def test_sizes_of_omniglots_splits(name, sizes):
    split = split_classes(omniglot_names(), name)
    assert tuple(split) == PARTS
    together = np.concatenate(list(split.values()))
    # The minimal sets leave most alphabets out; the others have every character.
    whole = range(1623) if "small" not in name else sorted(set(together))
    assert sorted(together) == list(whole)
    for classes in split.values():
        assert classes.dtype == np.int64
        assert list(classes) == sorted(classes)
    if sizes:
        assert tuple(len(split[part]) for part in PARTS) == sizes


def test_all_that_fit_omniglot_are_listed():
    assert available_splits(omniglot_names()) == [
        "tutorial",
        "tutorial-no-validation",
        "finn2017",
        "vinyals2016",
        "lake2015",
        "lake2015-small1",
        "lake2015-small2",
        "groups",
        "random",
    ]


def test_the_tutorials_split_is_by_position():
    split = split_classes(omniglot_names(), "tutorial")
    assert (split["train"][-1], split["val"][0], split["test"][0]) == (1099, 1100, 1200)
    assert split_classes(random_images(per_class=1, size=1), "auto")["test"][0] == 1200


@pytest.mark.parametrize("name", ["finn2017", "vinyals2016", "lake2015", "groups", "random"])
def test_the_order_of_the_classes_does_not_matter(name):
    forwards, backwards = omniglot_names(), omniglot_names(NAMES[::-1])
    assert named(forwards, split_classes(forwards, name)) == named(
        backwards, split_classes(backwards, name)
    )


def test_random_splits_are_these_for_ever():
    """Results of other people depend on these; they must never change."""
    test = split_classes(omniglot_names(), "finn2017")["test"]
    assert test[:8].tolist() == [5, 20, 22, 25, 26, 30, 33, 37]
    assert split_classes(omniglot_names(), "random")["val"][:8].tolist() == [
        4,
        15,
        16,
        23,
        24,
        28,
        32,
        36,
    ]


@pytest.mark.parametrize("name", ["finn2017", "groups", "random"])
def test_the_seed_draws_another_split_and_global_state_does_not(name):
    first = split_classes(omniglot_names(), name)
    np.random.seed(1)  # noqa: NPY002 (the point is that it has no influence)
    again = split_classes(omniglot_names(), name, seed=0)
    other = split_classes(omniglot_names(), name, seed=1)
    for part in PARTS:
        np.testing.assert_array_equal(first[part], again[part])
    assert not np.array_equal(first["test"], other["test"])


def test_vinyals_lists():
    data = omniglot_names()
    parts = named(data, split_classes(data, "vinyals2016"))
    assert {name.split("/")[0] for name in parts["val"]} == {
        "Armenian",
        "Bengali",
        "Early_Aramaic",
        "Hebrew",
        "Mkhedruli_(Georgian)",
    }
    assert {"Gurmukhi/character42", "Kannada/character01", "ULOG/character26"} <= parts["test"]
    assert {"Gurmukhi/character41", "Angelic/character01", "Greek/character01"} <= parts["train"]


def test_lake_and_groups_keep_alphabets_together():
    data = omniglot_names()
    for name in ("lake2015", "groups"):
        split = split_classes(data, name)
        alphabets = [{data.groups[i] for i in split[part]} for part in PARTS]
        assert sum(map(len, alphabets)) == 50
    lake = named(data, split_classes(data, "lake2015"))
    assert {name.split("/")[0] for name in lake["test"]} == set(facts()["evaluation"])


def test_the_minimal_sets_are_five_background_alphabets():
    data = omniglot_names()
    whole = named(data, split_classes(data, "lake2015"))
    for number in (1, 2):
        small = named(data, split_classes(data, f"lake2015-small{number}"))
        alphabets = {name.split("/")[0] for name in small["train"] | small["val"]}
        assert len(alphabets) == 5
        assert alphabets < set(facts()["background"])
        assert small["test"] == whole["test"]


def test_automatic_choice():
    few = data_set([f"c{i}" for i in range(30)], [f"g{i % 9}" for i in range(30)])
    many = data_set([f"c{i}" for i in range(30)], [f"g{i % 10}" for i in range(30)])
    parts = {"train": np.array([0, 1]), "val": np.array([2]), "test": np.array([3])}
    assert automatic_split(few) == "random"
    assert automatic_split(many) == "groups"
    assert automatic_split(dataclasses.replace(many, splits={"glyphs": parts})) == "glyphs"
    assert automatic_split(dataclasses.replace(many, splits={"a": parts, "b": parts})) == "groups"
    assert automatic_split(dataclasses.replace(many, splits={"csv": parts, "b": parts})) == "csv"
    given = split_classes(dataclasses.replace(few, splits={"mine": parts}), "mine")
    assert {part: list(classes) for part, classes in given.items()} == {
        "train": [0, 1],
        "val": [2],
        "test": [3],
    }


@pytest.mark.parametrize("classes", [3, 4, 5, 10, 100])
def test_every_part_of_a_random_split_has_classes(classes):
    split = split_classes(data_set([f"c{i}" for i in range(classes)]), "random")
    assert min(len(split[part]) for part in PARTS) >= 1
    assert sum(len(split[part]) for part in PARTS) == classes


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nonsense", r"no split named 'nonsense'; images has auto, random"),
        ("tutorial", "1,623 characters of Omniglot; images has 4 classes"),
        ("finn2017", "1,623 characters"),
        ("vinyals2016", "names alphabets of Omniglot"),
        ("lake2015", "names alphabets of Omniglot"),
        ("groups", "too few groups of images to split in three: 0"),
        ("csv", "without train.csv.*auto, random"),
    ],
)
def test_splits_that_do_not_fit(name, words):
    with pytest.raises(UserError, match=words):
        split_classes(data_set(["a", "b", "c", "d"]), name)


def test_too_few_classes_and_bad_parts():
    with pytest.raises(UserError, match="too few classes"):
        split_classes(data_set(["a", "b"]), "random")
    data = data_set(["a", "b"], splits={"mine": {"train": np.array([0]), "test": np.array([0])}})
    with pytest.raises(UserError, match="same class in two parts"):
        split_classes(data, "mine")
    data = data_set(["a", "b"], splits={"mine": {"train": np.array([0]), "test": np.array([2])}})
    with pytest.raises(UserError, match="classes that are not there"):
        split_classes(data, "mine")
