"""The loss and the metric of one task's outputs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.algorithms import noise
from innerloop.algorithms.checks import check_loss
from innerloop.errors import UserError, first_line
from innerloop.functional import Params, accuracy, are_labels, in_transform
from innerloop.keywords import check_takes
from innerloop.trees import mapped

# What the results of evaluation call other things.
RESERVED = ("loss", "losses", "metric", "bn", "protocol", "ci95")
Metric = str | Callable[[Any, Any], Any] | None
"""`"auto"`, a function of outputs and targets that returns a number, or None; see `Algorithm`."""


def check_metric(metric: Metric) -> None:
    """Raise a `UserError` for what is not a metric."""
    if metric not in ("auto", "accuracy", None) and not callable(metric):
        raise UserError(
            f"metric must be 'auto', 'accuracy', None, or a function of outputs and targets, not "
            f"{metric!r}"
        )
    if callable(metric):
        check_function("metric", metric)
    if callable(metric) and metric_name(metric).removesuffix("_per_step") in RESERVED:
        raise UserError(
            f"a metric cannot be called {metric_name(metric)!r}, which results use for something "
            "else: give the function another name"
        )


def check_function(name: str, function: Any) -> None:
    """Raise a `UserError` unless this is a function of outputs and targets."""
    if isinstance(function, type):
        raise UserError(f"{name} is the class {function.__name__}: give what it makes, an object")
    if not callable(function):
        raise UserError(f"{name} must be a function of outputs and targets, not {function!r}")
    check_takes(name, function, "outputs and targets", None, None)


def metric_name(metric: Callable[..., Any]) -> str:
    """What results call a metric: the function's name."""
    named = metric.func if isinstance(metric, functools.partial) else metric
    return getattr(named, "__name__", type(named).__name__)


def loss_of(
    loss: Callable[[Any, Any], Tensor], outputs: Any, targets: Any, draws: bool | None = None
) -> Tensor:
    """`loss(outputs, targets)`.

    Args:
        loss: the function.
        outputs: of the network.
        targets: what they should be.
        draws: whether it draws random numbers from global generators; None if none at all.

    Raises:
        UserError: outputs or targets that a loss of PyTorch's cannot take.
    """
    if outputs is None:
        raise UserError("the network returns None: let its forward return the outputs")
    if not isinstance(outputs, Tensor) and of_torch(loss):
        name, kind = metric_name(loss), type(outputs).__name__
        raise UserError(
            f"the network returns a {kind}, and the loss, {name}, takes a tensor: give loss=, "
            "a function of outputs and targets, for instance lambda outputs, targets: "
            f"{name}(outputs{_entry(outputs)}, targets)"
        )
    shares = isinstance(targets, Tensor) and targets.is_floating_point()
    if loss is F.cross_entropy and shares and not in_transform():
        _check_shares(targets)
    try:
        if draws is None:
            return loss(outputs, targets)
        with noise.drawing_in_loss(draws, outputs):
            return loss(outputs, targets)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        # PyTorch's names neither the loss nor what it was given.
        if (reason := _of_another_type(loss, outputs, error)) is not None:
            raise UserError(reason) from error
        if not of_torch(loss) or not isinstance(targets, Tensor):
            raise
        raise UserError(
            f"the loss, {metric_name(loss)}, cannot take outputs {_kind(outputs)} with targets "
            f"{_kind(targets)} ({first_line(error)}): change the targets, or give loss="
        ) from error


# What PyTorch says where tensors of two types, or on two devices, meet.
_DIFFER = ("expected scalar type", "same dtype", "same device", "the expected device", "but got dt")


def _of_another_type(loss: Callable[..., Any], outputs: Any, error: Exception) -> str | None:
    """That the loss holds tensors of another type than the outputs, if that is what is wrong."""
    if not (isinstance(outputs, Tensor) and any(text in str(error) for text in _DIFFER)):
        return None
    wanted = outputs.dtype, outputs.device
    others = {
        name: f"{t.dtype} on {t.device}"
        for name, t in _held_by(loss)
        if t.is_floating_point() and (t.dtype, t.device) != wanted
    }
    if not others and of_torch(loss):
        return None
    there = f"{outputs.dtype} on {outputs.device}"
    held = ", ".join(f"{name} of {kind}" for name, kind in list(others.items())[:4])
    return (
        f"the loss, {metric_name(loss)}, computes with "
        f"{held or 'tensors of another type or device'}, and the network's outputs are {there} "
        f"({first_line(error)}): bring them to one type and device, for instance by "
        + (f"loss.to({outputs.dtype})" if isinstance(loss, nn.Module) else "tensor.to(outputs)")
    )


def _held_by(loss: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors that a loss holds, by name."""
    if isinstance(loss, nn.Module):
        yield from (*loss.named_parameters(), *loss.named_buffers())
    elif isinstance(loss, functools.partial):
        yield from _held_by(loss.func)
        named = (*enumerate(loss.args), *loss.keywords.items())
        yield from ((f"argument {name}", v) for name, v in named if isinstance(v, Tensor))
    else:
        held = getattr(loss, "__dict__", {}).items()
        yield from ((name, value) for name, value in held if isinstance(value, Tensor))


def _check_shares(targets: Tensor) -> None:
    """See that real numbers are shares of the classes: cross-entropy takes any numbers for them.

    An example that counts less, or not, has shares that add up to less than 1.
    """
    sums = targets.sum(1) if targets.ndim > 1 else targets
    # As coarse as half precision.
    if bool((targets < 0).any()) or bool((sums > 1.01).any()):
        raise UserError(
            "the loss, cross_entropy, takes class labels or shares of the classes that add up to "
            f"1, and the targets are other numbers ({_kind(targets)}): for regression give "
            "loss=torch.nn.functional.mse_loss (--loss mse), or loss= a function of your own"
        )


def logits_of(outputs: Any) -> Tensor:
    """The outputs of a network that answers with one of N classes.

    Raises:
        UserError: they are no tensor of real numbers.
    """
    if isinstance(outputs, Tensor) and not outputs.is_complex():
        return outputs
    kind = "complex numbers" if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
    raise UserError(
        f"the network returns {kind}, and a classifier takes logits, one real number for each "
        "class of an image: train a network whose forward returns these alone"
    )


def _entry(outputs: Any) -> str:
    """How one of several outputs is taken, in code."""
    if isinstance(outputs, dict):
        return f"[{next(iter(outputs), 'logits')!r}]"
    named = getattr(outputs, "__dict__", {}).items()
    return next((f".{name}" for name, value in named if isinstance(value, Tensor)), "[0]")


def of_torch(loss: Callable[..., Any]) -> bool:
    named = loss if hasattr(loss, "__module__") and hasattr(loss, "__name__") else type(loss)
    # None for a function that `exec` made.
    return str(named.__module__).startswith(("torch.nn", "torch._C._nn", "innerloop."))


def _kind(t: Tensor) -> str:
    return f"{str(t.dtype).removeprefix('torch.')} {list(t.shape)}"


def score(
    loss: Callable[[Any, Any], Tensor],
    metric: Metric,
    outputs: Any,
    targets: Any,
    draws: bool | None = None,
) -> tuple[Tensor, Params]:
    """The loss of one task, a scalar, and its metrics: `loss`, and what `metric` says."""
    # A loss may write to what it is given, a margin to logits for instance.
    plain = outputs if of_torch(loss) else mapped(_copy, outputs)
    value = check_loss(loss_of(loss, outputs, targets, draws))
    outputs = plain
    metrics = {"loss": value.detach()}
    if callable(metric):
        with torch.no_grad():
            value_of_metric = metric(mapped(_copy, outputs), targets)
            try:
                found = torch.as_tensor(value_of_metric)
            except (TypeError, ValueError, RuntimeError):
                raise UserError(
                    f"metric must return a number, not a {type(value_of_metric).__name__}"
                ) from None
            if found.is_complex():
                raise UserError("metric must return a real number, not a complex one")
            found = found if found.is_floating_point() else found.to(torch.get_default_dtype())
        if found.ndim:
            raise UserError(f"metric must return a number, not an array {tuple(found.shape)}")
        metrics[metric_name(metric)] = found.detach()
    elif metric is not None and (metric == "accuracy" or are_labels(outputs, targets)):
        metrics["accuracy"] = accuracy(outputs.detach(), targets)
    return value, metrics


def _copy(leaf: Any) -> Any:
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf
