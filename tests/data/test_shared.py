"""One picture in two classes of a support set is said, whatever form it has."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from innerloop import FewShotClassifier

NOISE = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)
LABELS = ["a", "a", "b", "b"]


def features():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def as_files(X, folder):
    files = [folder / f"{number}.png" for number in range(len(X))]
    for file, x in zip(files, X, strict=True):
        Image.fromarray(x).save(file)
    return files


FORMS = {
    "array": lambda X, _: X,
    "flat": lambda X, _: X.reshape(len(X), -1) / 255,
    "pictures": lambda X, _: [Image.fromarray(x) for x in X],
    "files": as_files,
    "text": lambda X, folder: list(map(str, as_files(X, folder))),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("network", [lambda: "omniglot-protonet", features])
def test_one_picture_in_two_classes(form, network, tmp_path):
    settings = {"prepare": "none", "ink": "dark"} if network is not features else {}
    X = FORMS[form](NOISE[[0, 1, 2, 0]], tmp_path)
    first, last = ("X[0]", "X[3]")
    if form in ("files", "text"):
        first, last = tmp_path / "0.png", tmp_path / "3.png"
    with pytest.warns(UserWarning, match="1 picture that another class has") as said:
        FewShotClassifier(network(), **settings).fit(X, LABELS)
    assert f"{first} (a) and {last} (b)" in str(said[0].message)
    assert said[0].filename == __file__


def test_alike_is_not_the_same(tmp_path):
    """What is the same at the size of the network alone, or twice in a class, is not said."""
    fine = np.repeat(np.repeat(NOISE[:1], 2, 1), 2, 2)
    other = fine.copy()
    other[0, 0, 0] ^= 1
    X = as_files(np.concatenate([fine, fine, other, 255 - fine]), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FewShotClassifier("omniglot-protonet", prepare="none", ink="dark").fit(X, LABELS)
