"""The optimiser of the outer loop fits what it trains."""

from __future__ import annotations

import functools

import pytest
import torch

from innerloop import OuterLoop, UserError
from innerloop.runs.optimizer import make_optimizer

ADAM = functools.partial(torch.optim.Adam, eps=1e-10)


@pytest.mark.parametrize("factory", [None, ADAM, torch.optim.RMSprop])
def test_an_optimiser_that_would_divide_by_zero_in_half_precision_is_refused(factory):
    half = [torch.ones(3, dtype=torch.float16)]
    with pytest.raises(UserError, match=r"is 0 in torch\.float16.*network\.float"):
        make_optimizer(OuterLoop(), half, factory)
    for weights in (torch.ones(3), torch.ones(3, dtype=torch.bfloat16)):
        make_optimizer(OuterLoop(), [weights], factory)
    make_optimizer(OuterLoop(meta_optimizer="sgd"), half)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (torch.optim.SparseAdam, "takes gradients that are not sparse"),
        (torch.optim.Muon, "meta_optimizer, Muon: .*2D"),
        (functools.partial(torch.optim.Muon, momentum=0.9), "meta_optimizer, Muon: .*2D"),
        (lambda params, lr: torch.optim.SGD([torch.ones(3)], lr), "its first argument"),
    ],
)
def test_an_optimiser_that_does_not_fit_is_named(factory, message):
    with pytest.raises(UserError, match=message):
        make_optimizer(OuterLoop(), [torch.ones(3)], factory)


def test_an_error_in_an_own_function_stays_as_it_is():
    def own(params, lr):
        raise ValueError("of mine")

    with pytest.raises(ValueError, match="of mine"):
        make_optimizer(OuterLoop(), [torch.ones(3)], own)
