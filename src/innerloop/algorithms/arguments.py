"""What the public methods of algorithms are given, and what is said where it cannot be taken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.algorithms import noise
from innerloop.algorithms.checks import check_tensors_by_name, check_weights, checked_tensors
from innerloop.algorithms.hooks import Hooks, of_network
from innerloop.algorithms.modules import needs_more
from innerloop.algorithms.overriding import overrides
from innerloop.errors import UserError, clearer
from innerloop.functional import Params, in_transform
from innerloop.tasks.episodes import Episodes, as_episodes, check_tensors


def given_episodes(episodes: Any) -> tuple[Episodes, list[Tensor]]:
    """What a user gave as episodes, and the examples of the first task, support and query.

    Raises:
        UserError: they are no episodes, or a tensor is nested, sparse or quantized.
    """
    found = as_episodes(episodes, "the episodes")
    for name, t in zip(Episodes._fields, found, strict=True):
        check_dense(name, t)
    return found, [x[0] for x in (found.support_x, found.query_x) if len(x)]


def check_support(support_x: Any, support_y: Any) -> None:
    """Raise a `UserError` for what is no support set: not two tensors of as many examples."""
    check_tensors(support_x=support_x, support_y=support_y)
    check_dense("support_x", support_x)
    check_dense("support_y", support_y)
    if not support_x.ndim or support_x.shape[:1] != support_y.shape[:1]:
        raise UserError(
            f"support_x has shape {tuple(support_x.shape)} and support_y {tuple(support_y.shape)}: "
            "give a target for each example, with as long a first axis"
        )


def check_dense(name: str, t: Any) -> None:
    """Raise a `UserError` for a tensor that cannot be cut into tasks and examples."""
    if not isinstance(t, Tensor) or in_transform():
        return
    if t.is_nested:
        raise UserError(
            f"{name} is a nested tensor, and examples of a task have one shape: pad them, by "
            "torch.nested.to_padded_tensor(x, 0.0), and let the network leave out what is padding"
        )
    if t.layout is not torch.strided:
        raise UserError(f"{name} is a sparse tensor ({t.layout}): give it as {name}.to_dense()")
    if t.is_quantized:
        raise UserError(f"{name} is quantized ({t.dtype}): give it as {name}.dequantize()")


def checked_episodes(algorithm: Hooks, episodes: Episodes, *, training: bool) -> Episodes:
    """The episodes, with their number of ways if it is needed.

    Raises:
        UserError: no tasks, or labels that are not 0..N-1 where they have to be.
    """
    n_way, checked = episodes.n_way, episodes
    if algorithm.loss is F.cross_entropy:
        labels = _long(checked.support_y), _long(checked.query_y)
        if labels[0] is not checked.support_y or labels[1] is not checked.query_y:
            checked = checked._replace(support_y=labels[0], query_y=labels[1])
    if not len(checked.support_x):
        raise UserError("there are no episodes: a meta-batch needs at least one task")
    lengths = {len(t) for t in checked}
    if len(lengths) > 1:
        raise UserError(
            "the tensors of the episodes differ in the number of tasks, their first axis: "
            + ", ".join(str(tuple(t.shape)) for t in checked)
        )
    for name, x, y in (
        ("support", checked.support_x, checked.support_y),
        ("query", checked.query_x, checked.query_y),
    ):
        if x.ndim < 2 or not x.shape[1]:
            raise UserError(f"the {name} sets have no examples: they have shape {tuple(x.shape)}")
        if x.shape[:2] != y.shape[:2]:
            raise UserError(
                f"{name}_x has {x.shape[1]} examples a task and {name}_y has shape "
                f"{tuple(y.shape)}: give a target for each example, {tuple(x.shape[:2])}"
            )
    if not (training and algorithm.labels == "class"):
        _check_labels(checked)
        counted = algorithm.ways(checked.support_y, n_way)
        # The user's own episodes stay as they are.
        checked = checked if counted == n_way else checked._replace(n_way=counted)
    return checked


def _check_labels(episodes: Episodes) -> None:
    """Raise a `UserError` for a label that none of N classes has, as where they count from 1."""
    n_way = episodes.n_way
    # A source of tasks may say a range, and under vmap labels cannot be looked at.
    if not isinstance(n_way, int) or in_transform():
        return
    for y in (episodes.support_y, episodes.query_y):
        numbers = y.ndim == 2 and not (y.is_floating_point() or y.is_complex())
        # From a GPU they would have to be fetched at every step.
        if not numbers or y.device.type != "cpu" or not y.numel():
            continue
        most = int(y.long().max())
        if most >= n_way:
            raise UserError(
                f"tasks have n_way={n_way} and the label {most}: labels of {n_way} classes are 0 "
                f"to {n_way - 1}. Count from 0, or let n_way be the number of classes"
            )


def _long(y: torch.Tensor) -> torch.Tensor:
    """Labels of another whole type as PyTorch's cross-entropy takes them."""
    return y.long() if y.dtype in _WHOLE else y


_WHOLE = {torch.int8, torch.int16, torch.int32, torch.uint16, torch.uint32, torch.uint64}


@contextlib.contextmanager
def checking(
    algorithm: Hooks, params: Params, *sets: Any, also: Sequence[Any] = ()
) -> Iterator[None]:
    """One clear error for meta-parameters and examples that the network cannot take.

    PyTorch's own is about some layer.  Whether it is about their types and shapes is found out by
    calling the network by itself.

    Args:
        algorithm: has the network.
        params: the meta-parameters.
        sets: the examples of one task, `[B, ...]`, as many tensors as differ.
        also: what must not be written to, such as targets.
    """
    check_params(algorithm, params)
    for x in sets:
        check_dense("support_x", x)
    try:
        with unchanged(algorithm, params, *sets, *also):
            yield
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        if "nference tensor" in str(error):
            raise UserError(
                "the meta-parameters or the examples were made in torch.inference_mode(), and "
                "adaptation takes gradients: make them outside of it, or under torch.no_grad()"
            ) from error
        for x in sets:
            if not algorithm.network.takes_as_given(of_network(params), x):
                reason = algorithm.network.why_not_taken(x) or _another_type(algorithm, params)
                if reason is not None:
                    raise UserError(reason) from error
        reworded = clearer(error)
        if reworded is error:
            raise
        raise reworded from error
    except TypeError as error:
        reason = None if overrides(algorithm, "forward") else needs_more(algorithm.model)
        if reason is None:
            raise
        raise UserError(reason) from error


@contextlib.contextmanager
def unchanged(algorithm: Hooks, params: Params, *sets: Any) -> Iterator[None]:
    """Refuse what writes into these tensors, or puts others into the dict.

    Raises:
        UserError: something did.
    """
    before = _written({**params}, sets)

    def changed() -> UserError | None:
        if _written(params, sets) == before:
            return None
        return UserError(
            f"the network, the loss or a hook of {type(algorithm).__name__} changed the "
            "meta-parameters or the examples that it was given, which are no longer what they "
            "were: use operations that return new tensors, such as p - rate * g in place of "
            "p.sub_(rate * g), and fill a new dict"
        )

    try:
        yield
    except UserError:
        raise
    except RuntimeError as error:
        # Such as autograd's, which misses the numbers that were there.
        if (own := changed()) is not None:
            raise own from error
        raise
    if (own := changed()) is not None:
        raise own


def _written(params: Params, sets: tuple[Any, ...]) -> list[Any]:
    """What changes when someone writes into these tensors, or puts others into the dict."""
    tensors = [*params.items(), *((None, x) for x in sets if isinstance(x, Tensor))]
    if in_transform():
        return []
    # Nothing counts what is written into tensors that were made in inference mode.
    return [(name, id(t), 0 if t.is_inference() else t._version) for name, t in tensors]


def check_params(algorithm: Hooks, params: Any) -> None:
    """See that these are the meta-parameters of the algorithm, by their names and shapes.

    Their type may be another, if that of the examples is as well.  Frozen parameters may be among
    them: those of the network may be frozen at any time.  So may what belongs to parameters that
    this algorithm does not adapt, such as learnt rates of the body where the head alone moves.

    Raises:
        UserError: names the first that is wrong, and what it should be.
    """
    # At every call but the first, all that is done; a network of others changes little.
    if isinstance(params, Mapping) and params and _shapes(params) == algorithm._shapes:
        return
    check_tensors_by_name(params)
    if in_transform():
        return
    kind = type(algorithm).__name__
    with noise.generators_kept():
        first = checked_tensors(algorithm.init_params(), f"init_params of {kind}")
    expected = {name: p.shape for name, p in first.items()}
    network = {name: p.shape for name, p in algorithm.model.named_parameters()}
    check_weights(
        params,
        network | expected,
        expected,
        others=lambda name: name.rpartition("@")[2] in network,
    )
    algorithm._shapes = _shapes(params)


def _shapes(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: p.shape if isinstance(p, Tensor) else None for name, p in params.items()}


def _another_type(algorithm: Hooks, params: Params) -> str | None:
    """That meta-parameters are of another type than those of the network, if they are."""
    for name, p in algorithm.model.named_parameters():
        if name in params and params[name].dtype != p.dtype:
            return (
                f"params[{name!r}] is of type {params[name].dtype}, and in the network it is "
                f"{p.dtype}: give all params and the examples one type, for instance by "
                f".to({p.dtype})"
            )
    return None
