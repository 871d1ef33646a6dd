"""Dicts of weights stay as they are, whatever the function that is differentiated does."""

from __future__ import annotations

import pytest
import torch

from innerloop import UserError
from innerloop.functional import gradient

PARAMS = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3.0)}


def exchanges(params):
    params["a"] = 2 * params["a"]
    return (params["a"] * params["b"]).sum()


def adds(params):
    params["c"] = params["a"]
    return params["c"].sum()


def takes_out(params):
    return params.pop("a").sum()


@pytest.mark.parametrize("inside", [False, True], ids=["plain", "vmap"])
@pytest.mark.parametrize(("loss", "name"), [(exchanges, "a"), (adds, "c"), (takes_out, "a")])
def test_a_loss_that_changes_its_dict_is_refused(loss, name, inside):
    def call():
        if inside:
            stacked = {n: p.expand(2, *p.shape) for n, p in PARAMS.items()}
            return torch.func.vmap(lambda p: gradient(loss, p))(stacked)
        return gradient(loss, PARAMS)

    with pytest.raises(UserError, match=f"changed '{name}' in the dict of weights"):
        call()


def test_a_copy_may_be_changed():
    found = gradient(lambda params: exchanges({**params}), PARAMS)
    assert torch.equal(found["a"], torch.tensor([6.0, 6.0]))
