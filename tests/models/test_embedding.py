"""A linear map of features that starts from what their cosines already say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import innerloop
from innerloop.models import Embedding
from innerloop.models.embedding import LENGTH


@torch.no_grad()
@pytest.mark.parametrize(("inputs", "width"), [(20, 20), (20, 48), (600, 300)])
def test_it_starts_from_the_cosines_of_the_features(inputs, width):
    x = torch.rand(6, inputs, generator=torch.Generator().manual_seed(0)) * 50
    found = Embedding(inputs, 3, width=width).features(x)
    torch.testing.assert_close(found.norm(dim=1), torch.full((6,), LENGTH))
    cosines = [F.normalize(t, dim=1) @ F.normalize(t, dim=1).T for t in (found, x)]
    # Exactly in as many dimensions, about so in fewer.
    tolerance = 1e-5 if width >= inputs else 0.15
    torch.testing.assert_close(*cosines, rtol=0, atol=tolerance)


def test_the_same_seed_gives_the_same_weights():
    weights = [Embedding(30, width=10, seed=s).embed.weight for s in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("make", [innerloop.MAML, innerloop.ANIL, innerloop.ProtoNet])
def test_tasks_together_are_as_one_by_one(make):
    options = {} if make is innerloop.ProtoNet else {"inner_lr": 0.3}
    generator = torch.Generator().manual_seed(0)
    sets = [torch.rand(3, 8, 20, generator=generator) for _ in range(2)]
    labels = (torch.arange(8) % 4).expand(3, 8)
    task = innerloop.Episodes(sets[0], labels, sets[1], labels, n_way=4)
    found = []
    for execution in ("auto", "loop"):
        algorithm = make(Embedding(20, 4, width=16), execution=execution, **options)
        found.append(algorithm.meta_gradient(algorithm.init_params(), task, 0.0)[0])
    for name, grad in found[0].items():
        torch.testing.assert_close(grad, found[1][name], rtol=1e-4, atol=1e-6)
