"""A user's network as a function of its weights; the module is never written to.

`torch.func.functional_call` puts the weights into the module and takes them out again: two threads
get each other's, and a sub-module with two names is left with wrong ones.  Here every call works on
a copy of the skeleton: new module objects that hold the given weights and share everything else.
What a forward pass writes stays in the copy, so each call starts from what the user left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.algorithms import noise
from innerloop.algorithms.attributes import HOOKS, Attributes, uncompiled
from innerloop.algorithms.inspection import Inspected
from innerloop.algorithms.modules import check_script
from innerloop.algorithms.rows import TENSORS, TRAINED, as_parameter, copied
from innerloop.algorithms.trials import Trial
from innerloop.algorithms.uncompiled import as_written
from innerloop.functional import Params, in_transform
from innerloop.models.layers import BatchNorm, HeadedModel, Linear, SharedHead
from innerloop.models.norms import has_batch_norm
from innerloop.models.unregistered import OF_EVERY_MODULE
from innerloop.ops import kernels
from innerloop.ops.stacked import Stacked, apart, calls, stacked

_NORMS = (nn.modules.batchnorm._NormBase,)
# A buffer up to this size is copied at every call; a larger one only if the network writes to it.
_SMALL = 2**14
_NOT_TRIED = "that is found out at its first call"
# A network, and its parameters by name while they stay what they are.
_known: ContextVar[tuple[Network, list[tuple[str, nn.Parameter]]] | None]
_known = ContextVar("known", default=None)
_stacking: ContextVar[bool] = ContextVar("stacking", default=False)


@contextlib.contextmanager
def stacking() -> Iterator[None]:
    """Within this context a single task goes through a network in the way that several go."""
    token = _stacking.set(True)
    try:
        yield
    finally:
        _stacking.reset(token)


class Network(Inspected):
    """Calls a module with other weights in place of its own.

    Args:
        module: the user's; it is only read.
        frozen: batch norm uses its running statistics, as constants.

    Attributes:
        called: the classes, hooks and switches that its last call went by.
        draws: whether a forward pass in training draws random numbers, known after `look`.
        mixes_rows: whether a headed model's features depend on other tasks' rows, known then too.
        entangled: whether they depend on the head's weights.
        writes_weights: whether a forward pass changes the weights that it is given.
        normalises: whether there is a batch norm.
        takes: the shape of the examples that it was trained on, for errors; None if not known.
        without: trainable weights to which no gradient leads from the outputs, by name.
        left_behind: attributes in which a forward pass leaves what it computed from weights.
        apart: operations that do not take several tasks at once, in words, where the rest does.
    """

    def __init__(self, module: nn.Module, *, frozen: bool = False) -> None:
        self.module, self.frozen = module, frozen
        self.draws = self.mixes_rows = self.entangled = self.writes_weights = False
        # Other random numbers than dropout's, which only a loop can repeat; by whether it trains.
        self._draws_globally = {True: False, False: False}
        self._written: set[str] = set()
        # A forward pass writes to its inputs, so that it is given copies of them.
        self._writes_inputs = False
        # A forward pass is another one where its weights are less than this.
        self._weights_as = TENSORS
        self.takes: tuple[int, ...] | None = None
        self.without, self.left_behind, self.apart = set[str](), set[str](), set[str]()
        convolutions = [m for m in module.modules() if isinstance(m, nn.Conv1d | nn.Conv2d)]
        linear = [m for m in module.modules() if isinstance(m, nn.Linear)]
        self._mostly_convolutions = len(convolutions) > len(linear)
        # The rules fill up widths that no kernel makes; not all that a user's network does has one.
        self._filled = any(kernels.missing(m.out_channels) for m in convolutions)
        self._begin(*what_is_called(module))

    def _begin(self, called: list[Any], trained: int) -> None:
        """Nothing has been tried of a network that goes through `called`."""
        self.called, self._trained, self.is_own = called, trained, is_own(Layers(self.module))
        self.normalises = has_batch_norm(self.module)
        # Whether queries are known to stay apart where the batch does not give the statistics.
        self._looked = self._stays_apart = self.is_own
        self._look_tried = False
        # Whether several tasks go through together, and whether `torch.func` differentiates it.
        self._as_several, self._in_transforms = Trial(_NOT_TRIED), Trial(None)

    def __getstate__(self) -> dict[str, Any]:
        """Without a user's examples: a copy that has yet to try something looks for itself."""
        if self._as_several.example is self._in_transforms.example is None:
            return self.__dict__
        fresh = {"_as_several": Trial(_NOT_TRIED), "_in_transforms": Trial(None)}
        return self.__dict__ | fresh | {"_looked": False, "_look_tried": False}

    def __call__(
        self, params: Params, x: Any, part: Callable[[Any, Any], Any] | None = None
    ) -> Any:
        """The outputs for `x`.

        Args:
            params: weights by name, `[...]` each; those left out are the module's own.
            x: `[B, ...]`, or whatever the module takes.
            part: called with the copy and `x` in place of the copy itself.
        """
        if self.is_own:
            module = self._copy(params)
            return module(x) if part is None else part(module, x)
        if not self._looked:
            # Before anything is known, as if it wrote to all.
            params = {n: params.get(n, p).clone() for n, p in self.named()}
        with as_written():
            module = self._copy(params)
            x = copied(x) if self._writes_inputs or not self._looked else x
            with noise.drawing(self._draws_globally[noise.training()], x):
                return module(x) if part is None else part(module, x)

    def each(self, params: Params, x: Any) -> Any:
        """The outputs of T tasks, `[T, ...]`, for `x` `[T, B, ...]` and weights `[T, ...]`."""
        # Tried where it was written for one task; what is left takes an axis of tasks itself.
        together = self._as_several.reason is None or (self.is_own and self._filled)
        return self._together(params, x) if together else self(params, x)

    def takes_one_as_several(self) -> bool:
        """True where one task goes through `each` as several do, as kernels make that faster."""
        return self._mostly_convolutions and _stacking.get() and self._as_several.reason is None

    def _together(self, params: Params, x: Tensor, same: Params | None = None) -> Any:
        """`same`: weights `[...]` that all tasks share."""
        with calls():
            return apart(self(stacked(params) | (same or {}), Stacked(x)), len(x))

    def look(self, x: Any, *, training: bool = True) -> None:
        """Run a copy of the network to learn what it does beside computing outputs.

        Args:
            x: examples.
            training: look at it in training as well as in evaluation.

        Raises:
            UserError: it reaches its own weights in a way that cannot be redirected, or is
                TorchScript that has to be written to.
        """
        if in_transform():
            return
        called, trained = what_is_called(self.module)
        if called != self.called or trained > self._trained:
            # It may do something else since the last call; evaluation is tried beside training.
            self._begin(called, trained)
        if self._looked:
            return
        check_script(self.module)
        with torch.inference_mode(False), noise.generators_kept():
            if not self._look(copied(x), (False, True) if training else (False,)):
                self._as_several.reason = self.why_not_taken(x) or _NOT_TRIED
                return
        layers = Layers(self.module)
        self._in_transforms.example = x.detach() if isinstance(x, Tensor) else None
        if not isinstance(x, Tensor):
            self._as_several.reason = "its inputs are not tensors"
        elif not layers.untouched:
            self._as_several.reason = "it has hooks, or a forward of its own, made for one task"
        elif not layers.take_tasks:
            self._as_several.example = x.detach()
        # Last, because other threads read it.
        self._looked = True

    def look_once(self, x: Any) -> None:
        """`look` before a forward pass that a user asks for, unless that was tried."""
        if not (self._looked or self._look_tried or in_transform()):
            self._look_tried = True
            self.look(x)

    def is_head_on_features(self) -> bool:
        """True if the model is a body plus a linear head with no shared parameters."""
        model = self.module
        if not isinstance(model, HeadedModel) or type(model).forward is not HeadedModel.forward:
            return False
        if self.entangled:
            return False
        if not is_untouched(model) or not all(is_untouched(m) for m in model.head.modules()):
            return False
        if not all(p.requires_grad for p in model.head.parameters()):
            return False
        own = {id(p) for p in model.head.parameters()}
        uses = [p for _, p in model.named_parameters(remove_duplicate=False) if id(p) in own]
        return type(model.head) in (SharedHead, Linear, nn.Linear) and len(uses) == len(own)

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Look up the parameters of this package's networks once, not in every forward pass."""
        known = (self, list(self.module.named_parameters())) if self.is_own else None
        token = _known.set(known)
        try:
            yield
        finally:
            _known.reset(token)

    def named(self) -> Iterable[tuple[str, nn.Parameter]]:
        known = _known.get()
        return known[1] if known and known[0] is self else self.module.named_parameters()

    def _copy(self, params: Params, *, every_buffer: bool = False) -> nn.Module:
        given = {id(p): params[name] for name, p in self.named() if name in params}
        if self.writes_weights:
            given = {id(p): given.get(id(p), p.detach()).clone() for _, p in self.named()}
        if asked := self._weights_as:
            trained = {id(p) for _, p in self.named() if asked == TRAINED and p.requires_grad}
            given = {i: as_parameter(t, i in trained) for i, t in given.items()}
        skeleton = Skeleton(
            given,
            training=noise.training(),
            frozen=self.frozen,
            searched=not self.is_own,
            assigned=self._weights_as != TENSORS,
            written=self._written if self._looked and not every_buffer else None,
        )
        return skeleton.of(self.module, "") if self.is_own else skeleton.whole(self.module)


class Skeleton(Attributes):
    """A copy of a module with other weights, the rest as it was.

    Parts that share an object go on sharing it.

    Args:
        given: tensors in place of parameters, by the identity of the parameter.
        training: as the module has it; False switches dropout off everywhere.
        frozen: batch norm uses its running statistics, as constants.
        searched: look at attributes beside parameters, buffers and modules; not needed for
            networks of this package.
        assigned: a forward pass may assign one weight to another, as to tie them.
        written: names of large buffers that a forward pass writes to, or None for all.
    """

    def __init__(
        self,
        given: dict[int, Tensor],
        *,
        training: bool,
        frozen: bool,
        searched: bool,
        assigned: bool,
        written: set[str] | None,
    ) -> None:
        self._given, self._training, self._frozen = given, training, frozen
        self._memo, self._kept, self._later = {}, [], []
        self._searched, self._assigned, self._written = searched, assigned, written

    def of(self, module: nn.Module, prefix: str) -> nn.Module:
        found: nn.Module | None = self._memo.get(id(module))
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
        state["_buffers"] = {
            n: b if constant and not self._writes(prefix + n) else self._tensor(b, prefix + n)
            for n, b in module._buffers.items()
        }
        copy_of = self.part if self._searched else self.of
        state["_modules"] = {
            n: None if m is None else copy_of(m, f"{prefix}{n}.")
            for n, m in module._modules.items()
        }
        if not self._training or (constant and self._frozen):
            state["training"] = False
        state["_compiled_call_impl"] = None
        if self._assigned:
            # PyTorch's own refuses tensors with a history, such as weights after an inner step.
            state["register_parameter"] = state["_parameters"].__setitem__
        if self._searched:
            self.copied_into(state, module, prefix)
        object.__setattr__(new, "__dict__", state)
        if self._searched:
            self.fill_slots(module, new)
        return new

    def _writes(self, name: str) -> bool:
        """True if the forward pass may write to a buffer: it can call `train()` for itself."""
        return self._written is None or name in self._written

    def _tensor(self, value: Any, name: str = "") -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) in self._given:
            return self._given[id(value)]
        if value.requires_grad:
            return value
        if id(value) not in self._memo:
            copied = value.numel() <= _SMALL or self._writes(name)
            self._memo[id(value)] = value.clone() if copied else value
        return self._memo[id(value)]


# What can be told of a module by its classes, its hooks and its attributes, without calling it.


class Layers:
    """What the modules of a network say of themselves, from one walk over them.

    Between two steps a user may change each of them, so that every step asks again.

    Attributes:
        all: the modules, each once, the network itself first.
        untouched: all of them do what their classes say, see `is_untouched`.
        take_tasks: the network takes inputs `[T, B, ...]` with all parameters `[T, ...]`.
            Its class and those of its layers say so by `takes_tasks`; a subclass with a `forward`
            of its own has to say so again, and hooks are made for one task.
    """

    def __init__(self, network: nn.Module) -> None:
        self.all = list(network.modules())
        self.untouched = all(map(is_untouched, self.all))
        self.take_tasks = self.untouched and all(map(_takes_tasks, self.all))


def is_own(layers: Layers) -> bool:
    """True if all is of this package, untouched and learnt: then nothing has to be tried."""
    kinds = set(map(type, layers.all)) - {nn.ModuleList}
    return layers.take_tasks and all(k.__module__.startswith("innerloop.models.") for k in kinds)


def what_is_called(network: nn.Module) -> tuple[list[Any], int]:
    """The classes, hooks and switches that a call goes by, and how many modules are in training."""
    found: list[Any] = []
    modules = list(network.modules())
    for module in modules:
        state = vars(module)
        found.append(type(module))
        for name in HOOKS:
            # By the numbers that PyTorch gives them, each once.
            found += state[name]
        found += [state[name] for name in _REPLACED if name in state]
        # A number that is not 0 may change in every step, as that of an annealing does.
        plain = ((n, v) for n, v in state.items() if type(v) in _PLAIN and n not in OF_EVERY_MODULE)
        found += [(n, v if isinstance(v, str) else bool(v)) for n, v in plain]
        held = (vars(v) for v in state.values() if isinstance(getattr(v, "__dict__", None), dict))
        found += [(n, v) for names in held for n, v in names.items() if type(v) is bool]
    return found, sum(module.training for module in modules)


# Methods that an object may have in place of those of its class.
_REPLACED = ("forward", "features")
_PLAIN = (bool, int, float, str, type(None))
# PyTorch's hooks for all modules, and what has them.
_EVERYWHERE = tuple(f"_global{name}" for name in HOOKS)
_TORCH = vars(nn.modules.module)


def is_untouched(module: nn.Module) -> bool:
    """True if `module` does what its class says: no hooks, no `forward` but that of a compiler."""
    hooked = any(map(vars(module).get, HOOKS)) or any(map(_TORCH.get, _EVERYWHERE))
    same = vars(module).keys().isdisjoint(_REPLACED) or uncompiled(module) is not module
    return same and not hooked


# Layers that treat every number by itself, and those that only hold others.
_INDIFFERENT = {
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid),
    *(nn.Softplus, nn.Hardtanh, nn.Identity, nn.Dropout),
    *(nn.Sequential, nn.ModuleList, nn.ModuleDict),
}
_LEARNT = (nn.Conv2d, nn.Linear, BatchNorm, SharedHead)


def _takes_tasks(module: nn.Module) -> bool:
    kind = type(module)
    if kind in _INDIFFERENT:
        return True
    # The weights of a layer have an axis of tasks, or none of them has.
    if isinstance(module, _LEARNT):
        for p in module._parameters.values():
            if p is not None and not p.requires_grad:
                return False
    for cls in kind.__mro__:
        said = vars(cls)
        if "takes_tasks" in said:
            return bool(said["takes_tasks"])
        if "forward" in said or "features" in said:
            return False
    return False
