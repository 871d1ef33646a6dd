"""What every algorithm is made of: a network and settings, checked."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.algorithms.attributes import uncompiled
from innerloop.algorithms.network import Network
from innerloop.algorithms.scores import Metric, check_function, check_metric, of_torch
from innerloop.errors import UserError, at_least, one_of
from innerloop.functional import Params, mean_squared_error
from innerloop.keywords import KeywordsChecked
from innerloop.models.layers import Conv2d, SharedHead
from innerloop.models.norms import check_batch_norm
from innerloop.models.unregistered import check_parts_of_loss, check_registered
from innerloop.ops import kernels

# How tasks can be computed, see execution.py.
WAYS = ("stacked", "vmap", "loop", "shared_body")


class Settings(KeywordsChecked, ABC):
    """The network and the settings of an algorithm, checked, and its first meta-parameters."""

    inner_steps: int
    bn_modes: tuple[str, ...] = ("transductive", "support", "frozen")
    # What the labels of a training episode count: the classes of its task, 0..N-1,
    # or all training classes.
    labels = "task"
    # Meta-parameters that follow the data as a running average instead of being learnt.
    moving_averages: frozenset[str] = frozenset()

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Callable[[Any, Any], Tensor] = F.cross_entropy,
        metric: Metric = "auto",
        bn: str = "transductive",
        chunk_size: int | None = None,
        execution: str = "auto",
    ) -> None:
        one_of(self.bn_modes, bn=bn)
        self.model = model
        check_registered(self.model)
        check_batch_norm(self.model, own_only=bn == "support", frozen=bn == "frozen")
        self.loss, self.metric = loss, metric
        self.bn, self.chunk_size, self.execution = bn, chunk_size, execution
        self.network = Network(self.model, frozen=bn == "frozen")
        for name, _ in self.model.named_parameters():
            if "@" in name:
                raise UserError(
                    f"the network's parameter {name!r} has a @ in its name, which marks the "
                    "meta-parameters of algorithms: rename it"
                )
        # What the way that failed was tried with, by kind of computation; see execution.py.
        self._failed: dict[str, tuple[Any, ...]] = {}
        # The shapes of the meta-parameters that were last found to be right, see arguments.py.
        self._shapes: dict[str, torch.Size | None] = {}
        # The weights that kernels take, and whether a layer of ours has them.
        self._convolutions = {
            f"{name}.weight".lstrip("."): type(module) is Conv2d
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Conv1d | nn.Conv2d)
            and (module.groups == 1 or module.groups == module.in_channels == module.out_channels)
            if module.out_channels % kernels.LANES == 0
        }
        # Parameters that hold one row for every class.
        self._shared_rows = {
            f"{name}.{part}".lstrip(".")
            for name, module in self.model.named_modules()
            if isinstance(module, SharedHead)
            for part in ("weight", "bias")
        }

    def __setattr__(self, name: str, value: Any) -> None:
        """A setting is checked whenever it is set, by `_checked_NAME` if there is one."""
        check = getattr(self, f"_checked_{name}", None)
        object.__setattr__(self, name, value if check is None else check(value))

    def _checked_model(self, model: Any) -> nn.Module:
        if "model" in vars(self):
            raise UserError(
                f"the network of a {type(self).__name__} stays what it is, as names, shapes and "
                "settings follow from it: make another algorithm"
            )
        return _plain(model)

    def _checked_loss(self, loss: Any) -> Any:
        check_function("loss", loss)
        if "model" in vars(self):
            check_parts_of_loss(loss, self.model)
        # A gradient was not zero, so that the loss does depend on the weights.
        self._reached = False
        # Hooks of the user's were seen to go by the weights that they are given.
        self._own_tried = False
        # Whether the loss draws from global generators, None if it draws nothing; once tried.
        self._loss_draws: bool | None = None
        self._loss_tried = of_torch(loss)
        # A second derivative was taken, and nothing refuses to be differentiated twice.
        self._twice = False
        # PyTorch's own spreads shapes that differ over each other.
        mse = isinstance(loss, nn.MSELoss) and loss.reduction == "mean"
        return mean_squared_error if mse or loss is F.mse_loss else loss

    def _checked_metric(self, metric: Any) -> Any:
        check_metric(metric)
        return metric

    def _checked_bn(self, bn: Any) -> Any:
        one_of(self.bn_modes, bn=bn)
        return bn

    def _checked_chunk_size(self, chunk_size: Any) -> Any:
        at_least(1, chunk_size=chunk_size)
        return chunk_size

    def _checked_execution(self, execution: Any) -> Any:
        one_of(("auto", *WAYS), execution=execution)
        return execution

    def init_params(self) -> Params:
        """The meta-parameters that training starts from: copies, in a new dict.

        Raises:
            UserError: the network has no trainable parameter, or some without a shape yet.
        """
        named = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        for name, p in named.items():
            if isinstance(p, nn.parameter.UninitializedParameter):
                raise UserError(
                    f"parameter {name} has no shape yet: call the network once on a batch before "
                    "it is given to an algorithm"
                )
        if not named:
            raise UserError("the network has no trainable parameter: nothing can be learnt")
        return {name: p.detach().clone() for name, p in named.items()}


def _plain(model: nn.Module) -> nn.Module:
    """The network before `torch.compile`."""
    if not isinstance(model, nn.Module):
        raise UserError(f"a network must be a torch.nn.Module, not {type(model).__name__}")
    model = uncompiled(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise UserError(
            "a network compiled by torch.jit cannot be called with other weights: give the "
            "torch.nn.Module that it was compiled from"
        )
    return model
