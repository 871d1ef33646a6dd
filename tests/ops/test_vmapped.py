"""What PyTorch does one by one under `vmap` is said by us, and is no warning of PyTorch's."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
from torch import nn

from innerloop import MAML
from innerloop.ops.vmapped import vmap
from tests.helpers import random_episodes, relative_error

WARNING = "performance drop"


class Bilinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.both, self.out = nn.Bilinear(4, 4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(self.both(x, x).tanh())


@pytest.mark.parametrize("execution", ["auto", "stacked", "vmap"])
def test_an_operation_without_a_batching_rule_warns_of_nothing(execution):
    """Where warnings are errors, the network went task by task."""
    model, episodes = Bilinear().double(), random_episodes(shape=(4,))
    grads = {}
    for action in ("error", "default"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter(action)
            maml = MAML(model, 0.1, 2, execution=execution)
            grads[action], _ = maml.meta_gradient(maml.init_params(), episodes)
        assert not caught
        if execution == "auto":
            assert maml.explain().startswith("stacked")
            assert "one task after the other: bilinear" in maml.explain()
    loop = MAML(model, 0.1, 2, execution="loop")
    expected, _ = loop.meta_gradient(loop.init_params(), episodes)
    for found in grads.values():
        assert relative_error(found, expected) < 1e-12


def test_a_users_own_vmap_warns_as_before_and_threads_count():
    inside, leave = threading.Event(), threading.Event()
    x = torch.randn(2, 5, 4)
    both = nn.Bilinear(4, 4, 3)

    def waiting(x):
        inside.set()
        assert leave.wait(60)
        return both(x, x)

    thread = threading.Thread(target=vmap, args=(waiting, x))
    thread.start()
    assert inside.wait(60)
    # It leaves while another one is inside.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vmap(lambda x: both(x, x), x)
    leave.set()
    thread.join()
    with pytest.warns(UserWarning, match=WARNING):
        torch.func.vmap(both)(x, x)
