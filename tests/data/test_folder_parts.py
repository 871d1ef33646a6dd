"""Folders named for the parts of a split."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from innerloop import cli
from innerloop.data import available_splits, folder, split_classes
from innerloop.errors import UserError

pytestmark = pytest.mark.usefixtures("home")


def make(root, parts):
    generator = np.random.default_rng(0)
    for part, names in parts.items():
        for name in names:
            (root / part / name).mkdir(parents=True)
            for number in range(2):
                noise = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(noise).save(root / part / name / f"{number}.png")
    return root


@pytest.mark.parametrize(
    "parts",
    [
        "train val test",
        "TRAIN Valid Test",
        "meta_train meta-val metatest",
        "training_set validation-images TestData",
        "training dev",
    ],
)
def test_parts_are_the_split_whatever_they_are_called(tmp_path, parts):
    if "dev" in parts:
        # Not all of them name parts of a split, so they are groups like any other folders.
        data = folder(make(tmp_path, {part: [part[0] + "1"] for part in parts.split()}))
        assert list(data.names) == ["dev/d1", "training/t1"]
        assert "folders" not in available_splits(data)
        return
    train, val, test = parts.split()
    root = make(tmp_path, {train: ["a", "d"], val: ["c"], test: ["birds/b", "e"]})
    for _ in range(2):  # prepared, then read again
        data = folder(root)
        assert list(data.names) == ["a", "birds/b", "c", "d", "e"]
        assert list(data.groups) == ["", "birds", "", "", ""]
        for name in ("auto", "folders"):
            split = split_classes(data, name)
            names = {part: [data.names[c] for c in classes] for part, classes in split.items()}
            assert names == {"train": ["a", "d"], "val": ["c"], "test": ["birds/b", "e"]}


def test_the_command_says_what_was_understood(tmp_path, capsys):
    root = make(tmp_path, {"train": ["a", "b"], "test": ["c"]})
    cli.main(["data", "info", str(root), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["automatic_split"] == "folders"
    assert facts["splits"]["folders"] == {"train": 2, "val": 0, "test": 1}


def test_the_same_classes_in_all_parts_are_put_together(tmp_path):
    root = make(tmp_path, {"train": ["cat", "dog", "owl"], "test": ["cat", "dog", "owl"]})
    with pytest.warns(UserWarning, match="folders test, train have the same 3 classes"):
        data = folder(root)
    assert list(data.names) == ["cat", "dog", "owl"]
    assert data.counts.tolist() == [4, 4, 4]
    assert "folders" not in available_splits(data)


def test_a_class_in_two_parts_is_refused(tmp_path):
    root = make(tmp_path, {"train": ["cat", "dog"], "val": ["cat"], "test": ["owl"]})
    with pytest.raises(UserError, match="class 'cat' is in train and val, but class 'dog' only"):
        folder(root)


def test_classes_that_are_called_so_stay_classes(tmp_path):
    root = make(tmp_path, {".": ["train", "plane", "test"]})
    assert list(folder(root).names) == ["plane", "test", "train"]


def test_one_part_alone_is_no_split(tmp_path):
    data = folder(make(tmp_path, {"train": ["a", "b", "c"]}))
    assert list(data.names) == ["train/a", "train/b", "train/c"]


def test_parts_beside_another_folder_are_said(tmp_path):
    make(tmp_path, {"train": ["a", "b"], "val": ["c"], "extra": ["d"]})
    with pytest.warns(UserWarning, match="train and val are named for parts .* but extra beside"):
        data = folder(tmp_path)
    assert list(data.names) == ["extra/d", "train/a", "train/b", "val/c"]


def test_groups_with_classes_of_the_same_names_are_shown(tmp_path):
    """Two alphabets may share the name of a class; two folds of a cross-validation should not."""
    data = folder(make(tmp_path, {"fold1": ["a", "b"], "fold2": ["a", "b"]}))
    (remark,) = data.remarks
    assert remark.text.startswith("the 2 folders fold1, fold2 have classes of the same names")
    assert not remark.warns
    assert data.num_classes == 4
