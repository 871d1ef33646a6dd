"""Marks tell examples of the same class names apart, and not those of another decoder."""

from __future__ import annotations

import numpy as np
import pytest

import innerloop
from innerloop import UserError
from innerloop.data import from_arrays, random_images
from innerloop.data.base import ImageClasses
from innerloop.runs.loading import load_for
from innerloop.tasks.marks import are_other, marks, marks_of
from tests.conftest import blobs
from tests.small_runs import StopAt, settings


def _noise(name="random", classes=1623, side=28, seed=5):
    images = np.random.default_rng(seed).integers(0, 256, (classes, 4, 1, side, side), np.uint8)
    return ImageClasses.from_square(images, name=name, dark_ink=True)


@pytest.mark.parametrize("side", [1, 3, 28])
@pytest.mark.parametrize("classes", [1, 5, 40])
def test_last_digits_are_the_same_examples_and_others_are_not(classes, side):
    data = random_images(classes, 4, side)
    then = marks(data, np.arange(classes))
    assert len(then) == min(classes, 16)
    bits = np.random.default_rng(1).integers(0, 2, data.images.shape, np.uint8)
    near = np.minimum(data.images, 254) + bits
    decoded = ImageClasses(near, data.starts, data.counts, data.names)
    assert not are_other(then, then)
    if side > 1:
        assert not are_other(then, marks(decoded, np.arange(classes)))
        other = random_images(classes, 4, side, seed=1)
        assert are_other(then, marks(other, np.arange(classes)))


def test_examples_of_equal_mean_and_deviation_are_told_apart():
    series = np.random.default_rng(0).normal(size=(2, 40, 3, 64)).cumsum(axis=-1)
    series = (series - series.mean((2, 3), keepdims=True)) / series.std((2, 3), keepdims=True)
    one, two = (from_arrays(x, np.arange(40) // 4) for x in series)
    assert are_other(marks(one, np.arange(10)), marks(two, np.arange(10)))


@pytest.mark.parametrize("of_a_file", [None, "x", [], [1.0], [["a"]], [[1]], {}, [[]]])
def test_what_a_file_holds_instead_of_marks_is_not_compared(of_a_file):
    assert not are_other(of_a_file, [])
    assert not are_other([[1.0, 2.0]], [])
    assert are_other(of_a_file, [[1.0, 2.0]]) == (of_a_file == [[]])


def test_tasks_without_classes_have_none():
    assert marks_of(innerloop.SinusoidSampler()) == []


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run on noise of the user's own, called as the package's and with its class names."""
    out = tmp_path_factory.mktemp("marks") / "run"
    given = settings("x", iterations=6) | {"data": _noise(), "split": "random", "image_size": None}
    return innerloop.train(out=out, report=StopAt(5), **given).folder


def test_a_run_is_not_resumed_on_other_data_of_its_name(stopped):
    with pytest.raises(UserError, match=r"random has other examples .* \.npy file"):
        innerloop.resume(stopped)


def test_nor_tested_on_it_unless_that_is_asked_for(stopped):
    with pytest.raises(UserError, match=r"random is not what the run .* --data"):
        load_for(stopped)
    assert load_for(stopped, data="random")[1].data_name == "random"


def test_a_class_that_is_gone_is_said(tmp_path):
    array = blobs(tmp_path / "blobs.npy")
    run = innerloop.train(
        out=tmp_path / "run", **settings(array, iterations=2, schedule="constant")
    )
    every = np.load(array)
    np.save(array, every[: len(every) // 2])
    with pytest.raises(UserError, match="it lacks training classes"):
        load_for(run.folder)
    np.save(array, every[:, ::-1])
    with pytest.raises(UserError, match="other examples of its training classes"):
        load_for(run.folder)
    with pytest.raises(UserError, match="other examples"):
        innerloop.resume(run.folder, iterations=4)
    np.save(array, every)
    innerloop.resume(run.folder, iterations=4)
