"""A tensor of one task, as a network sees it, that holds those of T tasks."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from innerloop.ops.vmapped import vmap
from innerloop.trees import closed, mapped

Rule = Callable[..., Any]
# What is done with the axis of tasks, by function of PyTorch; see rules.py.
RULES: dict[Any, Rule] = {}
# Whether gradients were recorded when the network was called; None outside of such a call.
_recording: ContextVar[bool | None] = ContextVar("recording", default=None)
# What had no rule for all tasks at once, in words, while somebody asks.
_apart: ContextVar[dict[str, None] | None] = ContextVar("apart", default=None)


class NotStackableError(RuntimeError):
    """Raised for an operation that cannot be done for T tasks at once."""


@contextlib.contextmanager
def calls() -> Iterator[None]:
    """Around the call of a network on `Stacked` tensors."""
    token = _recording.set(torch.is_grad_enabled())
    try:
        yield
    finally:
        _recording.reset(token)


@contextlib.contextmanager
def noticing_apart() -> Iterator[dict[str, None]]:
    """Within this context a dict has as keys the operations that go by `vmap` or task by task."""
    found: dict[str, None] = {}
    token = _apart.set(found)
    try:
        yield found
    finally:
        _apart.reset(token)


def goes_apart(what: str) -> None:
    """Say that an operation is not done for all tasks at once."""
    found = _apart.get()
    if found is not None:
        found[what] = None


class Stacked(Tensor):
    """What the network takes for a tensor `[...]` of one task.

    Attributes:
        tasks: those of T tasks, `[T, ...]`.
        count: T.
    """

    count: int

    _tasks: Tensor | None
    # What `tasks` is computed from when it is asked for.
    later: Callable[[], Tensor] | None
    # With channels of zeros besides, where the kernels have made these; see blocks.py.
    whole: Stacked | None
    # One after the other along the first axis, once that was asked for.
    rows: tuple[Stacked, ...] | None
    # Those that have their memory in common where there is one task; None for itself alone.
    family: list[weakref.ref[Stacked]] | None = None

    def __new__(cls, tasks: Tensor) -> Stacked:
        return of_shape(tasks.shape[1:], tasks, tasks)

    @property
    def tasks(self) -> Tensor:
        if self._tasks is None:
            assert self.later is not None
            self._tasks, self.later = self.later(), None
        return self._tasks

    def become(
        self,
        tasks: Tensor | None,
        later: Callable[[], Tensor] | None = None,
        whole: Stacked | None = None,
    ) -> None:
        """Hold other numbers of the same shape, as after an operation in place."""
        for there in self.family or ():
            view = there()
            if view is not None and view is not self:
                view._tasks, view.later, view.whole, view.rows = None, _overwritten, None, None
        self._tasks, self.later, self.whole, self.rows = tasks, later, whole, None

    @classmethod
    def __torch_function__(
        cls, func: Any, kinds: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _ABOUT_ONE:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        recording = _recording.get()
        if recording and not torch.is_grad_enabled():
            # A custom autograd function computes like this, and links its own derivative to what
            # it returns, where nobody would find it.
            raise NotStackableError(f"{_name(func)} under no_grad")
        rule = RULES.get(func)
        return by_vmap(func, args, kwargs) if rule is None else rule(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, kinds: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        raise NotStackableError(f"{func} came past its rule")

    def __repr__(self, *_: Any, **__: Any) -> str:  # type: ignore[override]
        return f"Stacked({tuple(self.shape)}, tasks={'later' if self._tasks is None else 'there'})"


def of_shape(shape: Any, like: Tensor, tasks: Tensor | None = None, later: Any = None) -> Stacked:
    """A `Stacked` of one task's `shape`; `like`, of T tasks, gives T, type and device."""
    with torch._C.DisableTorchFunctionSubclass():
        found: Any = Tensor._make_wrapper_subclass(
            Stacked, tuple(shape), dtype=like.dtype, device=like.device
        )
    found.become(tasks, later)
    found.count = like.count if isinstance(like, Stacked) else len(like)
    made: Stacked = found
    return made


def stacked(tree: Any) -> Any:
    """A tree of tensors `[T, ...]` as the network sees it."""
    return tree_map(lambda t: Stacked(t) if isinstance(t, Tensor) else t, tree)


def apart(tree: Any, tasks: int) -> Any:
    """The way back; what does not depend on the task is repeated."""
    if kind := closed(tree):
        raise NotStackableError(f"it returns a {kind}, whose tensors cannot be exchanged")

    def back(t: Any) -> Any:
        if isinstance(t, Stacked):
            return t.tasks
        return t.expand(tasks, *t.shape) if isinstance(t, Tensor) else t

    return mapped(back, tree)


def of_tasks(t: Tensor) -> Tensor:
    """Those of T tasks, `[T, ...]`, if `t` holds them; else `t` itself."""
    return t.tasks if isinstance(t, Stacked) else t


def _overwritten() -> Tensor:
    raise NotStackableError("a tensor is used after a view of it was written in place")


def replaced(x: Any, new: Tensor) -> Any:
    """`x` with `new` in place of its numbers, as after an operation in place."""
    if not isinstance(x, Stacked) or new.shape[1:] != x.shape or new.dtype != x.dtype:
        raise NotStackableError("an operation in place changes the shape or the type")
    x.become(new)
    return x


def view(how: Rule) -> Rule:
    """A rule whose results are views of its first argument, or may be, where there is one task."""

    @functools.wraps(how)
    def related(input: Any, *args: Any, **kwargs: Any) -> Any:
        out = how(input, *args, **kwargs)
        _relate(input, out)
        return out

    return related


def _relate(input: Any, out: Any) -> None:
    if not isinstance(input, Stacked):
        return
    for part in tree_leaves(out):
        if isinstance(part, Stacked) and part is not input and part.family is None:
            input.family = part.family = input.family or [weakref.ref(input)]
            input.family.append(weakref.ref(part))


def _memory(t: Tensor) -> int | None:
    return t.untyped_storage().data_ptr() if t.layout is torch.strided else None


_LOOKS = {"__bool__", "__float__", "__int__", "__index__", "item", "tolist", "numpy", "__array__"}


def by_vmap(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`func` for each task, by `vmap` over this operation alone."""
    name = _name(func)
    if name in _LOOKS:
        raise NotStackableError(f"it looks at values ({name})")
    leaves, structure = tree_flatten((args, kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Stacked)]
    tensors = [leaves[i].tasks for i in places]
    writes = name.endswith("_") and not name.endswith("__")
    if writes and not (args and isinstance(args[0], Stacked)):
        raise NotStackableError(f"{name} writes what belongs to one task into a tensor of all")
    if writes:
        # What is still to be computed from these numbers has them as they are.
        tensors[0] = tensors[0].clone()
    if not places or name in ("__set__", "__setitem__", "__iter__"):
        raise NotStackableError(f"{name} has no rule")

    def of_one(*given: Tensor) -> Any:
        found = list(leaves)
        for i, tensor in zip(places, given, strict=True):
            found[i] = tensor
        of_args, of_kwargs = tree_unflatten(found, structure)
        return func(*of_args, **of_kwargs)

    try:
        out = vmap(of_one, *tensors)
    except NotStackableError:
        raise
    except Exception as error:
        raise NotStackableError(f"{name} has no rule") from error
    if writes:
        goes_apart(name)
        return replaced(args[0], out)
    found, is_view = stacked(out), False
    for i, tensor in zip(places, tensors, strict=True):
        memory = _memory(tensor)
        for part in tree_leaves(found):
            if isinstance(part, Stacked) and memory and _memory(part.tasks) == memory:
                _relate(leaves[i], part)
                is_view = True
    if not is_view:
        goes_apart("indexing" if name == "__getitem__" else name)
    return found


def _name(func: Any) -> str:
    return getattr(func, "__name__", str(func))


def _getter(name: str) -> Any:
    return getattr(Tensor, name).__get__


# Questions that have the same answer for all tasks, and that the tensor of one task knows.
_ABOUT_ONE = {
    *(_getter(n) for n in ("shape", "ndim", "dtype", "device", "layout", "is_cuda", "is_sparse")),
    *(_getter(n) for n in ("is_nested", "is_quantized", "is_mkldnn", "is_meta")),
    *(Tensor.size, Tensor.dim, Tensor.ndimension, Tensor.numel, Tensor.nelement, Tensor.__len__),
    *(Tensor.is_floating_point, Tensor.is_complex, torch.is_floating_point, torch.is_complex),
    *(Tensor.element_size, torch.numel, Tensor.__hash__, Tensor.stride, Tensor.is_contiguous),
    *(Tensor.__repr__, Tensor.get_device),
}


def _requires_grad(t: Stacked) -> bool:
    return t.tasks.requires_grad


RULES[_getter("requires_grad")] = _requires_grad
RULES[_getter("is_leaf")] = lambda t: t.tasks.is_leaf
