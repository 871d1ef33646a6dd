"""The batch norms of a network: which are refused, and how they are exchanged."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from innerloop.errors import UserError
from innerloop.models.layers import BatchNorm
from innerloop.models.unregistered import check_registered, held


def replace_batch_norm(model: nn.Module) -> nn.Module:
    """Exchange every PyTorch batch norm in `model` for `BatchNorm`, in place.

    Weights and biases are kept, running statistics are dropped.  A norm that stands in several
    places is still one afterwards.

    Returns:
        `model`, or its replacement if it is itself a batch norm.

    Raises:
        UserError: a norm does more than PyTorch's, or is not among the modules of `model`; nothing
            is exchanged.
    """
    check_registered(model)
    for place, module in held(model):
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules()):
            raise UserError(
                f"{type(model).__name__} also holds a batch norm in a plain list, tuple or dict "
                f"({place}), where the old one would stay: take it from an nn.ModuleList there"
            )
    for name, norm in model.named_modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            _check_plain(norm, name)
    holders = [m for m in model.modules() if not isinstance(m, nn.modules.batchnorm._BatchNorm)]
    # Without affine weights a norm is of no type; then it gets that of the network.
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    exchanged: dict[int, BatchNorm] = {}

    def of(norm: nn.modules.batchnorm._BatchNorm) -> BatchNorm:
        if id(norm) not in exchanged:
            new = BatchNorm(norm.num_features, norm.eps).to(like)
            # What the norm does without stays one or zero.
            for part in ("weight", "bias"):
                own = getattr(norm, part)
                setattr(new, part, getattr(new, part).requires_grad_(False) if own is None else own)
            exchanged[id(norm)] = new.train(norm.training)
        return exchanged[id(norm)]

    for holder in holders:
        for name, child in holder._modules.items():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(holder, name, of(child))
    return of(model) if isinstance(model, nn.modules.batchnorm._BatchNorm) else model


def _check_plain(norm: nn.modules.batchnorm._BatchNorm, name: str) -> None:
    label = f"batch norm {name!r} ({type(norm).__name__})"
    if any(map(nn.parameter.is_lazy, norm.parameters())):
        raise UserError(f"{label} has no shape yet: call the network once on a batch before")
    usual = (nn.BatchNorm2d.forward, nn.SyncBatchNorm.forward)
    if type(norm).forward not in usual or "forward" in vars(norm):
        raise UserError(
            f"{label} has a forward of its own, which would be lost: exchange it by hand for "
            "innerloop.models.BatchNorm and what else it does"
        )
    kinds = ("forward", "forward_pre", "backward", "backward_pre")
    if any(vars(norm)[f"_{kind}_hooks"] for kind in kinds):
        raise UserError(f"{label} has hooks, which would be lost: remove them first")
    if is_parametrized(norm):
        raise UserError(
            f"{label} is parametrized: remove that first, by "
            "torch.nn.utils.parametrize.remove_parametrizations"
        )


def has_running_statistics(model: nn.Module) -> bool:
    """True if a norm of `model` keeps running statistics, as pretrained networks do."""
    return any(getattr(m, "running_mean", None) is not None for m in model.modules())


def batch_norms(model: nn.Module) -> dict[str, nn.Module]:
    """The batch norms of `model` by name, PyTorch's and ours."""
    kinds = BatchNorm | nn.modules.batchnorm._BatchNorm
    return {name: m for name, m in model.named_modules() if isinstance(m, kinds)}


def has_batch_norm(model: nn.Module) -> bool:
    """True if outputs of `model` for an example can depend on the rest of the batch."""
    return bool(batch_norms(model))


def check_batch_norm(model: nn.Module, *, own_only: bool, frozen: bool = False) -> None:
    """Refuse networks whose batch norm would mix tasks.

    Args:
        model: any network.
        own_only: refuse PyTorch's batch norm altogether, because it cannot take
            its statistics from the support set.
        frozen: running statistics are used as constants, so there have to be some.

    Raises:
        UserError: it names the module and the way out.
    """
    if frozen:
        if not has_running_statistics(model):
            raise UserError(
                "bn='frozen' uses the running statistics of batch norm as constants, and this "
                "network has none: choose 'transductive' or 'support'"
            )
        return
    way_out = (
        "exchange it for innerloop.models.BatchNorm, for instance by "
        "model = innerloop.models.replace_batch_norm(model)"
    )
    for name, module in model.named_modules():
        label = f"module {name!r} ({type(module).__name__})"
        if getattr(module, "running_mean", None) is not None:
            batch_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
            instead = way_out if batch_norm else "make it with track_running_stats=False"
            raise UserError(
                f"{label} keeps running statistics, which would mix tasks, and support with "
                "query. For a pretrained network keep them as constants, by bn='frozen'. A network "
                f"that is trained from scratch does not need them: {instead}"
            )
        if own_only and isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise UserError(f"{label} cannot take its statistics from the support set: {way_out}")
