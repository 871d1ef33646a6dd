"""Rules for layers with weights and pooling on a task axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop import ops
from innerloop.ops.stacked import blocks
from innerloop.ops.stacked.rules import all_of, as_stacked, by_name, count_of, rule
from innerloop.ops.stacked.tensor import RULES, NotStackableError, Stacked, by_vmap, goes_apart


def check_shapes(shape: Sequence[int], values: Sequence[Any], call: Callable[[Any], Any]) -> None:
    """Raise PyTorch's own error for scales or shifts that its function refuses.

    Products and sums would spread one number over all channels, and filled up channels count more
    than the network knows of.

    Args:
        shape: what each of the values has to be, None aside.
        values: scales, shifts or statistics.
        call: the function, of a way to see each of its tensors.
    """
    if any(v is not None and tuple(v.shape) != tuple(shape) for v in values):
        call(one_of)
        raise NotStackableError("scales or shifts of another size than the channels have no rule")


def one_of(t: Any) -> Any:
    """The first task's of a stacked tensor."""
    return t.tasks[0] if isinstance(t, Stacked) else t


# ---- Layers with weights


@rule(F.linear, ops.linear)
def linear(input: Any, weight: Any, bias: Any = None) -> Stacked:
    if not isinstance(weight, Stacked) and not isinstance(bias, Stacked):
        return Stacked(F.linear(input.tasks, weight, bias))
    if weight.ndim != 2 or input.ndim < 2:
        y: Stacked = by_vmap(F.linear, (input, weight, bias), {})
        return y
    tasks = count_of(input, weight, bias)
    x, w, b = (all_of(t, tasks) for t in (input, weight, bias))
    rows = ops.linear(x.flatten(1, -2), w, b)
    return Stacked(rows.unflatten(1, x.shape[1:-1]) if x.ndim != 3 else rows)


@rule(F.embedding)
def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Stacked:
    if max_norm is not None or scale_grad_by_freq or sparse:
        raise NotStackableError("an embedding that renews its weights, or is sparse, has no rule")
    if not isinstance(weight, Stacked):
        return Stacked(F.embedding(input.tasks, weight, padding_idx))
    tasks = count_of(weight)
    i, w = all_of(input, tasks), weight.tasks
    # On a GPU, without waiting, the check is where the indices are used.
    inside = i.is_cuda or not i.numel() or 0 <= int(i.min()) <= int(i.max()) < w.shape[1]
    if not inside:
        raise IndexError("index out of range in self")
    places = torch.arange(tasks, device=w.device).view(-1, *[1] * (i.ndim - 1))
    y = F.embedding(i + places * w.shape[1], w.flatten(0, 1))
    if padding_idx is None:
        return Stacked(y)
    # Its row gets no gradient.
    return Stacked(torch.where((i == padding_idx % w.shape[1]).unsqueeze(-1), y.detach(), y))


@rule(ops.attention)
def attention(q: Any, k: Any, v: Any, scale: float) -> Stacked:
    tasks = count_of(q, k, v)
    return Stacked(ops.attention(all_of(q, tasks), all_of(k, tasks), all_of(v, tasks), scale))


def _pair(value: Any) -> tuple[Any, Any]:
    return (value[0], value[-1]) if isinstance(value, Sequence) else (value, value)


def _sides(value: Any, axes: int, of_rows: int) -> tuple[int, int]:
    """For rows and columns; series are images of one row."""
    return (of_rows, _pair(value)[0]) if axes == 1 else _pair(value)


def _in_pixels(padding: Any, kernel: Sequence[int], dilation: Any) -> Any:
    """Padding that is a word, in pixels; None where it is not the same on both sides."""
    if padding == "same":
        steps = dilation if isinstance(dilation, Sequence) else (dilation,) * len(kernel)
        beyond = [d * (k - 1) for k, d in zip(kernel, steps, strict=True)]
        return None if any(n % 2 for n in beyond) else tuple(n // 2 for n in beyond)
    return 0 if padding == "valid" else padding


def _convolution(function: Any, axes: int) -> Callable[..., Any]:
    def of_tasks(
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Any:
        how = (stride, padding, dilation, groups)
        if input.ndim != axes + 2:
            return by_vmap(function, (input, weight, bias, *how), {})
        tasks = count_of(input, weight, bias)
        w, b = all_of(weight, tasks), all_of(bias, tasks)
        input = as_stacked(input, tasks)
        margin = _in_pixels(padding, weight.shape[2:], dilation)
        if margin is not None and axes <= 2 and len(set(_pair(stride))) == 1:
            steps = _pair(stride)[0], _sides(margin, axes, 0), _sides(dilation, axes, 1)
            found = blocks.convolution(input, w, b, *steps, groups)
            if found is not None:
                return found
        x = input.tasks
        if not isinstance(weight, Stacked) and not isinstance(bias, Stacked):
            return Stacked(function(x.flatten(0, 1), weight, bias, *how).unflatten(0, x.shape[:2]))
        if x.is_cuda:
            return by_vmap(function, (input, weight, bias, *how), {})
        goes_apart(f"{function.__name__} with weights {tuple(weight.shape)}")
        biases = [None] * tasks if b is None else b.unbind(0)
        each = zip(x.unbind(0), w.unbind(0), biases, strict=True)
        return Stacked(torch.stack([function(*of_one, *how) for of_one in each]))

    return of_tasks


for _f, _axes in ((F.conv1d, 1), (F.conv2d, 2), (F.conv3d, 3)):
    RULES[_f] = _convolution(_f, _axes)


def _transposed(function: Any, axes: int) -> Callable[..., Any]:
    def of_tasks(
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Any:
        how = (stride, padding, output_padding, groups, dilation)
        check_shapes(
            (weight.shape[1] * groups,),
            (bias,),
            lambda see: function(see(input), see(weight), see(bias), *how),
        )
        tasks, strides = count_of(input, weight, bias), _pair(stride)
        x = as_stacked(input, tasks)
        w, b = all_of(weight, tasks), all_of(bias, tasks)
        plain = input.ndim == axes + 2 and groups == 1 and set(_pair(dilation)) == {1}
        if not plain or strides[0] != strides[1]:
            return by_vmap(function, (input, weight, bias, *how), {})
        margin, beyond = _pair(padding), _pair(output_padding)
        if axes == 1:
            # Series are images of one row.
            x, w = Stacked(x.tasks.unsqueeze(-2)), w.unsqueeze(-2)
            margin, beyond = (0, margin[0]), (0, beyond[0])
        y = blocks.transposed(x, w, strides[0], margin, beyond)
        if y is None:
            return by_vmap(function, (input, weight, bias, *how), {})
        y = y if b is None else y + b[:, None, :, None, None]
        return Stacked(y.squeeze(-2) if axes == 1 else y)

    return of_tasks


RULES[F.conv_transpose1d] = _transposed(F.conv_transpose1d, 1)
RULES[F.conv_transpose2d] = _transposed(F.conv_transpose2d, 2)


@rule(ops.conv2d)
def own_conv2d(
    x: Any, weight: Any, *, stride: int = 1, padding: int = 0, depthwise: bool = False
) -> Any:
    groups = weight.shape[-4] if depthwise else 1
    return RULES[F.conv2d](x, weight, None, stride, padding, 1, groups)


# ---- Operations on each example: tasks are further rows


def _rows(function: Any, axes: int) -> Callable[..., Any]:
    """`function`, whose first argument has `axes` axes where it is a batch."""

    def of_tasks(input: Any, *args: Any, **kwargs: Any) -> Any:
        more = any(isinstance(v, Tensor) for v in (*args, *kwargs.values()))
        if more or not isinstance(input, Stacked) or input.ndim != axes:
            return by_vmap(function, (input, *args), kwargs)
        x = input.tasks
        y = function(x.flatten(0, 1), *args, **kwargs)
        if not isinstance(y, Tensor):
            return by_vmap(function, (input, *args), kwargs)
        return Stacked(y.unflatten(0, x.shape[:2]))

    return of_tasks


for _axes in (1, 2, 3):
    for _name in ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool", "lp_pool"):
        for _f in by_name(f"{_name}{_axes}d"):
            RULES[_f] = _rows(_f, _axes + 2)
for _f in (*by_name("pixel_shuffle", "pixel_unshuffle", "unfold"), F.interpolate):
    RULES.setdefault(_f, _rows(_f, 4))
RULES.pop(Tensor.unfold, None)  # another operation than F.unfold
_pool_rows = _rows(torch.max_pool2d, 4)


@rule(torch.max_pool2d, F.max_pool2d)
def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    if return_indices:
        how = (kernel_size, stride, padding, dilation, ceil_mode)
        return by_vmap(F.max_pool2d_with_indices, (input, *how), {})
    plain = set(_pair(padding)) == {0} and set(_pair(dilation)) == {1} and not ceil_mode
    if plain and set(_pair(kernel_size)) == {2} and set(_pair(stride or kernel_size)) == {2}:
        found = blocks.pool_2x2(input)
        if found is not None:
            return found
    return _pool_rows(input, kernel_size, stride, padding, dilation, ceil_mode)


@rule(ops.max_pool_2x2)
def own_max_pool(x: Any) -> Any:
    return max_pool2d(x, 2)
