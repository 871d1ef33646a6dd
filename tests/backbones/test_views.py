"""Views of a picture, and the mean of their features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from innerloop import FewShotClassifier, UserError
from innerloop.backbones import backbone
from innerloop.backbones.views import VIEWS


def noise(n=3, size=20):
    generator = np.random.default_rng(0)
    return [Image.fromarray(x) for x in generator.integers(0, 256, (n, size, size, 3), np.uint8)]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_the_middle_and_the_corners():
    picture = Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10))
    found = [np.asarray(view(picture)) for view in VIEWS["crops"]]
    whole = np.asarray(picture)
    np.testing.assert_array_equal(found[0], whole)
    np.testing.assert_array_equal(found[1], whole[1:9, 1:9])
    for corner, rows, columns in zip(found[2:], (0, 0, 2, 2), (0, 2, 0, 2), strict=True):
        np.testing.assert_array_equal(corner, whole[rows : rows + 8, columns : columns + 8])
    np.testing.assert_array_equal(np.asarray(VIEWS["flips"][-1](picture)), whole[:, ::-1])


@pytest.mark.parametrize("views", VIEWS)
def test_features_are_the_mean_of_those_of_the_views(views, tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))
    body = backbone(network(), image_size=16)
    pictures = noise()
    found = [body.features(pictures, views) for _ in range(2)]
    each = [body.features([view(p) for p in pictures]) for view in VIEWS[views]]
    if len(each) > 1:
        each = [F.normalize(x, dim=1) for x in each]
    for x in found:  # one computed, one from the cache
        torch.testing.assert_close(x, torch.stack(each).mean(0), atol=1e-5, rtol=1e-5)


def test_no_such_views():
    with pytest.raises(UserError, match="views must be one of whole, middle, crops, flips"):
        FewShotClassifier(network(), image_size=16, views="all").fit(noise(2), ["a", "b"])
