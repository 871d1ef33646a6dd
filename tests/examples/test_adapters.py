"""examples/adapters.py learns with a transformer that stays as it was."""

from __future__ import annotations

import pytest
import torch

import innerloop
from examples import adapters


@pytest.mark.long
def test_adapters_learn_languages_that_they_never_saw():
    found = adapters.main(pretraining=60, iterations=20, tasks=20)
    assert found["learnt"] < 10_000
    # Chance is a fifth.
    assert found["after"] > found["before"]
    assert found["after"] > 0.4


def test_an_adapter_changes_nothing_before_it_is_trained():
    torch.manual_seed(0)
    network = adapters.Transformer(5, width=8, layers=1)
    tokens = torch.randint(1, 256, (3, adapters.LENGTH))
    tokens[:, 12:] = 0
    before = network(tokens)
    adapters.add_adapters(network)
    torch.testing.assert_close(network(tokens), before)
    names = innerloop.MAML(network).init_params()
    assert {name.split(".")[-2] for name in names} == {"a", "b", "head"}
