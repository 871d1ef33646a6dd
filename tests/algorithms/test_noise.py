"""The random numbers of a forward pass follow from the key of the task and the inner step."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import MAML, Episodes
from tests.algorithms.users import EPISODES, USERS, make
from tests.helpers import relative_error

falls_back = pytest.mark.falls_back


@falls_back
@pytest.mark.parametrize("user", [name for name, u in USERS.items() if u.draws])
def test_random_numbers_follow_from_the_keys_alone(user):
    algorithm = MAML(make(user), 0.1, 2)
    loop = MAML(make(user), 0.1, 2, execution="loop")
    params = algorithm.init_params()
    torch.manual_seed(1)
    one, _ = algorithm.meta_gradient(params, EPISODES, keys=[4, 5, 6])
    state = torch.get_rng_state()
    torch.manual_seed(2)
    again, _ = loop.meta_gradient(params, EPISODES, keys=[4, 5, 6])
    other, _ = algorithm.meta_gradient(params, EPISODES, keys=[4, 5, 7])
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)  # the global generator was left alone
    assert relative_error(one, again) < 1e-12
    assert relative_error(one, other) > 1e-3


@falls_back
def test_without_keys_they_come_from_the_global_generator():
    algorithm = MAML(make("dropout"), 0.1, 2)
    params, found = algorithm.init_params(), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(algorithm.meta_gradient(params, EPISODES)[0])
    assert relative_error(found[0], found[1]) == 0
    assert relative_error(found[0], found[2]) > 1e-3


def test_chunks_and_slices_of_a_meta_batch_have_the_same_masks():
    whole, chunked = (MAML(make("dropout"), 0.1, 2, chunk_size=size) for size in (None, 2))
    params = whole.init_params()
    expected, _ = whole.meta_gradient(params, EPISODES, keys=[4, 5, 6])
    found, _ = chunked.meta_gradient(params, EPISODES, keys=[4, 5, 6])
    assert relative_error(found, expected) < 1e-12
    last = Episodes(*(t[2:] for t in EPISODES))
    first = Episodes(*(t[:2] for t in EPISODES))
    parts = [
        (2, whole.meta_gradient(params, first, keys=[4, 5])[0]),
        (1, whole.meta_gradient(params, last, keys=[6])[0]),
    ]
    mean = {n: sum(count * g[n] for count, g in parts) / 3 for n in params}
    assert relative_error(mean, expected) < 1e-12


def test_masks_drop_the_share_that_was_asked_for():
    """The mean meta-gradient over many masks is the one that can be written down."""
    torch.manual_seed(0)

    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones((), dtype=torch.float64))
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return self.drop(x) * self.w

    x, y = (f(2000, 1, 1, dtype=torch.float64) for f in (torch.ones, torch.zeros))
    for derivative in ("reverse", "mixed"):
        # w' = w (1 - 2 a m^2) is +w or -w; the query loss (q w')^2: E[2 q^2] E[(...)^2] = 4.
        maml = MAML(Dropped(), 0.25, 1, loss=F.mse_loss, derivative=derivative)
        grads, _ = maml.meta_gradient(maml.init_params(), Episodes(x, y, x, y), keys=range(2000))
        assert grads["w"].item() == pytest.approx(4, abs=0.3)
