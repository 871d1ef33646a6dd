"""A network of the user's own, pretrained elsewhere, as a classifier by the means of classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from innerloop.algorithms.protonet import ProtoNet
from innerloop.errors import UserError, at_least
from innerloop.models.layers import has_running_statistics
from innerloop.runs.fit_config import FitConfig
from innerloop.runs.loading import Loaded


def body(network: nn.Module, image_size: int, bn: str) -> Loaded:
    """What `load` gives of a run, for a network that no run has trained.

    Classes are told apart by the cosines between features and the means of classes.

    Args:
        network: from RGB pixels 0..1, `[B, 3, image_size, image_size]`, to features `[B, F]`.  It
            is not changed, and computes as in `eval()`.
        image_size: in pixels.
        bn: where batch norm takes statistics from, if the network keeps no running ones; those
            are used as constants.

    Raises:
        UserError: the network does not take such pixels, or gives no such features.
    """
    at_least(1, image_size=image_size)
    frozen = has_running_statistics(network)
    algorithm = ProtoNet(network, distance="cosine", bn="frozen" if frozen else bn)
    params = {n: p.detach() for n, p in network.named_parameters() if p.requires_grad}
    shape = (3, image_size, image_size)
    _check_features(algorithm, params, shape)
    config = FitConfig(algorithm="ProtoNet", model=type(network).__name__)
    return Loaded(network, algorithm, params, config, shape, "", [])


def _check_features(
    algorithm: ProtoNet, params: dict[str, Tensor], shape: tuple[int, int, int]
) -> None:
    """Try two pictures: batch norm of so few features fails for one."""
    name = type(algorithm.model).__name__
    parameter = next(algorithm.model.parameters(), None)
    if parameter is not None and (parameter.device.type, parameter.dtype) != ("cpu", torch.float32):
        raise UserError(
            f"{name} is on {parameter.device} in {parameter.dtype}: give network.cpu().float()"
        )
    try:
        with torch.no_grad():
            found = algorithm.embed(params, torch.zeros(2, *shape))
    except UserError:
        raise
    except Exception as error:  # of code of the user's own
        raise UserError(
            f"{name} fails on pixels of shape {[2, *shape]}: {type(error).__name__}: {error}. Give "
            "image_size=, or a network that takes RGB pictures 0 to 1"
        ) from error
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != 2:
        shown = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UserError(
            f"{name} gives {shown} for 2 pictures, where features [2, F] are needed: for instance "
            "torch.nn.Sequential(network, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())"
        )
