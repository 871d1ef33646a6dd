"""Pixels as torchvision and timm make them: figures made with torchvision 0.29 and timm 1.0."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from innerloop import UserError
from innerloop.backbones import Preprocess, backbone

# A slope to the right in red, downwards in green.
WIDTH, HEIGHT = 300, 180


@pytest.fixture(scope="module")
def slopes():
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, WIDTH).round()
    pixels[..., 1] = np.linspace(0, 255, HEIGHT).round()[:, None]
    return Image.fromarray(pixels)


def test_the_middle_is_kept_in_its_proportions(slopes):
    x = Preprocess(size=56, crop=0.875, interpolation="bilinear")(slopes)
    assert x.shape == (3, 56, 56)
    assert x.dtype == torch.float32
    red, green = x[0, 0], x[1, :, 0]
    # 64 pixels high and 106 wide (truncated), of which 4 and 25 are cut off on either side.
    assert red[0] == pytest.approx(25.5 / 106, abs=0.01)
    assert red[-1] == pytest.approx(80.5 / 106, abs=0.01)
    assert green[0] == pytest.approx(4.5 / 64, abs=0.01)
    assert green[-1] == pytest.approx(59.5 / 64, abs=0.01)
    tall = Preprocess(size=56, crop=0.875)(slopes.transpose(Image.Transpose.TRANSPOSE))
    assert tall[0, :, 0][-1] == pytest.approx(80.5 / 106, abs=0.01)


def test_stretched_whole(slopes):
    x = Preprocess(size=32, fit="stretch")(slopes)
    for channel in (x[0, 0], x[1, :, 0]):
        assert channel[0] < 0.03
        assert channel[-1] > 0.97


def test_scaled_as_binary_fractions_have_it():
    """232 / (232 / 256) is a little less than 256; rounding up 235.8, as for 0.95, is wrong too."""
    for size, crop, scaled in ((224, 224 / 232, 232), (224, 0.95, 235), (384, 1.0, 384)):
        square = Image.new("RGB", (scaled, scaled))
        # A picture that already has the size is not scaled: a single pixel stays one.
        square.putpixel((scaled // 2, scaled // 2), (255, 255, 255))
        x = Preprocess(size=size, crop=crop)(square)
        assert sorted(x.unique().tolist()) == [0, 1]


def test_normalised_and_grey(slopes):
    plain = Preprocess(size=8)(slopes)
    mean, deviation = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    found = Preprocess(size=8, mean=mean, deviation=deviation)(slopes)
    expected = (plain - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]
    torch.testing.assert_close(found, expected)
    grey = Preprocess(size=8, channels=1, mean=(0.0,), deviation=(1.0,))(slopes)
    assert grey.shape == (1, 8, 8)
    torch.testing.assert_close(grey[0], plain[0] * 0.299 + plain[1] * 0.587, atol=0.02, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (7, 9)])
def test_any_shape_gives_a_square(shape):
    assert Preprocess(size=24, crop=0.9)(Image.new("RGB", shape)).shape == (3, 24, 24)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "image_size must be between 1 and 4,096 pixels, not 0"),
        ({"size": 100_000}, "image_size must be between 1 and 4,096 pixels, not 100,000"),
        ({"crop": 0}, "crop is a share"),
        ({"crop": 1.5}, "crop is a share"),
        ({"fit": "pad"}, "fit must be one of crop, stretch"),
        ({"interpolation": "cubic"}, "interpolation must be one of nearest"),
        ({"mean": (0.5,)}, "mean must be 3 numbers"),
        ({"mean": 0.5}, "mean must be 3 numbers"),
        ({"deviation": "abc"}, "deviation must be 3 numbers"),
        ({"mean": (123.7, 116.3, 103.5)}, "mean is of pixels from 0 to 1, .* divide .* by 255"),
        ({"size": None}, "image_size must not be None"),
        ({"size": True}, "image_size must be a number, not True"),
        ({"crop": "1"}, "crop must be a number, not '1'"),
        ({"channels": "3"}, "channels must be 1 or 3, not '3'"),
        ({"deviation": (1, 0, 1)}, "deviation must be greater than 0"),
        ({"channels": 2}, "channels must be 1 or 3"),
    ],
)
def test_what_is_out_of_range_is_named(options, message):
    with pytest.raises(UserError, match=message):
        Preprocess(**options)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_numbers_of_channels_in_any_form_are_the_same_settings(kind):
    values = (0.5, 0.25, 1.0)
    found = Preprocess(9, mean=kind(values), deviation=kind(values))
    assert found == Preprocess(9, mean=values, deviation=values)
    assert hash(found) == hash(Preprocess(9, mean=values, deviation=values))
    assert repr(found) == repr(Preprocess(9, mean=values, deviation=values))


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array])
def test_numbers_of_numpy_are_settings_too(kind):
    found = Preprocess(kind(9), crop=np.array(0.5), channels=kind(1))
    assert found == Preprocess(9, crop=0.5, channels=1)
    assert repr(found) == repr(Preprocess(9, crop=0.5, channels=1))
    assert backbone(nn.Flatten(), image_size=kind(9)).preprocess.size == 9


def test_grey_needs_no_other_setting(slopes):
    assert Preprocess(9, channels=1)(slopes).shape == (1, 9, 9)
