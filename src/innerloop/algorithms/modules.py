"""What can be told of a module by its classes, its hooks and its attributes, without calling it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from innerloop.algorithms.skeleton import HOOKS
from innerloop.models.layers import BatchNorm, SharedHead


def is_own(module: nn.Module) -> bool:
    """True if all of `module` is of this package, untouched: then a forward pass is a function."""
    return all(is_untouched(m) and _package(type(m)) for m in module.modules())


def _package(kind: type) -> bool:
    return kind is nn.ModuleList or kind.__module__.startswith("innerloop.models.")


def count_hooks(module: nn.Module) -> int:
    """Of all modules, with every `forward` that was put on an object."""
    found = [vars(m) for m in module.modules()]
    return sum(len(state[name]) for state in found for name in HOOKS) + sum(
        "forward" in state for state in found
    )


def is_untouched(module: nn.Module) -> bool:
    """True if `module` does what its class says: no hooks, no `forward` of its own."""
    everywhere = torch.nn.modules.module
    hooks = [vars(module)[name] for name in HOOKS]
    hooks += [getattr(everywhere, f"_global{name}", {}) for name in HOOKS]
    return not any(hooks) and not {"forward", "features"} & vars(module).keys()


# Layers that treat every number by itself, and those that only hold others.
_INDIFFERENT = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid),
    *(nn.Softplus, nn.Hardtanh, nn.Identity, nn.Dropout),
    *(nn.Sequential, nn.ModuleList, nn.ModuleDict),
)


def takes_tasks(model: nn.Module) -> bool:
    """True if `model` takes inputs `[T, B, ...]` with all parameters `[T, ...]`.

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
    # The weights of a layer have an axis of tasks, or none of them has.
    layer = isinstance(module, nn.Conv2d | nn.Linear | BatchNorm | SharedHead)
    if layer and not all(p.requires_grad for p in module.parameters(recurse=False)):
        return False
    for cls in kind.__mro__:
        if "takes_tasks" in vars(cls):
            return bool(cls.takes_tasks)  # type: ignore[attr-defined]
        if {"forward", "features"} & vars(cls).keys():
            return False
    return False


def layers_of(model: nn.Module) -> dict[str, str]:
    """What each module below `model` is, by name, as far as that can be told without calling it."""
    return {name: _layer(module) for name, module in model.named_modules() if name}


def name_in_code(value: Any) -> str:
    """What a class or function is called, with its module."""
    module, name = getattr(value, "__module__", ""), getattr(value, "__qualname__", repr(value))
    # The same file, run and imported, has two names.
    return (
        name if (module or "").startswith(("__main__", "innerloop_file_")) else f"{module}.{name}"
    )


def _layer(module: nn.Module) -> str:
    """Its class, and of PyTorch's own what they print of themselves, such as a slope or a rate."""
    known = type(module).__module__.startswith("torch.nn.")
    return f"{name_in_code(type(module))}({module.extra_repr() if known else ''})"
