"""Noise for trying the pipeline, and pictures of data sets."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from innerloop.data import ImageClasses, contact_sheet, random_images
from innerloop.errors import UserError


def test_random_images_have_omniglots_shape_and_depend_on_the_seed_only():
    data = random_images()
    assert data.images.reshape(1623, 20, 1, 28, 28).nbytes == 25_448_640
    assert data.dark_ink
    assert data.images.min() == 0
    assert data.images.max() == 255
    small = random_images(classes=2, per_class=1, size=2, seed=5)
    np.testing.assert_array_equal(small.images, random_images(2, 1, 2, seed=5).images)
    assert not np.array_equal(small.images, random_images(2, 1, 2, seed=6).images)


@pytest.mark.parametrize("wrong", [{"classes": 0}, {"per_class": -1}, {"size": 0}, {"seed": -1}])
def test_random_images_out_of_range(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        random_images(**wrong)


@pytest.mark.filterwarnings("ignore:no font on this machine")
@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_shows_the_images(tmp_path, channels):
    array = np.random.default_rng(0).integers(0, 256, (3, 4, channels, 28, 28), np.uint8)
    names = ["Greek/character01", "文字/二", "a very long name of a class that fits nowhere" * 3]
    data = ImageClasses.from_square(array, names=names, name="数据 set")
    path = contact_sheet(data, tmp_path / "new" / "sheet.png", per_class=2)
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    first = array[0, 0] if channels == 3 else array[0, 0].repeat(3, axis=0)
    enlarged = first.transpose(1, 2, 0).repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(pixels[86 : 86 + 56, 250 : 250 + 56], enlarged)
    again = contact_sheet(data, tmp_path / "again.png", per_class=2)
    assert path.read_bytes() == again.read_bytes()


def _label(path, name):
    """The pixels of the label beside the only class."""
    data = ImageClasses.from_square(np.zeros((1, 1, 1, 28, 28), np.uint8), names=[name])
    with Image.open(contact_sheet(data, path)) as picture:
        return np.asarray(picture)[86 : 86 + 60, :250]


def test_a_sheet_draws_the_letters_of_other_alphabets(tmp_path):
    """These are in fonts that come with Matplotlib; a missing one would be a warning."""
    names = ["caf?", "caf\u00e9", "\u0440\u0443?", "\u0440\u0443\u0441", "\u2316 nut", "$x$"]
    labels = [_label(tmp_path / "sheet.png", name) for name in names]
    assert len({label.tobytes() for label in labels}) == len(names)


def test_a_sheet_says_which_names_no_font_has(tmp_path):
    names = ["plain", "\U0010fffd/a", "b\nc", *("\U0010fffc" * n for n in range(1, 4))]
    array = np.zeros((6, 1, 1, 28, 28), np.uint8)
    with pytest.warns(UserWarning, match="no font on this machine has") as said:
        contact_sheet(ImageClasses.from_square(array, names=names), tmp_path / "sheet.png")
    (message,) = (str(each.message) for each in said)
    # A line break has one that is written out.
    assert r"#1 is '\U0010fffd/a', #3 is" in message
    assert "#0" not in message
    assert "and 1 more" in message
    assert said[0].filename == __file__


def test_a_long_name_keeps_its_number(tmp_path):
    """Names that differ where they are cut differ in the picture by their numbers."""
    names = [f"group/{'long' * 20}{i}" for i in range(2)]
    data = ImageClasses.from_square(np.zeros((2, 1, 1, 28, 28), np.uint8), names=names)
    with Image.open(contact_sheet(data, tmp_path / "sheet.png")) as picture:
        first, second = np.asarray(picture)[86 : 86 + 120, :250].reshape(2, 60, 250, 3)
    assert (first[:, :200] == second[:, :200]).all()
    assert (first != second).any()


def test_ragged_classes_and_large_images(tmp_path):
    data = dataclasses.replace(
        random_images(classes=2, per_class=3, size=84),
        counts=np.array([1, 5]),
        starts=np.array([0, 1]),
    )
    with Image.open(contact_sheet(data, tmp_path / "sheet.png")) as picture:
        assert picture.size[1] == 40 + 66 + 2 * 88


@pytest.mark.parametrize(
    ("shape", "height"), [((3, 600, 400), 112), ((1, 1, 900), 1), ((2, 28, 28), 56)]
)
def test_a_sheet_of_any_pictures_has_a_sane_size(tmp_path, shape, height):
    data = ImageClasses.from_square(np.zeros((3, 12, *shape), np.uint8))
    with Image.open(contact_sheet(data, tmp_path / "sheet.png")) as picture:
        assert picture.size[1] == 40 + 66 + 3 * (height + 4)
        assert 640 <= picture.size[0] <= 2000


def test_mistakes(tmp_path):
    data = random_images(classes=2, per_class=1, size=4)
    with pytest.raises(UserError, match=r"must end in \.png"):
        contact_sheet(data, tmp_path / "sheet.jpg")
    for wrong in ({"classes": 0}, {"per_class": 0}, {"classes": 501}):
        with pytest.raises(UserError, match="1 to 500"):
            contact_sheet(data, tmp_path / "sheet.png", **wrong)
