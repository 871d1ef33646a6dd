"""Small networks with weights that differ from their start, and tasks for them."""

import logging

import numpy as np
import pytest
import torch
from torch import nn

from innerloop.build import build_algorithm, build_model
from innerloop.config import TrainConfig
from innerloop.models.conv4 import initialise
from innerloop.models.layers import Conv2d
from innerloop.runs.loading import Loaded

SHAPE = (1, 16, 16)


@pytest.fixture(scope="session")
def network():
    """Makes what `load` would return for a run with these settings.

    PyTorch takes seconds to write down a block with its derivatives: unless `whole`, there are two.
    """

    def make(whole=False, **settings):
        settings = {
            "width": 16,
            "image_size": 16,
            "head": "shared",
            "inner_lr": 0.1,
            "inner_steps": 1,
            "eval_inner_steps": 1,
            **settings,
        }
        config = TrainConfig(**settings)
        model = build_model(config, SHAPE)
        if not whole:
            first = Conv2d(1, config.width, stride=2)
            model.convs = nn.ModuleList([first, model.convs[3]])
            model.norms = model.norms[:2]
            initialise(model, 0)
        algorithm = build_algorithm(config, model, 20)
        generator = torch.Generator().manual_seed(1)
        params = {
            name: p + 0.05 * torch.randn(p.shape, generator=generator)
            for name, p in algorithm.init_params().items()
        }
        return Loaded(algorithm.model, algorithm, params, config, SHAPE, "x", ["a"], 0.7)

    return make


@pytest.fixture(scope="session")
def task():
    """Makes a support set of unequal shots, its labels, and queries; bytes."""

    def make(n_way, queries, shots=(1, 3, 2, 5, 4)):
        rng = np.random.default_rng(n_way)
        labels = np.concatenate([[i] * shots[i % len(shots)] for i in range(n_way)])
        ink = rng.integers(0, 256, (n_way, *SHAPE))
        noise = rng.integers(-40, 40, (len(labels), *SHAPE))
        support = (ink[labels] + noise).clip(0, 255).astype(np.uint8)
        return support, labels, rng.integers(0, 256, (queries, *SHAPE)).astype(np.uint8)

    return make


@pytest.fixture(autouse=True)
def _no_trace():
    """PyTorch logs each step of an export in full where anybody listens, as pytest does."""
    logger = logging.getLogger("torch.__trace")
    before, logger.disabled = logger.disabled, True
    yield
    logger.disabled = before
