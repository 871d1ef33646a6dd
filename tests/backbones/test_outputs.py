"""What networks return in place of features: advice that helps, and warnings where none can."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

from innerloop import FewShotClassifier, UserError
from innerloop.backbones import Backbone, Preprocess

PLAIN = Preprocess(16, fit="stretch")


class Giving(nn.Module):
    """Maps `[B, 8, 4, 4]` in another form."""

    def __init__(self, form):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.form = nn.Conv2d(3, 8, 4, 4), form

    def forward(self, x):
        return self.form(self.conv(x))


FORMS = {
    "maps, channels last": (lambda x: x.movedim(1, 3), 8),
    "maps in a tuple": (lambda x: (x, None), 8),
    "tokens": (lambda x: x.flatten(2).mT, 8),
    "tokens in a dict": (lambda x: {"tokens": x.flatten(2).mT}, 8),
    "a dict": (lambda x: {"map": x, "flat": x.flatten(1)}, 128),
    "more axes": (lambda x: x[:, None], 128),
}


@pytest.mark.parametrize("name", FORMS)
def test_advice_that_works_when_it_is_followed(name):
    form, width = FORMS[name]
    network = Giving(form)
    with pytest.raises(UserError, match="where features") as caught:
        Backbone(network, PLAIN)
    advice = re.findall(r"network\(x\)(.*?)(?:$|, the (?:mean|class))", str(caught.value))
    assert len(advice) == (2 if "tokens" in name else 1), caught.value
    for code in advice:
        code = code.partition(" or network(x)")[2] or code
        wrapped = Giving(form)
        wrapped.form = lambda x, code=code: eval(f"given{code}", {"given": form(x)})
        assert Backbone(wrapped, PLAIN).width == width


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda x: x.mean(dim=(1, 2, 3)), r"gives \[2\] .* what the layer before the last one"),
        (lambda x: None, "gives NoneType .* return them from its forward, a torch.Tensor"),
        (lambda x: {}, "gives dict .* return them from its forward"),
        (lambda x: x.flatten(2).movedim(2, 0), r"gives \[16, 2, 8\] .* the first axis be that of"),
        (lambda x: x.detach().numpy(), "gives ndarray .* a torch.Tensor"),
    ],
)
def test_what_is_said_where_there_is_no_such_code(form, message):
    with pytest.raises(UserError, match=message):
        Backbone(Giving(form), PLAIN)


def photos():
    pixels = np.random.default_rng(0).integers(0, 99, (6, 20, 20, 3), np.uint8)
    pixels[3:] += 100
    return pixels, list("aaabbb")


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda x: x.mean(dim=(2, 3)) * 0 + 1, "gives all pictures .* the same features"),
        (lambda x: x.mean(dim=(2, 3)) * 0, "gives all pictures .* the same features"),
        (lambda x: x.mean(dim=(1, 2, 3))[:, None], "gives one number a picture"),
    ],
)
def test_features_that_tell_nothing_are_a_warning(form, message):
    pixels, labels = photos()
    with pytest.warns(UserWarning, match=message):
        FewShotClassifier(Giving(form), image_size=16, layers=()).fit(pixels, labels)


@pytest.mark.filterwarnings("ignore:.* that another class has")
def test_pictures_that_are_the_same_are_a_warning():
    pixels, labels = photos()
    pixels[:] = pixels[0]
    with pytest.warns(UserWarning, match="and at the pictures, if they differ at all"):
        FewShotClassifier(Giving(lambda x: x.flatten(1)), image_size=16).fit(pixels, labels)
