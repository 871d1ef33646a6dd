"""Rules for operations without weights on a task axis.

Axes are counted as the network counts them, without that of the tasks.  What is not here is done by
`by_vmap`, exactly but more slowly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.ops import autograd
from innerloop.ops.stacked import blocks
from innerloop.ops.stacked.tensor import RULES, NotStackableError, Stacked, by_vmap, replaced, view

How = TypeVar("How", bound=Callable[..., Any])


def rule(*functions: Any) -> Callable[[How], How]:
    def register(how: How) -> How:
        for function in functions:
            RULES[function] = how
        return how

    return register


def by_name(*names: str) -> list[Any]:
    """PyTorch's functions and methods of these names, wherever they are."""
    places = (torch, Tensor, F, torch._C._nn)
    found = [getattr(place, name) for name in names for place in places if hasattr(place, name)]
    return list({id(f): f for f in found}.values())


def all_of(t: Any, tasks: int) -> Any:
    """`[T, ...]` of a tensor that may be the same for all tasks."""
    if isinstance(t, Stacked):
        return t.tasks
    return t.expand(tasks, *t.shape) if isinstance(t, Tensor) else t


def as_stacked(t: Tensor, tasks: int) -> Stacked:
    """`t`, which may be the same for all tasks, as one of `tasks`; not computed for that."""
    return t if isinstance(t, Stacked) else Stacked(all_of(t, tasks))


def count_of(*values: Any) -> int:
    return next(v.count for v in values if isinstance(v, Stacked))


def _shift(axis: int) -> int:
    return axis + 1 if axis >= 0 else axis


# ---- Operations that treat every number by itself


def _aligned(value: Any, axes: int) -> Any:
    """`[T, 1, ..., ...]`, with as many axes as the one that has the most."""
    if not isinstance(value, Stacked):
        return value
    t = value.tasks
    missing = axes - (t.ndim - 1)
    return t if missing <= 0 else t[(slice(None), *[None] * missing)]


def pointwise(function: Any) -> Any:
    def of_tasks(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("out") is not None:
            raise NotStackableError("out= has no rule")
        values = (*args, *kwargs.values())
        axes = max(v.ndim for v in values if isinstance(v, Tensor))
        out = function(
            *(_aligned(a, axes) for a in args), **{k: _aligned(v, axes) for k, v in kwargs.items()}
        )
        if isinstance(out, tuple):
            raise NotStackableError(f"{function.__name__} of a condition alone has no rule")
        return Stacked(out)

    return of_tasks


def _in_place(function: Any) -> Any:
    of_tasks = pointwise(function)

    def of_tasks_(x: Any, *args: Any, **kwargs: Any) -> Any:
        return replaced(x, of_tasks(x, *args, **kwargs).tasks)

    return of_tasks_


def _activation(function: Any) -> Any:
    """An activation that is asked by its last argument, `inplace`, whether it overwrites `x`."""
    of_tasks = pointwise(function)

    def activation(x: Any, *args: Any, inplace: bool = False, **kwargs: Any) -> Any:
        if args and isinstance(args[-1], bool):
            args, inplace = args[:-1], args[-1]
        out = of_tasks(x, *args, **kwargs)
        return replaced(x, out.tasks) if inplace else out

    return activation


_UNARY = (
    *("tanh", "sigmoid", "exp", "log", "sqrt", "rsqrt", "abs", "neg", "square", "sin", "cos"),
    *("erf", "log1p", "expm1", "reciprocal", "sign", "floor", "round", "clamp", "clamp_min"),
)
_BINARY = (
    *("add", "sub", "mul", "div", "true_divide", "maximum", "minimum", "pow", "where", "lerp"),
    *("subtract", "multiply", "divide", "addcmul", "masked_fill", "eq", "ne", "lt", "le", "gt"),
    *("ge", "logical_not", "logical_and", "rsub"),
)
for _name in (*_UNARY, *_BINARY):
    for _f in by_name(_name):
        RULES[_f] = pointwise(_f)
    if hasattr(Tensor, f"{_name}_"):
        for _f in by_name(f"{_name}_"):
            RULES[_f] = _in_place(getattr(Tensor, _name))
for _name in ("add", "sub", "mul", "truediv", "pow"):
    for _f in (getattr(Tensor, f"__{_name}__"), getattr(Tensor, f"__r{_name}__", None)):
        if _f is not None:
            RULES[_f] = pointwise(_f)
    if hasattr(Tensor, f"__i{_name}__"):
        RULES[getattr(Tensor, f"__i{_name}__")] = _in_place(getattr(Tensor, f"__{_name}__"))
for _name in ("__neg__", "__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"):
    RULES[getattr(Tensor, _name)] = pointwise(getattr(Tensor, _name))
for _name in (
    *("gelu", "silu", "mish", "elu", "selu", "celu", "softplus", "relu6"),
    *("hardtanh", "hardswish", "hardsigmoid", "logsigmoid", "softsign", "tanhshrink"),
):
    for _f in by_name(_name):
        RULES[_f] = _activation(_f)


@rule(*by_name("leaky_relu"))
def leaky_relu(input: Stacked, negative_slope: float = 0.01, inplace: bool = False) -> Stacked:
    if 0 <= negative_slope < 1:
        found = blocks.leaky_relu(input, negative_slope)
    else:
        found = Stacked(F.leaky_relu(input.tasks, negative_slope))
    if not inplace:
        return found
    input.become(found._tasks, found.later, found.whole)
    return input


@rule(F.relu, torch.relu, Tensor.relu)
def relu(input: Stacked, inplace: bool = False) -> Stacked:
    return leaky_relu(input, 0.0, inplace)


@rule(torch.relu_, Tensor.relu_)
def relu_(input: Stacked) -> Stacked:
    return leaky_relu(input, 0.0, True)


# ---- Axes


@rule(*by_name("flatten"))
@view
def flatten(input: Stacked, start_dim: int = 0, end_dim: int = -1) -> Any:
    if not isinstance(start_dim, int) or input.ndim == 0:
        return by_vmap(torch.flatten, (input, start_dim, end_dim), {})
    return Stacked(input.tasks.flatten(_shift(start_dim), _shift(end_dim)))


@rule(Tensor.view, Tensor.reshape, torch.reshape)
@view
def reshape(input: Stacked, *shape: Any, **kwargs: Any) -> Any:
    if kwargs or (shape and isinstance(shape[0], torch.dtype)):
        return by_vmap(Tensor.reshape, (input, *shape), kwargs)
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    x = input.tasks
    return Stacked(x.reshape(len(x), *sizes))


@rule(*by_name("ravel"))
def ravel(input: Stacked) -> Any:
    return reshape(input, -1)


@rule(Tensor.reshape_as)
def reshape_as(input: Any, other: Tensor) -> Any:
    return torch.reshape(input, other.shape)


@rule(Tensor.permute, torch.permute)
@view
def permute(input: Stacked, *dims: Any, **kwargs: Any) -> Any:
    if kwargs:
        return by_vmap(Tensor.permute, (input, *dims), kwargs)
    axes = dims[0] if len(dims) == 1 and isinstance(dims[0], Sequence) else dims
    return Stacked(input.tasks.permute(0, *(1 + a % input.ndim for a in axes)))


@rule(*by_name("transpose", "swapaxes", "swapdims"))
@view
def transpose(input: Stacked, dim0: int, dim1: int) -> Stacked:
    return Stacked(input.tasks.transpose(_shift(dim0), _shift(dim1)))


@rule(*by_name("unsqueeze"))
@view
def unsqueeze(input: Stacked, dim: int) -> Stacked:
    return Stacked(input.tasks.unsqueeze(_shift(dim)))


@rule(Tensor.clone, torch.clone)
def clone(input: Stacked, *_: Any, **__: Any) -> Stacked:
    return Stacked(input.tasks.clone())


@rule(Tensor.contiguous)
@view
def contiguous(input: Stacked, *_: Any, **__: Any) -> Stacked:
    # Also where it is not: the memory of T tasks is in another order than that of one.
    return Stacked(input.tasks.clone())


@rule(*by_name("as_strided"))
def as_strided(*_: Any, **__: Any) -> Any:
    raise NotStackableError("as_strided goes by the memory of one task")


def _reduction(function: Any) -> Callable[..., Any]:
    def of_tasks(input: Stacked, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Any:
        if "axis" in kwargs or (dim is not None and not isinstance(dim, int | Sequence)):
            return by_vmap(function, (input, dim, keepdim), kwargs)
        axes = range(input.ndim) if dim is None or dim == () else dim
        axes = [axes] if isinstance(axes, int) else list(axes)
        if not axes:
            return Stacked(function(input.tasks.unsqueeze(-1), -1, **kwargs))
        return Stacked(function(input.tasks, [_shift(a) for a in axes], keepdim, **kwargs))

    return of_tasks


for _name in ("mean", "sum", "amax", "amin", "logsumexp"):
    for _f in by_name(_name):
        RULES[_f] = _reduction(_f)


def _along(function: Any) -> Callable[..., Any]:
    def of_tasks(input: Stacked, dim: Any = None, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(dim, int) or args or input.ndim == 0:
            return by_vmap(function, (input, dim, *args), kwargs)
        return Stacked(function(input.tasks, _shift(dim), **kwargs))

    return of_tasks


for _f in by_name("softmax", "log_softmax"):
    RULES[_f] = _along(_f)


@rule(torch.cat, torch.concat, torch.concatenate)
def cat(tensors: Sequence[Any], dim: int = 0, **kwargs: Any) -> Any:
    tasks, axes = count_of(*tensors), tensors[0].ndim
    if kwargs or any(t.ndim != axes for t in tensors):
        return by_vmap(torch.cat, (tensors, dim), kwargs)
    parts = [all_of(t, tasks) for t in tensors]
    axis = dim % axes
    if axes == 4 and axis > 0:
        # Images keep their order in memory.
        rows = torch.cat([p.flatten(0, 1) for p in parts], axis)
        return Stacked(rows.unflatten(0, parts[0].shape[:2]))
    return Stacked(torch.cat(parts, axis + 1))


@rule(torch.stack)
def stack(tensors: Sequence[Any], dim: int = 0) -> Stacked:
    parts = [all_of(t, count_of(*tensors)) for t in tensors]
    return Stacked(torch.stack(parts, _shift(dim)))


def _parts(function: Any) -> Callable[..., Any]:
    def of_tasks(input: Stacked, how: Any, dim: int = 0) -> Any:
        return tuple(Stacked(t) for t in function(input.tasks, how, _shift(dim)))

    return of_tasks


for _f in by_name("chunk", "split"):
    RULES[_f] = view(_parts(_f))


@rule(torch.unbind, Tensor.unbind)
@view
def unbind(input: Stacked, dim: int = 0) -> Any:
    return tuple(Stacked(t) for t in autograd.unbind(input.tasks, _shift(dim)))


# As of query, key and value in one tensor: taken one by one, each would have a derivative of the
# size of all of them.
_FEW = 8


@rule(Tensor.__getitem__)
@view
def item(input: Any, index: Any) -> Any:
    places = index if isinstance(index, tuple) else (index,)
    plain = all(p is None or p is ... or type(p) in (int, slice) for p in places)
    if not plain or not isinstance(input, Stacked):
        return by_vmap(Tensor.__getitem__, (input, index), {})
    if type(index) is not int or not 0 < len(input) <= _FEW:
        return Stacked(input.tasks[(slice(None), *places)])
    if input.rows is None:
        input.rows = unbind(input)
    return input.rows[index]


@rule(Tensor.__iter__)
def iterate(input: Stacked) -> Any:
    return iter(unbind(input))


@rule(*by_name("matmul"), Tensor.__matmul__)
def matmul(input: Any, other: Any) -> Any:
    if input.ndim < 2 or other.ndim < 2:
        return by_vmap(torch.matmul, (input, other), {})
    axes = max(input.ndim, other.ndim)
    return Stacked(torch.matmul(_aligned(input, axes), _aligned(other, axes)))
