"""PyTorch's default dtype and device change neither episodes nor results."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from torch import nn

import innerloop
from innerloop.data import augment, conditions
from innerloop.inner import Adam
from tests.helpers import random_episodes

AUGMENTS = {
    "none": None,
    "conditions": augment.Conditions(share=1.0),
    "others": augment.Compose(
        augment.RandomCrop(padding=3),
        augment.RandomHorizontalFlip(),
        augment.RandomErasing(),
        augment.RandomAffine(),
        augment.RandomWarp(),
    ),
}


@contextlib.contextmanager
def double():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


CONTEXTS = {"float64": double, "meta": lambda: torch.device("meta")}


@pytest.fixture(params=CONTEXTS)
def other(request):
    # What is kept must not be of the default that it was first asked for under.
    conditions._waves.cache_clear()
    conditions._dct.cache_clear()
    return CONTEXTS[request.param]


@pytest.mark.parametrize("name", AUGMENTS)
def test_episodes_are_the_same(name, other):
    def batch():
        data = innerloop.data.glyphs(60)
        train, _, _ = innerloop.split_tasks(
            data, n_way=3, k_shot=2, k_query=3, rotate=True, augment=AUGMENTS[name]
        )
        return train.batch(3, 4)

    with other():
        found = batch()
    for a, b in zip(found, batch(), strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def test_arrays_and_waves_are_the_same(other):
    X = np.random.default_rng(0).normal(size=(60, 7))
    train, _, _ = innerloop.split_tasks(
        innerloop.data.from_arrays(X, np.arange(60) % 10), n_way=2, k_shot=2, k_query=2
    )
    for source in (train, innerloop.SinusoidSampler()):
        with other():
            found = source.batch(2, 3)
        for a, b in zip(found, source.batch(2, 3), strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    "make",
    [
        innerloop.MAML,
        innerloop.MAMLPlusPlus,
        innerloop.IMAML,
        innerloop.Reptile,
        lambda model: innerloop.MAML(model, 0.1, 3, inner_optimizer=Adam(), derivative="mixed"),
    ],
)
@pytest.mark.parametrize("layer", [nn.Linear(256, 6), nn.Dropout(0.5)], ids=["plain", "dropout"])
def test_meta_gradients_are_the_same(make, layer, other):
    torch.manual_seed(0)
    width = 6 if isinstance(layer, nn.Linear) else 256
    algorithm = make(nn.Sequential(nn.Flatten(), layer, nn.Tanh(), nn.Linear(width, 3)))
    params = algorithm.init_params()
    episodes = random_episodes().to(torch.float32)
    with other():
        found, metrics = algorithm.meta_gradient(params, episodes, keys=(1, 2, 3))
        scores = algorithm.score_steps(params, episodes)["loss"]
    expected, others = algorithm.meta_gradient(params, episodes, keys=(1, 2, 3))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(torch.equal(metrics[name], others[name]) for name in others)
    assert torch.equal(scores, algorithm.score_steps(params, episodes)["loss"])
