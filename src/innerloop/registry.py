"""Algorithms, networks and data by name: ours, those that programs register, those of packages.

This module imports neither PyTorch nor NumPy, so that `--help` is instant.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, TypeVar, overload

from innerloop.errors import UserError
from innerloop.keywords import arguments_of
from innerloop.references import find, is_reference

T = TypeVar("T", bound=Callable[..., Any])


class Registry:
    """Objects by name.

    A name is found among ours, among what was registered in this process, and among the entry
    points that installed packages declare in the group `innerloop.KIND`.

    Args:
        kind: `"algorithms"`, `"models"` or `"data"`.
        ours: `"module:name"` by name; imported when first asked for.
    """

    def __init__(self, kind: str, ours: dict[str, str]) -> None:
        self.kind, self._ours = kind, ours
        self._found: dict[str, Any] = {}
        self.recipes: dict[str, Mapping[str, Any]] = {}

    def names(self) -> list[str]:
        """All names, ours first."""
        others = {*self._found, *(point.name for point in self._points())} - set(self._ours)
        return [*self._ours, *sorted(others)]

    def is_ours(self, name: str) -> bool:
        """True if the name comes with this package."""
        return name in self._ours

    def __contains__(self, name: object) -> bool:
        if name in self._ours or name in self._found:
            return True
        # Milliseconds to look through what is installed; most of what is asked for is a path.
        return _is_name(name) and name in self.names()

    def get(self, name: str) -> Any:
        """What has that name.

        Raises:
            UserError: nothing has, or what a package declares cannot be imported.
        """
        if name not in self._found:
            self._found[name] = self._import(name)
        return self._found[name]

    def add(self, name: str, value: Any, recipe: Mapping[str, Any] | None = None) -> None:
        """Give a name to an object.

        Raises:
            UserError: the name is taken, or is none.
        """
        if not _is_name(name):
            raise UserError(f"{name!r} is not a name: use letters, digits, - and +")
        if name in self and self.get(name) is not value and not _same(self.get(name), value):
            raise UserError(f"{name!r} is taken already among the {self.kind}: choose another name")
        self._found[name] = value
        if recipe is not None:
            self.recipes[name] = MappingProxyType(dict(recipe))

    def _points(self) -> Any:
        return entry_points(group=f"innerloop.{self.kind}")

    def _import(self, name: str) -> Any:
        if name in self._ours:
            module, _, attribute = self._ours[name].partition(":")
            return getattr(importlib.import_module(module), attribute)
        for point in self._points():
            if point.name == name:
                try:
                    return point.load()
                except Exception as error:
                    raise UserError(
                        f"{name!r} of the {self.kind} comes from {point.value}, which cannot be "
                        f"imported: {type(error).__name__}: {error}"
                    ) from error
        raise UserError(f"there is no {name!r} among the {self.kind}: {', '.join(self.names())}")


def _is_name(name: object) -> bool:
    """Whether something can be a name, and not a path or a reference."""
    return isinstance(name, str) and bool(name) and set(name).isdisjoint(":/\\ \t\n")


def _same(a: Any, b: Any) -> bool:
    """True if these are one definition, run again: a reloaded module, a cell run twice."""
    names = [(getattr(x, "__module__", None), getattr(x, "__qualname__", None)) for x in (a, b)]
    return names[0] == names[1] and None not in names[0]


# Names of our algorithms, and of their classes.
OURS = {
    "maml": "MAML",
    "anil": "ANIL",
    "boil": "BOIL",
    "reptile": "Reptile",
    "meta-sgd": "MetaSGD",
    "maml++": "MAMLPlusPlus",
    "imaml": "IMAML",
    "protonet": "ProtoNet",
    "fine-tune": "FineTune",
}

ALGORITHMS = Registry(
    "algorithms", {name: f"innerloop.algorithms:{cls}" for name, cls in OURS.items()}
)
# The settings that our algorithms take beside those that all of them take.  They stand here as
# well as in the signatures because those need PyTorch; a test compares the two.
_STEPS = {"adapted", "inner_lr", "inner_steps", "inner_reduction", "inner_max_norm"}
_STEPS |= {"inner_optimizer"}
# Settings of the inner optimiser, which go where it goes.
_OF_OPTIMIZER = {"inner_momentum", "inner_weight_decay"}
_MAML = _STEPS | {"first_order", "second_order_from", "derivative"}
TAKEN: dict[str, set[str]] = {
    "maml": _MAML,
    "anil": _MAML,
    "boil": _MAML,
    "reptile": _STEPS | {"inner_batch_size"},
    "meta-sgd": _MAML,
    "maml++": _MAML
    | {"learn_inner_lr", "per_step_norm", "per_step_statistics", "multi_step_loss_until"},
    "imaml": _STEPS | {"regularization", "cg_steps"},
    "protonet": {"distance"},
    "fine-tune": _STEPS,
}
# All of ours take these; an algorithm of a user's own need not.
COMMON = {"bn", "execution", "chunk_size"}
OF_ALGORITHMS = COMMON.union(_OF_OPTIMIZER, {"eval_inner_steps"}, *TAKEN.values())


def not_of(algorithm: str) -> set[str]:
    """The settings that belong to algorithms, but not to this one.

    Args:
        algorithm: a name, or a reference, which is followed.

    Raises:
        UserError: there is no such algorithm, it cannot be imported, or is nothing to call.
    """
    # Steps at test time are an argument of the call, which only ProtoNet makes nothing of.
    steps = {"eval_inner_steps"} if algorithm != "protonet" else set()
    if algorithm in TAKEN:
        taken = TAKEN[algorithm] | COMMON
    else:
        found = find(algorithm) if is_reference(algorithm) else ALGORITHMS.get(algorithm)
        if not callable(found):
            raise UserError(
                f"algorithm {algorithm} must be a class or a function, not {type(found).__name__}"
            )
        taken = arguments_of(found)
    if "inner_optimizer" in taken:
        taken = taken | _OF_OPTIMIZER
    return OF_ALGORITHMS - taken - steps


MODELS = Registry(
    "models",
    {n: f"innerloop.named:{n}" for n in ("conv4", "resnet12", "tutorial_conv", "mlp", "embedding")},
)
DATA = Registry(
    "data",
    {
        "glyphs": "innerloop.named:images",
        "omniglot": "innerloop.named:images",
        "random": "innerloop.named:images",
        "sinusoid": "innerloop.named:sinusoid",
    },
)


@overload
def register_algorithm(
    name: str, algorithm: T, *, recipe: Mapping[str, Any] | None = None
) -> T: ...


@overload
def register_algorithm(
    name: str, algorithm: None = None, *, recipe: Mapping[str, Any] | None = None
) -> Callable[[T], T]: ...


def register_algorithm(
    name: str, algorithm: T | None = None, *, recipe: Mapping[str, Any] | None = None
) -> T | Callable[[T], T]:
    """Give a name to an algorithm, for `TrainConfig.algorithm` and `innerloop train --algorithm`.

    Settings go to the arguments of the same names, of the class and of its bases.  A package
    registers its algorithms for everyone by entry points of the group `innerloop.algorithms`.

    Args:
        name: such as `"my-maml"`.
        algorithm: a subclass of `Algorithm`, or a function from a network (and settings) to one;
            None to decorate.
        recipe: settings that suit it, where the defaults of `TrainConfig` do not.

    Raises:
        UserError: the name is taken.

    Example:
        >>> import innerloop
        >>> @innerloop.register_algorithm("patient-maml", recipe={"inner_lr": 0.001})
        ... class PatientMAML(innerloop.MAML):
        ...     pass
        >>> innerloop.TrainConfig.recipe("patient-maml").inner_lr
        0.001
    """
    return _register(ALGORITHMS, name, algorithm, recipe)


@overload
def register_model(name: str, model: T) -> T: ...


@overload
def register_model(name: str, model: None = None) -> Callable[[T], T]: ...


def register_model(name: str, model: T | None = None) -> T | Callable[[T], T]:
    """Give a name to a network, for `TrainConfig.model` and `innerloop train --model`.

    Entry points: `innerloop.models`.

    Args:
        name: such as `"my-net"`.
        model: a function (or class) that makes the `nn.Module`; None to decorate.  It is called
            with `n_way`, `input_shape` and `seed`, if it has arguments of these names, and with
            those settings of the run that its other arguments name, see
            `docs/en/your-own.md`.

    Raises:
        UserError: the name is taken.
    """
    return _register(MODELS, name, model, None)


@overload
def register_data(name: str, data: T) -> T: ...


@overload
def register_data(name: str, data: None = None) -> Callable[[T], T]: ...


def register_data(name: str, data: T | None = None) -> T | Callable[[T], T]:
    """Give a name to data, for `TrainConfig.data` and `innerloop train --data`.

    Entry points: `innerloop.data`.

    Args:
        name: such as `"my-data"`.
        data: a function that returns classes of examples, such as `innerloop.data.ImageClasses`,
            or a dict of `Tasks` with the keys `"train"` and, where there are such tasks, `"val"`
            and `"test"`; None to decorate.  It is called with those settings of the run that its
            arguments name, as in `register_model`.

    Raises:
        UserError: the name is taken.
    """
    return _register(DATA, name, data, None)


def _register(
    registry: Registry, name: str, value: T | None, recipe: Mapping[str, Any] | None
) -> T | Callable[[T], T]:
    def add(value: T) -> T:
        if not callable(value) or inspect.ismodule(value):
            raise UserError(f"{name!r} must be a class or a function, not {type(value).__name__}")
        registry.add(name, value, recipe)
        return value

    return add if value is None else add(value)


def taken_by_own(*named: tuple[Registry, str]) -> set[str]:
    """The arguments of a user's own code that settings name, by reference or registered."""
    found = set()
    for registry, name in named:
        if is_reference(name):
            found |= arguments_of(find(name))
        elif name in registry and not registry.is_ours(name):
            found |= arguments_of(registry.get(name))
    return found
