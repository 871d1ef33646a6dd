"""Random numbers of a loss follow from the keys of the tasks, as those of a network do."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import MAML, UserError
from innerloop.models import MLP
from tests.helpers import random_episodes, relative_error

EPISODES = random_episodes(shape=(4,))


def noisy(outputs, targets):
    return F.cross_entropy(outputs + torch.randn_like(outputs), targets) * (1 + random.random())


class Dropped(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, outputs, targets):
        return F.cross_entropy(self.drop(outputs), targets)


class Held(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = np.random.default_rng(0)

    def forward(self, outputs, targets):
        return F.cross_entropy(outputs, targets) * (1 + self.generator.random())


class Counts(Held):
    calls = 0

    def forward(self, outputs, targets):
        self.calls += 1
        return F.cross_entropy(outputs, targets) * self.calls


@pytest.mark.falls_back
@pytest.mark.parametrize("loss", [noisy, Dropped()], ids=["global", "dropout"])
def test_a_loss_that_draws_has_the_same_numbers_in_every_way(loss):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    ways = [{}, {"execution": "loop"}, {"derivative": "mixed"}, {"chunk_size": 1}]
    found = {}
    for way in ways:
        maml = MAML(model, 0.1, 3, loss=loss, **way)
        params = maml.init_params()
        for keys in ((4, 5, 6), (4, 5, 7)):
            grads, _ = maml.meta_gradient(params, EPISODES, keys=keys)
            assert relative_error(grads, found.setdefault(keys, grads)) < 1e-12
        scores = maml.score_steps(params, EPISODES)["loss"]
        assert torch.equal(scores, maml.score_steps(params, EPISODES)["loss"])
    assert relative_error(found[4, 5, 6], found[4, 5, 7]) > 1e-4


def test_without_keys_its_numbers_change_from_call_to_call():
    maml = MAML(MLP(4, outputs=3).double(), 0.1, 1, loss=noisy)
    torch.manual_seed(0)
    first, second = (maml.meta_gradient(maml.init_params(), EPISODES)[0] for _ in range(2))
    assert relative_error(first, second) > 1e-3


@pytest.mark.parametrize("kind", [Held, Counts])
def test_a_loss_that_does_not_repeat_itself_is_refused(kind):
    maml = MAML(nn.Linear(4, 3).double(), 0.1, 1, loss=kind())
    with pytest.raises(UserError, match="another value when it is called again"):
        maml.meta_gradient(maml.init_params(), EPISODES)


class Warm(MAML):
    """The way out that the error for losses that count names."""

    def loss_after_adaptation(self, params, task, n_way, progress):
        loss, metrics = super().loss_after_adaptation(params, task, n_way, progress)
        return progress * loss, metrics


def test_a_warm_up_by_progress():
    class Counts:
        calls = 0

        def __call__(self, outputs, targets):
            self.calls += 1
            return self.calls * F.cross_entropy(outputs, targets)

    torch.manual_seed(0)
    model, episodes = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), random_episodes(shape=(4,))
    model = model.double()
    refused = MAML(model, 0.1, 1, loss=Counts())
    with pytest.raises(UserError, match="For a warm-up take progress, which loss_after_adaptation"):
        refused.meta_gradient(refused.init_params(), episodes)
    warm, whole = Warm(model, 0.1, 1), MAML(model, 0.1, 1)
    found, _ = warm.meta_gradient(warm.init_params(), episodes, 0.25)
    expected, _ = whole.meta_gradient(whole.init_params(), episodes)
    for name, g in expected.items():
        torch.testing.assert_close(found[name], g / 4)
