"""What a network keeps in global variables is no constant, and a table is none of its business."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from innerloop import MAML, UserError
from tests.helpers import random_episodes

EPISODES = random_episodes(shape=(4,))
CACHE: dict = {}
FEATURES: list = []
TABLES: dict = {}


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.out = nn.Linear(4, 5), nn.Linear(9, 3)

    def forward(self, x):
        return self.out(torch.cat([x, self.extra(x).expand(len(x), -1)], 1))


class OfWeights(Base):
    def extra(self, x):
        if "bias" not in CACHE:
            with torch.no_grad():
                CACHE["bias"] = self.body.bias * 2
        return CACHE["bias"]


class OfExamples(Base):
    def extra(self, x):
        if x.shape not in CACHE:
            CACHE[x.shape] = x.detach().mean().expand(5)
        return CACHE[x.shape]


def looked_up(body, x):
    if not FEATURES:
        with torch.no_grad():
            FEATURES.append(body(x).mean(0))
    return FEATURES[0]


class ByFunction(Base):
    def extra(self, x):
        return looked_up(self.body, x)


class Table(Base):
    """As of positions: a function of the shape alone."""

    def extra(self, x):
        if len(x) not in TABLES:
            TABLES[len(x)] = torch.arange(5).to(x)
        return TABLES[len(x)] + self.body(x)


class Watched(Base):
    """Nothing is computed with what is kept."""

    def extra(self, x):
        FEATURES.append(self.body(x).detach())
        return self.body(x)


@pytest.fixture(autouse=True)
def _empty():
    yield
    for cache in (CACHE, FEATURES, TABLES):
        cache.clear()


@pytest.mark.parametrize("filled", [False, True], ids=["first call", "called before"])
@pytest.mark.parametrize("kind", [OfWeights, OfExamples, ByFunction])
def test_a_cache_of_weights_or_examples_in_a_global_variable_is_refused(kind, filled):
    """It would be that of the first task, or of whatever was computed before."""
    network = kind().double()
    if filled:
        network(EPISODES.query_x[0])
    before = dict(CACHE), list(FEATURES)
    maml = MAML(network, 0.1, 2)
    with pytest.raises(UserError, match=r"keeps in the global variable (CACHE|FEATURES) what it"):
        maml.meta_gradient(maml.init_params(), EPISODES)
    if filled:
        assert before == (CACHE, FEATURES)


@pytest.mark.parametrize("kind", [Table, Watched])
def test_what_does_not_change_the_outputs_is_kept(kind):
    maml = MAML(kind().double(), 0.1, 2)
    grads, _ = maml.meta_gradient(maml.init_params(), EPISODES)
    assert all(bool(g.count_nonzero()) for g in grads.values())
