"""What is said of a module and its layers, in files and reports."""

from __future__ import annotations

from typing import Any

from torch import nn


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
