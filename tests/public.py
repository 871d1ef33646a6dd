"""What is public: the names in `__all__` of the package and of its public modules."""

from __future__ import annotations

import inspect
from typing import Any

import innerloop
from innerloop.data import augment

MODULES = [
    innerloop,
    *(m for name in innerloop.__all__ if inspect.ismodule(m := getattr(innerloop, name))),
    augment,
]
PUBLIC: dict[str, Any] = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in MODULES
    for name in module.__all__
    if not name.startswith("_")
}
