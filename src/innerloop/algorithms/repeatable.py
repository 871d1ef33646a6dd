"""Dropout, attention and other operations, made repeatable, batchable and differentiable twice.

Dropout draws its masks from what the task and the step say, see `noise.py`; PyTorch's fused
attention, cuDNN's recurrent layers and sparse embeddings have no second derivative, and that of
weight norm is wrong.
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop import ops


class Masks(Protocol):
    """Where masks come from."""

    def has_tasks(self, x: Tensor) -> bool:
        """True if the first axis of `x` is that of the tasks."""
        ...

    def mask(self, shape: Sequence[int], keep: float, like: Tensor) -> Tensor:
        """Ones with probability `keep`, else zeros."""
        ...


def _dropout(mode: Masks, input: Tensor, p: float, train: bool) -> Tensor:
    if not train or p == 0:
        return input
    if p >= 1:
        return input * 0
    return input * (mode.mask(input.shape, 1 - p, input) / (1 - p))


def _in_place(rule: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def in_place(mode: Masks, input: Tensor, p: float, train: bool) -> Tensor:
        found = rule(mode, input, p, train)
        return input if found is input else input.copy_(found)

    return in_place


def _channels(mode: Masks, input: Tensor) -> tuple[int, ...]:
    """Of `[B, C, ...]` one number a channel; with an axis of tasks before."""
    kept = 2 + mode.has_tasks(input)
    return (*input.shape[:kept], *[1] * (input.ndim - kept))


def _feature_dropout(mode: Masks, input: Tensor, p: float, train: bool) -> Tensor:
    if not train or p == 0:
        return input
    if p >= 1:
        return input * 0
    return input * (mode.mask(_channels(mode, input), 1 - p, input) / (1 - p))


def _alpha(mode: Masks, input: Tensor, p: float, train: bool, shape: Sequence[int]) -> Tensor:
    """Klambauer, Unterthiner, Mayr, Hochreiter 2017, "Self-Normalizing Neural Networks"."""
    if not train or p == 0:
        return input
    if p >= 1:
        return input * 0
    low = -1.7580993408473766
    mask = mode.mask(shape, 1 - p, input)
    a = 1 / math.sqrt((1 - p) * (1 + p * low**2))
    return a * (input * mask + low * (1 - mask)) - a * p * low


def _alpha_dropout(mode: Masks, input: Tensor, p: float, train: bool) -> Tensor:
    return _alpha(mode, input, p, train, input.shape)


def _feature_alpha_dropout(mode: Masks, input: Tensor, p: float, train: bool) -> Tensor:
    return _alpha(mode, input, p, train, _channels(mode, input))


def _attention(
    mode: Masks,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """PyTorch's fused attention has no second derivative and no vmap rule; this has both."""
    if is_causal and attn_mask is not None:
        raise RuntimeError("attention takes either a mask or is_causal=True, not both")
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if attn_mask is None and not is_causal and not dropout_p:
        return ops.attention(query, key, value, scale)
    scores = query * scale @ key.mT
    if is_causal:
        later = scores.new_ones(scores.shape[-2:], dtype=torch.bool).tril().logical_not()
        scores = scores.masked_fill(later, -math.inf)
    if attn_mask is None:
        weights = scores.softmax(-1)
    else:
        if attn_mask.dtype is torch.bool:
            scores = scores.masked_fill(attn_mask.logical_not(), -math.inf)
        else:
            scores = scores + attn_mask
        # A row that may look at nothing gives zeros, as in PyTorch.
        nothing = (scores == -math.inf).all(-1, keepdim=True)
        scores = scores.masked_fill(nothing, 0)
        weights = scores.softmax(-1).masked_fill(nothing, 0)
    return _dropout(mode, weights, dropout_p, True) @ value


def _weight_norm(_: Masks, v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """PyTorch's own takes the norm for a constant in its second derivative (PyTorch 2.13)."""
    over = [i for i in range(v.ndim) if i != dim] if dim != -1 else None
    norm: Tensor = torch.linalg.vector_norm(v, dim=over, keepdim=over is not None)
    return v * (g / norm)


def _hard_sigmoid(_: Masks, input: Tensor, inplace: bool = False) -> Tensor:
    """PyTorch's own, which MobileNetV3 has, cannot be differentiated twice; this one can."""
    y = F.relu6(input + 3) / 6
    return input.copy_(y) if inplace else y


def _data(_: Masks, input: Tensor, *__: Any) -> Tensor:
    """Under transforms, `.data` detaches only from the innermost one."""
    return input.detach()


def _dense(function: Callable[..., Any]) -> Callable[..., Any]:
    """An embedding with the same values and a derivative that an inner step can use."""

    def embedding(_: Masks, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **{**kwargs, "sparse": False})

    return embedding


def _without_cudnn(function: Callable[..., Any]) -> Callable[..., Any]:
    """cuDNN's recurrent layers have no second derivative, and in evaluation not even a first."""

    def recurrent(_: Masks, input: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not input.is_cuda:
            return function(input, *args, **kwargs)
        before, torch.backends.cudnn.enabled = torch.backends.cudnn.enabled, False
        try:
            return function(input, *args, **kwargs)
        finally:
            torch.backends.cudnn.enabled = before

    return recurrent


def _opened(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` without its own question whether somebody overrides it.

    Where a mode is active PyTorch hands these functions over as a whole; what they call has to
    come here as well.
    """
    assert isinstance(function, types.FunctionType)
    asks = {n: lambda *_: False for n in function.__globals__ if n.startswith("has_torch_function")}
    return types.FunctionType(
        function.__code__,
        function.__globals__ | asks,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )


def _multi_head_attention(
    query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """PyTorch's attention of several heads; that of a sequence to itself with fewer copies."""
    given = _HEADS.bind(query, key, value, *rest, **options)
    given.apply_defaults()
    how = given.arguments
    width, heads = how["embed_dim_to_check"], how["num_heads"]
    to_itself = query is key is value and query.ndim == 3 and query.shape[-1] == width
    usual = all(how[name] is value for name, value in _NOT_ASKED.items())
    if not (to_itself and usual and width % heads == 0):
        found: tuple[Tensor, Tensor | None] = _OPENED_HEADS(query, key, value, *rest, **options)
        return found
    x = F.linear(query.transpose(0, 1), how["in_proj_weight"], how["in_proj_bias"])
    q, k, v = (t.transpose(1, 2) for t in x.unflatten(-1, (3, heads, -1)).unbind(-3))
    p = how["dropout_p"] if how["training"] else 0.0
    y = F.scaled_dot_product_attention(q, k, v, dropout_p=p).transpose(1, 2).flatten(2)
    return F.linear(y, how["out_proj_weight"], how["out_proj_bias"]).transpose(0, 1), None


_HEADS = inspect.signature(F.multi_head_attention_forward)
_OPENED_HEADS = _opened(F.multi_head_attention_forward)
# What is asked of attention where nothing is hidden, added or returned beside the outputs.
_NOT_ASKED = {
    "bias_k": None,
    "bias_v": None,
    "add_zero_attn": False,
    "key_padding_mask": None,
    "need_weights": False,
    "attn_mask": None,
    "use_separate_proj_weight": False,
    "static_k": None,
    "static_v": None,
    "is_causal": False,
}
RULES: dict[Any, Callable[..., Any]] = {
    torch.dropout: _dropout,
    torch.feature_dropout: _feature_dropout,
    torch.alpha_dropout: _alpha_dropout,
    torch.feature_alpha_dropout: _feature_alpha_dropout,
    torch.dropout_: _in_place(_dropout),
    torch.feature_dropout_: _in_place(_feature_dropout),
    torch.alpha_dropout_: _in_place(_alpha_dropout),
    torch.feature_alpha_dropout_: _in_place(_feature_alpha_dropout),
    # What PyTorch does in a way that cannot be differentiated twice or batched, drawn or not.
    F.scaled_dot_product_attention: _attention,
    torch._weight_norm: _weight_norm,
    F.hardsigmoid: _hard_sigmoid,
    Tensor.data.__get__: _data,  # type: ignore[attr-defined]
    **{f: _dense(f) for f in (F.embedding, F.embedding_bag)},
    **{f: _without_cudnn(f) for f in (torch.gru, torch.lstm, torch.rnn_tanh, torch.rnn_relu)},
}
OPENED: dict[Any, Callable[..., Any]] = {
    f: _opened(f)
    for f in (
        F.dropout,
        F.dropout1d,
        F.dropout2d,
        F.dropout3d,
        F.alpha_dropout,
        F.feature_alpha_dropout,
    )
} | {F.multi_head_attention_forward: _multi_head_attention}
