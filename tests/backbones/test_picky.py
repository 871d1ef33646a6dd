"""Networks that fail on some pictures alone: which these are is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from innerloop import UserError
from innerloop.backbones import Backbone, Preprocess
from tests.backbones.test_in_use import SIZE, pretrained

PLAIN = Preprocess(SIZE, fit="stretch")


class Picky(nn.Module):
    """It fails on dark pictures, or gives what is not finite."""

    def __init__(self, fails):
        super().__init__()
        self.body, self.fails = pretrained(), fails

    def forward(self, x):
        dark = x.flatten(1).mean(dim=1) < 0.1
        if self.fails and dark.any():
            raise ValueError("too dark for me")
        return self.body(x) + torch.where(dark, torch.inf, 0.0)[:, None]


class TakesFew(nn.Module):
    """It fails on more than two pictures at once."""

    def __init__(self):
        super().__init__()
        self.body = pretrained()

    def forward(self, x):
        assert len(x) < 3, "two at the most"
        return self.body(x)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Picky(fails=True), r"Picky fails on .*night\.png, .*: ValueError: too dark for me"),
        (Picky(fails=False), r"night\.png: Picky gives features that are not finite"),
        (TakesFew(), "fails on 4 pictures together, .*: AssertionError: two at the most"),
    ],
)
def test_a_picture_that_a_network_fails_on_is_named(network, message, tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.png" for name in ("a", "b", "night", "c")]
    for path in paths:
        low, high = (0, 9) if path.stem == "night" else (50, 256)
        Image.fromarray(rng.integers(low, high, (30, 30, 3), dtype=np.uint8)).save(path)
    body = Backbone(network, PLAIN)
    with pytest.raises(UserError, match=message):
        body.features(paths)
    if not isinstance(network, TakesFew):
        # What was fine before is kept, and the others serve.
        assert body.features([p for p in paths if p.stem != "night"]).shape == (3, body.width)
