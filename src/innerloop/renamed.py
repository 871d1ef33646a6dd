"""The import paths of version 0.1.0.  They still work, and each warns with the new path.

`install` puts a finder before Python's own.  It handles the names in `MODULES` only, so that
`import innerloop.trainer` and `from innerloop.trainer import train` work as before.  Packages look
up their old names with `forward`.  Each old name warns once, at the line that uses it.

`import innerloop` loads this module: it must import nothing slow.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType
from typing import Any

# Old module: the modules that have its names now.  If there is one, the old name is that same
# module object; if there are several, it is a module that looks names up in them.
MODULES: dict[str, tuple[str, ...]] = {
    "innerloop.allocator": ("innerloop.ops.allocator",),
    "innerloop.checkpoint": ("innerloop.runs.checkpoint",),
    "innerloop.comparison": ("innerloop.plots.comparison",),
    "innerloop.counter": ("innerloop.tasks.counter",),
    "innerloop.data.sinusoid": ("innerloop.tasks.sinusoid",),
    "innerloop.distributed": ("innerloop.training.distributed",),
    "innerloop.episodes": ("innerloop.tasks.episodes",),
    "innerloop.fused": ("innerloop.ops.autograd",),
    "innerloop.fused.block": ("innerloop.ops.dispatch",),
    "innerloop.fused.convolution": ("innerloop.ops.autograd.convolution",),
    "innerloop.fused.layout": ("innerloop.ops.kernels",),
    "innerloop.fused.norm": ("innerloop.ops.autograd.norm",),
    "innerloop.kernels": ("innerloop.ops.kernels",),
    "innerloop.kernels.gpu": ("innerloop.ops.gpu.operators",),
    "innerloop.kernels.norm_tiles": ("innerloop.ops.gpu.norm_tiles",),
    "innerloop.kernels.tiles": ("innerloop.ops.gpu.tiles",),
    "innerloop.loading": ("innerloop.runs.loading",),
    "innerloop.precision": ("innerloop.ops.precision",),
    "innerloop.recorded": ("innerloop.training.recorded",),
    "innerloop.report": ("innerloop.training.report",),
    "innerloop.run_folder": ("innerloop.runs.folder",),
    "innerloop.sampler": ("innerloop.tasks.sampler", "innerloop.tasks.protocol"),
    "innerloop.tensorboard": ("innerloop.training.tensorboard",),
    "innerloop.trainer": (
        "innerloop.training.run",
        "innerloop.training.fit",
        "innerloop.training.loop",
        "innerloop.training.signals",
    ),
}

# Modules that became packages, or gave names away: where each old name is now.  (The package
# `innerloop.ops` still exports all of its names itself.)
NAMES: dict[str, dict[str, str]] = {
    "innerloop.build": {"build_data": "innerloop.sources"},
    "innerloop.models.layers": {
        "check_batch_norm": "innerloop.models.norms",
        "replace_batch_norm": "innerloop.models",
    },
    "innerloop.plots": {
        **dict.fromkeys(
            "BLUE GREEN GREY ORANGE RED draw_episode draw_wave plot_run save".split(),
            "innerloop.plots.figures",
        ),
        "plot_adaptation": "innerloop.plots.adaptation",
    },
    "innerloop.runs": dict.fromkeys(
        "DEPTH find_runs read_metrics read_results summary".split(), "innerloop.runs.listing"
    ),
}

# Modules whose own `__getattr__` calls that of `forward`.
_ROOTS = ("innerloop", "innerloop.data", "innerloop.models.layers")

# Frames of these files lie between the user's line and the warning.
_BETWEEN = (__file__, importlib.__file__, "<frozen importlib._bootstrap>")


def install() -> None:
    """Let Python's `import` find the old modules."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        # First in the list: an updated checkout may still have folders such as `kernels/`, with
        # compiled files, and Python's finder would make namespace packages of them.
        sys.meta_path.insert(0, _Finder())


def forward(package: str) -> Callable[[str], Any]:
    """The `__getattr__` of a package with old submodules or old names."""

    def __getattr__(name: str) -> Any:
        old = f"{package}.{name}"
        if old in MODULES:
            return importlib.import_module(old)
        if home := NAMES.get(package, {}).get(name):
            _warn(old, f"{home}.{name}")
            value = getattr(importlib.import_module(home), name)
            setattr(sys.modules[package], name, value)
            return value
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return __getattr__


class _Finder:
    """Finds old modules and loads the new ones instead."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in MODULES:
            return None
        return ModuleSpec(name, self, is_package=_children(name))  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """A `_Moved` where names come from several modules; None lets Python make any module."""
        several = len(MODULES[spec.name]) > 1 or _children(spec.name)
        return _Moved(spec.name) if several else None

    def exec_module(self, module: ModuleType) -> None:
        homes = MODULES[module.__name__]
        _warn(module.__name__, " and ".join(homes))
        found = [importlib.import_module(home) for home in homes]
        if isinstance(module, _Moved):
            module.homes = found
            module.__all__ = sorted({name for home in found for name in _public(home)})
        else:
            # The import system returns what it finds here afterwards.
            sys.modules[module.__name__] = found[0]


class _Moved(ModuleType):
    """An old module that had submodules, or whose names are in several modules now."""

    homes: list[ModuleType]
    __all__: list[str]

    def __getattr__(self, name: str) -> Any:
        if f"{self.__name__}.{name}" in MODULES:
            return importlib.import_module(f"{self.__name__}.{name}")
        if not name.startswith("__"):
            for home in self.homes:
                if hasattr(home, name):
                    return getattr(home, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return self.__all__


def _children(name: str) -> bool:
    return any(other.startswith(f"{name}.") for other in MODULES)


def _public(module: ModuleType) -> list[str]:
    return getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])


def _warn(old: str, new: str) -> None:
    """Warn at the user's line: skip the frames of the import system and of this package."""
    frame = sys._getframe(1)
    while (caller := frame.f_back) and _is_between(frame):
        frame = caller
    # `warnings.warn` counts frames differently when imports are among them.
    warnings.warn_explicit(
        f"{old} has moved: use {new} instead",
        DeprecationWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        frame.f_globals.get("__name__", "<unknown>"),
        frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _is_between(frame: FrameType) -> bool:
    return frame.f_code.co_filename in _BETWEEN or frame.f_globals.get("__name__") in _ROOTS
