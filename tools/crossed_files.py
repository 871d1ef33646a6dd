"""The files that one meta-gradient runs through, in order: `python -m tools.crossed_files`.

With the functions that it calls in each. Of Python; what runs in C is called by
`ops/cpu/binding.py`.
"""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import Any

import torch
from torch import nn

import innerloop
from innerloop import MAML, Episodes
from innerloop.models import Conv4

ROOT = os.path.dirname(innerloop.__file__)


def networks() -> dict[str, nn.Module]:
    """One of this package, and one as a user writes it."""
    own = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16, track_running_stats=False)),
        *(nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 14 * 14, 5)),
    )
    return {"Conv4": Conv4(5), "a network of torch.nn": own}


def crossed(model: nn.Module) -> dict[str, list[str]]:
    """The functions that a meta-gradient calls, by file below the package, in order.

    Args:
        model: of 28 x 28 images to five classes.
    """
    maml = MAML(model, 0.1, 2)
    x, y = torch.randn(2, 10, 1, 28, 28), torch.arange(10).repeat(2, 1) % 5
    params, episodes = maml.init_params(), Episodes(x, y, x, y)
    # The first call also does what is done only once; it is not counted.
    maml.meta_gradient(params, episodes)
    files: dict[str, list[str]] = {}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(ROOT):
            return
        functions = files.setdefault(os.path.relpath(code.co_filename, ROOT), [])
        if not code.co_name.startswith("<") and code.co_name not in functions:
            functions.append(code.co_name)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        maml.meta_gradient(params, episodes)
    finally:
        sys.setprofile(before)
    return files


def main() -> None:
    for name, model in networks().items():
        files = crossed(model)
        print(f"{name}: {len(files)} files")
        for file, functions in files.items():
            print(f"  {file}: {', '.join(functions)}")


if __name__ == "__main__":
    main()
