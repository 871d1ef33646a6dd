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
