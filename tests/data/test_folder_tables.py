"""mini-ImageNet's layout with csv files, and prepared arrays."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from innerloop.data import folder, load, split_classes
from innerloop.errors import UserError

pytestmark = [
    pytest.mark.usefixtures("home"),
    # Made for size, format and order; `test_remarks.py` is about what is said of content.
    pytest.mark.filterwarnings(
        "ignore:.*(one colour only|that another class has|twice in a class)"
    ),
]

ROWS = {
    "train": [("1.jpg", "n02"), ("2.jpg", "n01"), ("3.jpg", "n02")],
    "val": [("4.jpg", "n03")],
    "test": [("5.jpg", "n05"), ("6.jpg", "n04")],
}


@pytest.fixture
def mini(tmp_path):
    root = tmp_path / "mini"
    (root / "images").mkdir(parents=True)
    for number in range(1, 7):
        noise = np.random.default_rng(number).integers(0, 256, (70, 100, 3), np.uint8)
        Image.fromarray(noise).save(root / "images" / f"{number}.jpg")
    for part, rows in ROWS.items():
        lines = ["filename,label", *(",".join(row) for row in rows)]
        (root / f"{part}.csv").write_text("\n".join(lines) + "\n")
    return root


def test_classes_and_split_come_from_the_tables(mini):
    data = folder(mini)
    assert data.names == ["n01", "n02", "n03", "n04", "n05"]
    assert data.counts.tolist() == [1, 2, 1, 1, 1]
    assert data.image_shape == (3, 84, 84)
    assert not data.dark_ink
    for name in ("csv", "auto"):
        split = split_classes(data, name)
        assert {part: list(classes) for part, classes in split.items()} == {
            "train": [0, 1],
            "val": [2],
            "test": [3, 4],
        }
    picture = Image.open(mini / "images" / "3.jpg").resize((84, 84), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(data.class_images(1)[1], np.asarray(picture).transpose(2, 0, 1))


def test_spreadsheet_habits_are_understood(mini):
    text = "﻿label, filename\r\nn02,1.jpg\r\nn01, 2.jpg\r\nn02,3.jpg\r\n"
    (mini / "train.csv").write_bytes(text.encode("utf-8"))
    assert folder(mini).names == ["n01", "n02", "n03", "n04", "n05"]


def test_a_part_without_classes(mini):
    (mini / "val.csv").write_text("filename,label\n")
    with pytest.warns(UserWarning, match=r"1 picture in images that no csv file names, such as 4"):
        split = split_classes(folder(mini), "csv")
    assert [len(split[part]) for part in ("train", "val", "test")] == [2, 0, 2]


@pytest.mark.parametrize(
    ("table", "text", "words"),
    [
        ("train", "file,label\n1.jpg,n01\n", "no column 'filename'.*not file,label"),
        ("train", "filename,class\n1.jpg,n01\n", "no column 'label'"),
        ("train", "", "no column 'filename'"),
        ("train", "filename,label\n1.jpg\n", "row 2 lacks a filename or a label"),
        ("train", "filename,label\n1.jpg,n01\n,n02\n", "row 3 lacks"),
        ("val", "filename,label\n4.jpg,n01\n", "'n01' is in train.csv too"),
        (
            "val",
            "filename,label\n1.jpg,n09\n",
            r"row 2: 1.jpg was named before, in train.csv row 2",
        ),
        ("val", "filename,label\n7.jpg,n07\n8.jpg,n07\n", r"7.jpg \(val.csv row 2\) and 1 more"),
        ("val", "filename,label\n../../secret.png,n07\n", "points out of images/"),
        ("val", "filename,label\n.,n07\n", "points out of images/"),
        ("val", "filename,label\n4.jpg,n03\n\n\n,n07\n", "row 5 lacks"),
        ("val", "filename,label\n/etc/secret.png,n07\n", "points out of images/"),
        ("val", b"filename,label\n\xff\xfe.jpg,n07\n", "cannot be read as a csv file in UTF-8"),
    ],
)
def test_mistakes_in_a_table_are_named(mini, table, text, words):
    (mini / f"{table}.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=words):
        folder(mini)


def test_missing_tables_and_folders(mini):
    (mini / "val.csv").unlink()
    with pytest.raises(UserError, match=r"has train.csv but not val.csv.*filename,label"):
        folder(mini)
    (mini / "val.csv").write_text("filename,label\n")
    (mini / "images").rename(mini / "pictures")
    with pytest.raises(UserError, match="no folder named images"):
        folder(mini)


def test_tables_without_any_row(mini):
    for part in ROWS:
        (mini / f"{part}.csv").write_text("filename,label\n")
    with pytest.raises(UserError, match="name no pictures"):
        folder(mini)


@pytest.mark.parametrize(("paper", "dark"), [(250, True), (5, False)])
def test_a_prepared_array(tmp_path, paper, dark):
    array = np.full((4, 3, 1, 8, 8), paper, np.uint8)
    array[..., 3:5, 3:5] = 255 - paper
    np.save(tmp_path / "mine.npy", array)
    data = load(tmp_path / "mine.npy")
    assert (data.name, data.num_classes, data.dark_ink) == ("mine", 4, dark)
    assert isinstance(data.images, np.memmap)
    np.testing.assert_array_equal(data.class_images(2), array[2])
    with pytest.raises(UserError, match="image_size must be 8"):
        load(tmp_path / "mine.npy", image_size=28)
    with pytest.raises(UserError, match="channels must be 1"):
        folder(tmp_path / "mine.npy", channels=3)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 3, 8, 8), np.uint8),
        np.zeros((4, 3, 1, 8, 8)),
        np.zeros((4, 3, 2, 8, 8), np.uint8),
        np.zeros((0, 3, 1, 8, 8), np.uint8),
        np.array([{"a": 1}], dtype=object),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=r"a\.npy"):
        folder(tmp_path / "a.npy")


def test_unknown_names_list_the_choices(tmp_path):
    with pytest.raises(UserError, match=r"'omniglott' is neither .*omniglot, glyphs, random"):
        load("omniglott")
    with pytest.raises(UserError, match="image_size is for folders"):
        load("random", image_size=32)
