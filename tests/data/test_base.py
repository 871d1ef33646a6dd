"""What every data set becomes, and `.npy` files that cannot become one."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.data import ImageClasses, from_arrays
from innerloop.data.base import check_data, load_npy
from innerloop.errors import UserError


def three_classes() -> ImageClasses:
    array = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 1, 2, 2)
    return ImageClasses.from_square(array)


def test_a_square_array():
    data = three_classes()
    assert data.num_classes == 3
    assert data.image_shape == (1, 2, 2)
    assert data.names == ["class0000", "class0001", "class0002"]
    assert data.groups == ("", "", "")
    assert data.class_images(1).ravel().tolist() == list(range(8, 16))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": np.zeros((6, 2, 2), np.uint8)}, "uint8 array"),
        ({"images": np.zeros((6, 1, 2, 2), np.float32)}, "uint8 array.*float32"),
        ({"names": ["a", "b"]}, "one entry a class"),
        ({"names": ["a", "b", "a"]}, "two classes are named 'a'"),
        ({"groups": ["a", "b"]}, "groups must have one entry a class"),
        ({"counts": np.array([2, 0, 2])}, "at least one image"),
        ({"counts": np.array([2, 2, 3])}, "beyond the 6 images"),
        ({"starts": np.array([-1, 2, 4])}, "must not be negative"),
    ],
)
def test_parts_that_do_not_fit_together(change, words):
    with pytest.raises(UserError, match=words):
        dataclasses.replace(three_classes(), **change)


@pytest.mark.parametrize("shape", [(3, 2, 2, 2), (0, 2, 1, 2, 2), (3, 0, 1, 2, 2)])
def test_arrays_that_are_not_square(shape):
    with pytest.raises(UserError, match="need a uint8 array"):
        ImageClasses.from_square(np.zeros(shape, np.uint8))


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, np.zeros(3))
    return file.getvalue()


WHOLE = npy(np.zeros((3, 4), np.uint8))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no array",
        WHOLE[:5],
        WHOLE[:60],
        WHOLE[:-1],
        WHOLE.replace(b"}", b" "),  # numpy's own header parser fails on it
        WHOLE.replace(b"|u1", b"|O8"),
        npz(),
        npz()[:100],
        b"\x80\x04K\x01.",  # a pickle
    ],
    ids=lambda content: f"{len(content)}-bytes",
)
def test_unusable_npy_files_are_named(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npy is not a usable \.npy file"):
        load_npy(tmp_path / "a.npy")


def test_missing_npy_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"a\.npy does not exist"):
        load_npy(tmp_path / "a.npy")
    with pytest.raises(UserError, match="not a usable"):
        load_npy(tmp_path)


def test_npy_files_are_memory_mapped_and_read_only(tmp_path):
    (tmp_path / "a.npy").write_bytes(WHOLE)
    array = load_npy(tmp_path / "a.npy")
    assert isinstance(array, np.memmap)
    assert not array.flags.writeable


@given(st.integers(1, 6), st.data())
def test_class_numbers_are_those_that_there_are(number, data):
    """Any index of the classes that NumPy accepts is accepted, and nothing else."""
    classes = ImageClasses.from_square(np.zeros((number, 1, 1, 2, 2), np.uint8))
    given = data.draw(st.lists(st.integers(-8, 8), max_size=5))
    try:
        expected = np.arange(number)[np.array(given, dtype=np.int64)]
    except IndexError:
        wrong = next(n for n in given if not -number <= n < number)
        with pytest.raises(UserError, match=f"no class {wrong}: .* 0 to {number - 1}$"):
            classes.class_numbers(given)
    else:
        assert classes.class_numbers(given).tolist() == expected.tolist()
        assert classes.class_numbers(np.array(given)).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["a"], "names such as 'a'"),
        ([0.5], "whole numbers"),
        ([[0, 1]], r"whole numbers .* not int64 of shape \[1, 2\]"),
        ([True, False], "whole numbers"),
        ({"train": [0], "test": [1]}, "not a dict: give one of its entries, 'train', 'test'"),
        ([0, [1]], "must be numbers"),
    ],
)
def test_what_are_no_class_numbers_is_refused(given, words):
    data = three_classes()
    with pytest.raises(UserError, match=words):
        data.class_numbers(given)
    with pytest.raises(UserError, match="there is no class 3: images has the classes 0 to 2"):
        data.class_images(3)
    assert data.class_numbers([True, False, True]).tolist() == [0, 2]
    assert data.class_numbers(slice(1, None)).tolist() == [1, 2]


def test_what_is_no_data_set_is_refused():
    with pytest.raises(UserError, match="data must be a data set, not list"):
        check_data([1, 2])


def test_a_data_set_is_shown_in_one_line():
    square = dataclasses.replace(three_classes(), name="signs")
    assert repr(square) == "<ImageClasses 'signs': 3 classes, 6 images of 1 x 2 x 2>"
    vectors = from_arrays(np.zeros((2000, 3)), np.arange(2000) % 1000)
    assert repr(vectors) == "<ExampleClasses 'arrays': 1,000 classes, 2,000 examples of 3>"
