"""Preprocessing by a function of one's own: what it is called, what it may not do."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from innerloop import UserError
from innerloop.backbones import Backbone, Preprocess
from innerloop.backbones.cache import shared_cache
from tests.backbones.test_in_use import SIZE, pretrained

PLAIN = Preprocess(SIZE, fit="stretch")
CODE = """
def pixels(picture):
    return plain(picture) / {}


class Pixels:
    def __call__(self, picture):
        return plain(picture)
"""


def made(name, divisor=1, module="nets"):
    """What another process has under the same name: another object, at another address."""
    found = {"plain": PLAIN, "__name__": module}
    exec(CODE.format(divisor), found)
    return found[name]


class Named(nn.Module):
    """It prints a function that it holds."""

    def __init__(self, function):
        super().__init__()
        self.body, self.function = pretrained(), function

    def forward(self, x):
        return self.body(x)

    def extra_repr(self):
        return f"{self.function}"


def test_the_same_function_in_another_process_is_the_same_body():
    kept = [made("pixels"), made("pixels"), made("pixels", 2)]
    first, again, halved = (Backbone(pretrained(), function).identity for function in kept)
    assert first == again != halved
    modules = ("innerloop_file_my-nets_0123abcd", "__main__")
    objects = [made("Pixels", module=module)() for module in modules]
    assert (
        Backbone(pretrained(), objects[0]).identity == Backbone(pretrained(), objects[1]).identity
    )
    networks = [Named(function) for function in kept[:2]]
    assert len({Backbone(network, PLAIN).identity for network in networks}) == 1


class Inverted(Preprocess):
    """Called as its base is, and prints the same where a base of this name has been changed."""

    def __call__(self, picture):
        return 1 - super().__call__(picture)


def test_nothing_is_kept_on_disk_of_code_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path))
    picture = [Image.new("RGB", (30, 20), (200, 100, 0))]
    for preprocess in (made("pixels"), made("Pixels")(), Inverted(SIZE)):
        Backbone(pretrained(), preprocess).features(picture)
    assert not shared_cache().path.exists()


def test_a_function_may_write_to_its_picture():
    def painted(picture):
        picture.paste((0, 0, 0), (0, 0, 20, 20))
        return PLAIN(picture)

    before = Backbone(pretrained(), PLAIN).identity
    Backbone(pretrained(), painted)
    assert Backbone(pretrained(), PLAIN).identity == before


def cropped(picture):
    left = np.random.randint(20)  # noqa: NPY002
    return PLAIN(picture.crop((left, 0, left + 40, 40)))


def flipped(picture):
    return PLAIN(picture).flip(2) if random.random() < 0.5 else PLAIN(picture)


def sized(picture):
    side = int(torch.randint(20, 60, ()))
    return torch.zeros(3, side, side)


@pytest.mark.parametrize("preprocess", [cropped, flipped, sized])
def test_random_preprocessing_is_refused(preprocess):
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    with pytest.raises(UserError, match="change between calls: leave out random crops"):
        Backbone(pretrained(), preprocess)


def without_arguments():
    return torch.zeros(3, 9, 9)


def failing(picture):
    raise KeyError("colour")


@pytest.mark.parametrize(
    ("preprocess", "message"),
    [
        (without_arguments, r"called with an RGB picture of PIL, and without_arguments\(\) cannot"),
        (failing, "fails on a picture of noise, an RGB picture of 60 x 90 pixels: KeyError: 'col"),
    ],
)
def test_a_function_that_fails_is_one_clear_error(preprocess, message):
    with pytest.raises(UserError, match=message):
        Backbone(pretrained(), preprocess)


def test_a_function_that_fails_on_a_photo_names_it(tmp_path):
    def divided(picture):
        return PLAIN(picture) / (1 // (picture.width - 30))

    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    body = Backbone(pretrained(), lambda p: PLAIN(p) if p.width != 30 else divided(p))
    with pytest.raises(UserError, match=r"a\.png, an RGB picture of 30 x 20 .*: ZeroDivisionError"):
        body.features([tmp_path / "a.png"])
