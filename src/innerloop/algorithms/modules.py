"""What is said of a module and its layers, in files and reports."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from innerloop.algorithms import noise
from innerloop.errors import UserError

# What differs between processes: where an object lies in memory, and what a module of a file is
# called, which may also be run itself.
_OF_PROCESS = re.compile(r" at 0x[0-9a-fA-F]+|\b(?:__main__|innerloop_file_.*?_[0-9a-f]{8})\.")


def layers_of(model: nn.Module) -> dict[str, str]:
    """What each module below `model` is, by name, as far as that can be told without calling it."""
    return {name: _layer(module) for name, module in model.named_modules() if name}


def text_of(value: Any) -> str:
    """What an object prints of itself, without what differs between processes."""
    return _OF_PROCESS.sub("", str(value))


def name_in_code(value: Any) -> str:
    """What a class or function is called, with its module."""
    module, name = getattr(value, "__module__", ""), getattr(value, "__qualname__", repr(value))
    # The same file, run and imported, has two names.
    return (
        name if (module or "").startswith(("__main__", "innerloop_file_")) else f"{module}.{name}"
    )


def check_script(model: nn.Module) -> None:
    """Raise a `UserError` for TorchScript whose weights or buffers a copy cannot replace.

    It keeps them where only its own code finds them, so it has to be known before it is called.
    """
    for name, module in model.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            continue
        part = f"{name!r} of the network" if name else "the network"
        if any(p.requires_grad for p in module.parameters()):
            raise UserError(
                f"{part} is TorchScript, which has its weights for good: give the "
                "torch.nn.Module that it was made from, and fill it by load_state_dict"
            )
        if module.training and any(True for _ in module.buffers()):
            raise UserError(
                f"{part} is TorchScript in training mode, which writes to its buffers: call "
                "eval() on it first"
            )


def changing(model: nn.Module) -> list[str]:
    """Where a forward pass may find iterators, which cannot be copied, and global generators."""
    found = []
    for prefix, module in model.named_modules():
        start = f"{prefix}." if prefix else ""
        held = {**vars(type(module)), **vars(module)}
        found += [start + name for name, value in held.items() if isinstance(value, Iterator)]
        code = getattr(type(module).forward, "__code__", None)
        for name in code.co_names if code else ():
            value = type(module).forward.__globals__.get(name)
            if isinstance(value, Iterator | noise.OwnGenerator):
                found.append(f"the global variable {name}")
    return list(dict.fromkeys(found))


def needs_more(model: nn.Module) -> str | None:
    """That `forward` cannot be called with the examples alone; None if it can."""
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # it is not Python's
        return None
    try:
        signature.bind(None)
    except TypeError:
        return (
            f"forward of {type(model).__name__} takes {signature}, and a network is called with "
            "the examples alone: give the other arguments defaults, or wrap the network in a "
            "module whose forward takes the examples and makes the rest of them"
        )
    return None


def _layer(module: nn.Module) -> str:
    """Its class, and of PyTorch's own what they print of themselves, such as a slope or a rate."""
    known = type(module).__module__.startswith("torch.nn.")
    return f"{name_in_code(type(module))}({module.extra_repr() if known else ''})"
