"""A user's network as a function of its weights, without writing to it.

`torch.func.functional_call` puts the weights into the module and takes them out again: two threads
get each other's, and a sub-module that is reachable by two names is left with the wrong ones.  Here
every call works on a copy of the module's skeleton: new module objects that hold the given weights
and share everything else.  What a forward pass writes (buffers, attributes, lists) stays in the
copy, so each call starts from the module as the user left it.
"""

from __future__ import annotations

import copy
import functools
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.algorithms import noise
from innerloop.errors import UserError
from innerloop.functional import Params, in_transform
from innerloop.models.layers import HeadedModel, statistics_by_group

# Attributes of these types hold no module and no tensor.
_ATOMS = {bool, int, float, complex, str, bytes, type(None), type, torch.dtype, torch.device}
_ATOMS |= {torch.Size, types.BuiltinFunctionType, torch.memory_format}
# What every module has, and what has rules of its own below.
_OWN = {*vars(nn.Module())} - {"_forward_hooks", "_forward_pre_hooks"}
_CONTAINERS = (dict, OrderedDict, list, deque, set)
_NORMS = (nn.modules.batchnorm._NormBase,)
# Longer containers are shared with the user's module, unsearched: they hold data, not modules.
_SEARCHED = 1000
# A buffer up to this size is copied at every call; a larger one only if the network writes to it.
_SMALL = 2**14


class Network:
    """Calls a module with other weights in place of its own.

    Args:
        module: the user's; it is only read.
        frozen: batch norm uses its running statistics, as constants.

    Attributes:
        draws: whether a forward pass in training draws random numbers, known once `look` has run.
        mixes_rows: whether the features of a headed model depend on other tasks' rows in the
            batch, known then as well.
    """

    def __init__(self, module: nn.Module, *, frozen: bool = False) -> None:
        self.module, self.frozen = module, frozen
        self.draws = False
        self.mixes_rows = False
        # Random numbers that do not come from dropout: only a loop over tasks can repeat them.
        self._draws_globally = False
        self._written: set[str] = set()
        self._looked = self.is_own = _is_own(module)

    def __call__(
        self, params: Params, x: Tensor, part: Callable[[Any, Tensor], Any] | None = None
    ) -> Any:
        """The outputs for `x`.

        Args:
            params: weights by name, `[...]` each; those left out are the module's own.
            x: `[B, ...]`, or whatever the module takes.
            part: called with the copy and `x` in place of the copy itself.
        """
        module = self._copy(params)
        call = nn.Module.__call__ if part is None else part
        if self.is_own:
            return call(module, x)
        with noise.drawing(self._draws_globally, x):
            return call(module, x)

    def look(self, x: Tensor) -> None:
        """Run the network once to learn what it does beside computing outputs.

        Raises:
            UserError: it reaches its own weights in a way that cannot be redirected.
        """
        if self._looked or in_transform():
            return
        trained = {id(p): n for n, p in self.module.named_parameters() if p.requires_grad}
        leaves = {n: p.detach().requires_grad_() for n, p in self._named() if p.requires_grad}
        before = torch.get_rng_state()
        try:
            in_training = noise.calls(training=True)
            with torch.enable_grad(), torch.random.fork_rng(devices=[]), in_training:
                module = self._copy(leaves, every_buffer=True)
                versions = {n: (b, b._version) for n, b in _state(module)}
                with noise.watching() as seen:
                    out = module(x)
                self._draws_globally = not torch.equal(torch.get_rng_state(), before)
        except Exception:
            # The call that counts says what is wrong; there may be more to a forward pass.
            return
        self.draws = seen.dropout or self._draws_globally
        self.mixes_rows = self._mixes_rows(x)
        after = dict(_state(module))
        self._written = {
            n for n, (b, version) in versions.items() if after.get(n) is b and b._version != version
        }
        for name in sorted(trained[i] for i in _leaves(out) & trained.keys()):
            raise UserError(
                f"the network reaches its parameter {name} past the module, for instance by a "
                "global variable or a function that holds the network, so that adapted weights "
                "would have no effect: use the module's own attributes (self) in forward"
            )
        self._looked = True

    def _mixes_rows(self, x: Tensor) -> bool:
        """Whether a task's features change when those of another go through the body with it."""
        if not isinstance(self.module, HeadedModel) or not x.is_floating_point():
            return False
        with torch.no_grad(), noise.calls(training=False):

            def features(x: Tensor) -> Tensor:
                with statistics_by_group(rows):
                    return self({}, x, lambda module, x: module.features(x))

            rows = len(x)
            alone, together = features(x), features(torch.cat([x, 2 * x.flip(0) + 1]))
        return not torch.allclose(alone, together[:rows], rtol=1e-3, atol=1e-5)

    def _named(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self.module.named_parameters()

    def _copy(self, params: Params, *, every_buffer: bool = False) -> nn.Module:
        given = {id(p): params[name] for name, p in self._named() if name in params}
        return _Copy(self, given, every_buffer).of(self.module, "")


class _Copy:
    """One copy of a module's skeleton."""

    def __init__(self, network: Network, given: dict[int, Tensor], every_buffer: bool) -> None:
        self._frozen, self._written = network.frozen, network._written
        self._given, self._every_buffer = given, every_buffer
        self._training = noise.training()
        self._own = network.is_own
        self._tree: set[int] | None = None
        self._root = network.module
        self._memo: dict[int, Any] = {}

    def of(self, module: nn.Module, prefix: str) -> nn.Module:
        found = self._memo.get(id(module))
        if found is not None:
            return found
        new = object.__new__(type(module))
        self._memo[id(module)] = new
        state = module.__dict__.copy()
        given = self._given
        state["_parameters"] = {
            n: p if p is None else given.get(id(p), p) for n, p in module._parameters.items()
        }
        constant = isinstance(module, _NORMS) and (self._frozen or module.running_mean is None)
        if module._buffers:
            state["_buffers"] = {
                n: b if constant else self._buffer(b, prefix + n)
                for n, b in module._buffers.items()
            }
        if module._modules:
            state["_modules"] = {
                n: None if m is None else self.of(m, f"{prefix}{n}.")
                for n, m in module._modules.items()
            }
        if not self._training or (constant and self._frozen):
            state["training"] = False
        state["_compiled_call_impl"] = None
        if not self._own:
            for name, value in module.__dict__.items():
                if name not in _OWN and type(value) not in _ATOMS:
                    state[name] = self._tensor(value, prefix + name)
        object.__setattr__(new, "__dict__", state)
        return new

    def _buffer(self, value: Tensor | None, name: str) -> Tensor | None:
        if value is None or value.requires_grad:
            return value
        copied = self._every_buffer or value.numel() <= _SMALL or name in self._written
        return value.clone() if copied else value

    def _tensor(self, value: Any, name: str) -> Any:
        if isinstance(value, Tensor) and id(value) not in self._given:
            return self._buffer(value, name)
        redirected = self._redirect(value)
        if redirected is value and type(value) in _CONTAINERS and len(value) <= _SEARCHED:
            # What the forward pass puts into it is not for the user's module.
            return copy.copy(value)
        return redirected

    def _redirect(self, value: Any) -> Any:
        """`value` with every mention of the user's module replaced by one of the copy."""
        kind = type(value)
        if kind in _ATOMS:
            return value
        if id(value) in self._memo:
            return self._memo[id(value)]
        if isinstance(value, Tensor):
            return self._given.get(id(value), value)
        if isinstance(value, nn.Module):
            return self.of(value, "") if id(value) in self._modules() else value
        if kind is types.MethodType:
            owner = self._redirect(value.__self__)
            return value if owner is value.__self__ else types.MethodType(value.__func__, owner)
        if kind is types.FunctionType:
            return self._function(value)
        if kind is functools.partial:
            arguments = [self._redirect(v) for v in value.args]
            named = {n: self._redirect(v) for n, v in value.keywords.items()}
            return functools.partial(self._redirect(value.func), *arguments, **named)
        if kind in (dict, OrderedDict) and len(value) <= _SEARCHED:
            self._memo[id(value)] = value  # it may hold itself
            values = {k: self._redirect(v) for k, v in value.items()}
            if all(values[k] is v for k, v in value.items()):
                return value
            self._memo[id(value)] = new = kind(values)
            return new
        if kind in (list, tuple, deque, set) and len(value) <= _SEARCHED:
            self._memo[id(value)] = value
            items = [self._redirect(v) for v in value]
            if all(a is b for a, b in zip(items, value, strict=True)):
                return value
            self._memo[id(value)] = new = kind(items)
            return new
        return self._object(value)

    def _object(self, value: Any) -> Any:
        """An object of another kind, copied if it holds a module or a weight of the network."""
        held = getattr(value, "__dict__", None)
        if type(held) is not dict or isinstance(value, type):
            return value
        tree = self._modules()
        if not any(id(v) in tree or id(v) in self._given for v in held.values()):
            return value
        self._memo[id(value)] = new = copy.copy(value)
        new.__dict__.update({n: self._redirect(v) for n, v in held.items()})
        return new

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        cells = function.__closure__
        if not cells:
            return function
        self._memo[id(function)] = function  # it may hold itself
        contents = [_content(cell) for cell in cells]
        redirected = [self._redirect(c) for c in contents]
        if all(a is b for a, b in zip(contents, redirected, strict=True)):
            return function
        closure = tuple(
            cell if old is new else types.CellType(new)
            for cell, old, new in zip(cells, contents, redirected, strict=True)
        )
        new = types.FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            closure,
        )
        new.__kwdefaults__ = function.__kwdefaults__
        new.__dict__.update(function.__dict__)
        self._memo[id(function)] = new
        return new

    def _modules(self) -> set[int]:
        if self._tree is None:
            self._tree = {id(m) for m in self._root.modules()}
        return self._tree


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None


def _is_own(module: nn.Module) -> bool:
    """Whether all of `module` is of this package, untouched: then a forward pass is a function."""
    return all(is_untouched(m) and _package(type(m)) for m in module.modules())


def _package(kind: type) -> bool:
    return kind is nn.ModuleList or kind.__module__.startswith("innerloop.models.")


def is_untouched(module: nn.Module) -> bool:
    """Whether `module` does what its class says: no hooks, no `forward` of its own."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    return not any(hooks) and not {"forward", "features"} & vars(module).keys()


# Layers that treat every number by itself, and those that only hold others.
_INDIFFERENT = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid),
    *(nn.Softplus, nn.Hardtanh, nn.Identity, nn.Dropout),
    *(nn.Sequential, nn.ModuleList, nn.ModuleDict),
)


def takes_tasks(model: nn.Module) -> bool:
    """Whether `model` takes inputs `[T, B, ...]` with all parameters `[T, ...]`.

    Its class and those of its layers say so by `takes_tasks`; a subclass with a `forward` of its
    own has to say so again, and hooks are made for one task.
    """
    return all(_module_takes_tasks(m) for m in model.modules())


def _module_takes_tasks(module: nn.Module) -> bool:
    if not is_untouched(module):
        return False
    kind = type(module)
    if kind in _INDIFFERENT:
        return True
    for cls in kind.__mro__:
        if "takes_tasks" in vars(cls):
            return bool(cls.takes_tasks)  # type: ignore[attr-defined]
        if {"forward", "features"} & vars(cls).keys():
            return False
    return False


def _state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The buffers, and the tensors among the attributes, by the names that `_Copy` uses."""
    for prefix, child in module.named_modules():
        start = f"{prefix}." if prefix else ""
        for name, value in (*child._buffers.items(), *vars(child).items()):
            if isinstance(value, Tensor):
                yield start + name, value


def _leaves(outputs: Any) -> set[int]:
    """Identities of the leaves that `outputs` were computed from."""
    tensors, _ = torch.utils._pytree.tree_flatten(outputs)
    waiting = [t.grad_fn for t in tensors if isinstance(t, Tensor) and t.grad_fn is not None]
    seen, leaves = set(waiting), set()
    while waiting:
        node = waiting.pop()
        variable = getattr(node, "variable", None)
        if variable is not None:
            leaves.add(id(variable))
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return leaves
