"""One picture in place of several."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import innerloop
from innerloop.data.single import several
from innerloop.errors import UserError

SUPPORT = np.stack([np.eye(28), np.eye(28)[::-1]])


@pytest.fixture(scope="module")
def classifier():
    return innerloop.FewShotClassifier().fit(SUPPORT, ["down", "up"])


@pytest.mark.parametrize("side", [16, 28, 36])
def test_one_picture_has_one_label(classifier, tmp_path, side):
    array = (np.eye(side)[::-1] * 255).astype(np.uint8)
    picture = Image.fromarray(array)
    picture.save(tmp_path / "1.png")
    path = tmp_path / "1.png"
    forms = (picture, path, str(path), array, array[None], array[..., None], array[None, None])
    for X in (*forms, torch.from_numpy(array), array / 255, array > 0, [array], [picture]):
        assert classifier.predict(X).tolist() == ["up"]
    assert classifier.predict_proba(array).shape == (1, 2)


def test_rows_are_pictures_where_flattened_ones_were_learnt():
    flat = SUPPORT.reshape(2, -1)
    classifier = innerloop.FewShotClassifier().fit(flat, ["down", "up"])
    assert classifier.predict(flat).tolist() == ["down", "up"]
    with pytest.raises(UserError, match="X has 28 features"):
        classifier.predict(SUPPORT[0])


@pytest.mark.parametrize("shape", [(4, 784), (4, 768), (64, 64), (2, 192)])
def test_flattened_pictures_are_not_one(classifier, shape):
    with pytest.raises(UserError, match=rf"one picture or {shape[0]} flattened ones"):
        classifier.predict(np.zeros(shape, np.uint8))


def test_a_path_is_not_several_pictures():
    with pytest.raises(UserError, match="give a list of paths"):
        innerloop.FewShotClassifier().fit("photos", ["a"])


def test_a_colour_picture_is_not_rows_of_grey_ones(classifier):
    with pytest.raises(UserError, match=r"takes grey images .* not an array of shape \(1, 28, 28"):
        classifier.predict(np.zeros((28, 28, 3), np.uint8))


@pytest.mark.parametrize("shape", [(28, 28, 3), (3, 28, 28, 3), (4, 3, 28, 28)])
def test_the_way_out_that_is_given_for_colour_works(classifier, shape):
    X = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with pytest.raises(UserError) as error:
        classifier.predict(X)
    said = str(error.value)
    (axis,) = re.findall(r"make them grey, X\.mean\(axis=(-\d)\)\.astype\(X\.dtype\)", said)
    grey = X.mean(axis=int(axis)).astype(X.dtype)
    assert len(classifier.predict(grey)) == (len(X) if X.ndim == 4 else 1)


@given(
    st.sampled_from([1, 3]),
    st.lists(st.integers(5, 40), min_size=2, max_size=2),
    st.booleans(),
    st.booleans(),
)
def test_several_pictures_stay_as_they_are(channels, size, last, as_tensor):
    height, width = size
    one = np.zeros((height, width, channels) if last else (channels, height, width))
    many = np.zeros((7, *one.shape))
    make = torch.from_numpy if as_tensor else np.asarray
    assert several(make(many), channels, flat=False).shape == many.shape
    if channels == 3 or last:
        assert several(make(one), channels, flat=False).shape == (1, *one.shape)
    grey = make(np.zeros((height, width)))
    assert several(grey, channels, flat=False).shape == (1, height, width)
    assert several(grey, channels, flat=True).shape == (height, width)
