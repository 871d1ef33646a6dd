"""The optimiser of the outer loop."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from innerloop.errors import UserError, first_line
from innerloop.inner import check_eps
from innerloop.keywords import check_takes
from innerloop.outer_loop import OuterLoop

# Of the parameters and `lr=`.
OptimizerFactory = Callable[..., torch.optim.Optimizer]


def make_optimizer(
    config: OuterLoop,
    params: list[Tensor],
    factory: OptimizerFactory | None = None,
    *,
    meta_lr: float | None = None,
) -> torch.optim.Optimizer:
    """Adam with the defaults of its paper, plain gradient descent, or one of the user's own.

    Raises:
        UserError: the user's own has a rate already, or gave no optimiser of all `params`, or its
            `eps` is 0 in their precision.
    """
    meta_lr = config.meta_lr if meta_lr is None else meta_lr
    if factory is None:
        kind = torch.optim.SGD if config.meta_optimizer == "sgd" else torch.optim.Adam
        # One launch for all parameters.
        ours = kind(params, lr=meta_lr, fused=True if params[0].is_cuda else None)
        check_eps(ours.defaults.get("eps"), params)
        return ours
    if isinstance(factory, functools.partial) and "lr" in factory.keywords:
        raise UserError(
            f"meta_optimizer has a rate of its own, lr={factory.keywords['lr']}, which "
            f"meta_lr={meta_lr} would replace: leave out lr there and give that rate as meta_lr"
        )
    check_takes("meta_optimizer", factory, "the parameters and lr=", params, lr=meta_lr)
    called = factory.func if isinstance(factory, functools.partial) else factory
    try:
        made = factory(params, lr=meta_lr)
    except ValueError as error:
        # Such as Muon's, which takes matrices alone.
        if isinstance(called, type) and called.__module__.startswith("torch."):
            raise UserError(f"meta_optimizer, {called.__name__}: {first_line(error)}") from error
        raise
    unfit = torch.optim.LBFGS, torch.optim.SparseAdam
    if not isinstance(made, torch.optim.Optimizer) or isinstance(made, unfit):
        raise UserError(
            f"meta_optimizer gave {type(made).__name__}: it must give a torch.optim.Optimizer "
            "whose step needs no closure and takes gradients that are not sparse"
        )
    if {id(p) for group in made.param_groups for p in group["params"]} != set(map(id, params)):
        raise UserError(
            "meta_optimizer must give an optimiser of all the parameters it was given, its first "
            "argument; those of the network itself are never trained"
        )
    for group in made.param_groups:
        check_eps(group.get("eps"), group["params"])
    return made
