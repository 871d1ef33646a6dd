"""Validation or test on training classes is a warning, not an error."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from torch import nn

import innerloop
from innerloop import MAML, EpisodeSampler, SinusoidSampler
from innerloop.data import from_arrays

SMALL = {"iterations": 1, "val_tasks": 2, "test_tasks": 2, "threads": 1}
DATA = from_arrays(np.random.default_rng(0).normal(size=(90, 4)), np.arange(90) % 15)


def sampler(classes, **settings):
    return EpisodeSampler(DATA, classes, n_way=2, k_query=2, **settings)


def run(train, folder, *, waves=False, **parts):
    network = innerloop.models.MLP(1, 1) if waves else nn.Linear(4, 2)
    loss = {"loss": nn.MSELoss()} if waves else {}
    return innerloop.fit(MAML(network, 0.1, 1, **loss), train, out=folder, **parts, **SMALL)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"test": sampler(range(6, 15), split="test")}, "^test has 3 of its 9 classes in common"),
        ({"val": sampler(range(9))}, "^val has 9 of its 9 classes in common"),
        (
            {"val": sampler([8, 9], split="val"), "test": sampler([0, 10], split="test")},
            "val has 1 of its 2 .* training, and test has 1 of its 2",
        ),
    ],
)
def test_classes_of_training_are_said_once(parts, said, tmp_path):
    with pytest.warns(UserWarning, match=said) as found:
        done = run(sampler(range(9)), tmp_path / "run", **parts)
    assert len(found) == 1
    assert done.folder.exists()


def test_the_very_tasks_are_said_whatever_they_are(tmp_path):
    waves = SinusoidSampler()
    with pytest.warns(UserWarning, match="val begins with the first episode of training"):
        run(waves, tmp_path / "a", waves=True, val=waves, test=SinusoidSampler(split="test"))
    # The same data, made twice.
    with pytest.warns(UserWarning, match="test begins with the first episode of training"):
        run(SinusoidSampler(seed=3), tmp_path / "b", waves=True, test=SinusoidSampler(seed=3))


def test_nothing_is_said_of_other_classes_and_of_a_run_that_goes_on(tmp_path):
    train, val, test = innerloop.split_tasks(DATA, n_way=2, k_query=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(train, tmp_path / "a", val=val, test=test)
        run(SinusoidSampler(), tmp_path / "b", waves=True, val=SinusoidSampler(split="val"))
