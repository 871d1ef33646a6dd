"""Between PyTorch's order of axes and that of the kernels, and the task axis under `vmap`."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, autograd


def arranged(weight: Tensor) -> Tensor:
    """`[out, in, KH, KW]` with the same values, in memory as the kernels want it."""
    return weight.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)


# Between PyTorch's order of axes and that of the kernels, which always have a task axis.


def images(x: Tensor) -> Tensor:
    return with_tasks(x, 4).permute(0, 1, 3, 4, 2).contiguous()


def images_back(x: Tensor, like: Tensor) -> Tensor:
    x = x.permute(0, 1, 4, 2, 3)
    return x if like.ndim == 5 else x[0]


def weights(w: Tensor, *, once: bool = True) -> Tensor:
    """What is the same for all tasks is there `once`; otherwise for each of them."""
    w = with_tasks(w, 4)
    w = w[:1] if once and w.stride(0) == 0 else w
    return w.permute(0, 3, 4, 2, 1).contiguous()


def weights_back(w: Tensor, tasks: bool) -> Tensor:
    w = w.permute(0, 4, 3, 1, 2)
    return w if tasks else w[0]


def vectors(v: Tensor) -> Tensor:
    return with_tasks(v, 1).contiguous()


def vectors_back(v: Tensor, like: Tensor) -> Tensor:
    return v if like.ndim == 2 else v[0]


def with_tasks(t: Tensor, dims: int) -> Tensor:
    return t if t.ndim > dims else t[None]


def over_tasks(function: Any, info: Any, in_dims: tuple, dims: tuple[int, ...], arguments: tuple):
    """The rule for vmap: the new axis becomes the task axis, or is merged with it.

    Args:
        function: an operation of this package.
        info, in_dims: from vmap.
        dims: of the leading arguments, which are tensors, how many axes one task has.
        arguments: of the operation.
    """
    size = info.batch_size
    tensors = [
        t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)
        for t, dim in zip(arguments, in_dims[: len(dims)], strict=False)
    ]
    nested = any(t.ndim == d + 2 for t, d in zip(tensors, dims, strict=True))
    if nested:
        inner = next(t.shape[1] for t, d in zip(tensors, dims, strict=True) if t.ndim == d + 2)
        tensors = [
            (t if t.ndim == d + 2 else t[:, None].expand(size, inner, *t.shape[1:])).flatten(0, 1)
            for t, d in zip(tensors, dims, strict=True)
        ]
    out = function.apply(*tensors, *arguments[len(dims) :])
    if nested:
        one = isinstance(out, Tensor)
        parts = [t.unflatten(0, (size, inner)) for t in ([out] if one else out)]
        out = parts[0] if one else tuple(parts)
    return out, 0 if isinstance(out, Tensor) else (0,) * len(out)


class Operation(autograd.Function):
    """A function of tensors, no argument of which has a default.

    At every call PyTorch looks for defaults, which takes as long as a small kernel.  Plain autograd
    here goes past that, to where PyTorch's `apply` comes to in the end.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # Under transforms it still looks, but at what is written down.
        forward: Any = cls.forward
        forward.__signature__ = inspect.signature(forward)

    @classmethod
    def apply(cls, *arguments: Any) -> Any:
        if _unwrapped is None or _in_transform():
            return super().apply(*arguments)
        beyond: Any = super(autograd.Function, cls)
        return beyond.apply(*_unwrapped(arguments))


# Not public; a PyTorch without them gets the longer way.
_in_transform = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
_unwrapped: Any
try:
    # What is left of a transform's tensors when it is over, as in the function that vjp returns.
    from torch._functorch.utils import unwrap_dead_wrappers as _unwrapped
except ImportError:
    _unwrapped = None


def or_zeros(t: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if t is None else t
