"""From settings to objects: impossible settings are refused before anything is written."""

from __future__ import annotations

import numpy as np
import pytest

import innerloop
from innerloop import TrainConfig, UserError
from innerloop.data.base import ImageClasses


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"head": "shared"}, "set head to linear"),
        ({"algorithm": "protonet"}, "protonet needs classes"),
        ({"rotate": True, "n_way": 20}, "n_way, rotate: not for data sinusoid"),
        ({"split": "random"}, "split: not for"),
    ],
)
def test_what_waves_cannot_be_learnt_with(wrong, message, tmp_path):
    with pytest.raises(UserError, match=message):
        innerloop.train(out=tmp_path / "run", data="sinusoid", **wrong)
    assert not (tmp_path / "run").exists()


def test_images_called_like_the_waves_are_refused(tmp_path):
    images = np.zeros((40, 8, 1, 16, 16), np.uint8)
    with pytest.raises(UserError, match="another name"):
        innerloop.train(
            data=ImageClasses.from_square(images, name="sinusoid"), out=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_a_folder_called_like_a_data_set_does_not_replace_it(tmp_path, monkeypatch):
    from innerloop.build import absolute_paths

    monkeypatch.chdir(tmp_path)
    for name in ("glyphs", "pets"):
        (tmp_path / name).mkdir()
    assert absolute_paths(TrainConfig(data="glyphs")).data == "glyphs"
    assert absolute_paths(TrainConfig(data="pets")).data == str(tmp_path / "pets")
