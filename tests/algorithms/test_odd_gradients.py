"""Gradients that are sparse, and such as a network cuts off by `.data`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from innerloop import MAML, Episodes
from tests.algorithms.users import EPISODES

falls_back = pytest.mark.falls_back


@falls_back
@pytest.mark.parametrize("first_order", [True, False])
def test_sparse_gradients_of_an_embedding_are_those_of_a_dense_one(first_order):
    x = torch.tensor([[[0, 2], [1, 1], [3, 0]]])
    episodes = Episodes(x, torch.tensor([[0, 1, 2]]), x.flip(1), torch.tensor([[2, 1, 0]]))
    found = []
    for sparse in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(4, 5, sparse=sparse), nn.Flatten(), nn.Linear(10, 3))
        maml = MAML(model.double(), 0.3, 2, first_order=first_order)
        found.append(maml.meta_gradient(maml.init_params(), episodes)[0])
    for name, g in found[0].items():
        torch.testing.assert_close(found[1][name], g)


class StraightThrough(nn.Module):
    """Rounds in the forward pass, and passes gradients on unchanged."""

    def __init__(self, cut):
        super().__init__()
        self.cut, self.a, self.o = cut, nn.Linear(12, 16), nn.Linear(16, 3)

    def forward(self, x):
        h = self.a(x.flatten(1))
        return self.o(h * self.a.weight.data.mean() + self.cut((h > 0).to(h) - h))


@pytest.mark.parametrize("execution", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("derivative", ["reverse", "mixed"])
def test_data_is_cut_off_like_a_detached_tensor(execution, derivative):
    found = []
    for cut in (lambda h: h.data, lambda h: h.detach()):
        torch.manual_seed(0)
        model = StraightThrough(cut).double()
        # With .detach() all ways are right.
        how = {"execution": execution, "derivative": derivative} if not found else {}
        maml = MAML(model, 0.3, 2, **how)
        found.append(maml.meta_gradient(maml.init_params(), EPISODES)[0])
    for name, g in found[1].items():
        torch.testing.assert_close(found[0][name], g)
