"""The files of the package that one meta-gradient runs through: `python -m tools.crossed_files`.

Of Python; what it runs of `ops/cpu` in C is named by the last of them.
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


def crossed(model: nn.Module) -> list[str]:
    """The files below the package with a function that a meta-gradient calls, sorted."""
    maml = MAML(model, 0.1, 2)
    x, y = torch.randn(2, 10, 1, 28, 28), torch.arange(10).repeat(2, 1) % 5
    params, episodes = maml.init_params(), Episodes(x, y, x, y)
    # The first call also does what is done only once; it is not counted.
    maml.meta_gradient(params, episodes)
    files = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(ROOT):
            files.add(os.path.relpath(name, ROOT))

    sys.setprofile(note)
    try:
        maml.meta_gradient(params, episodes)
    finally:
        sys.setprofile(None)
    return sorted(files)


def main() -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.Tanh(), nn.Linear(32, 5))
    for name, model in {"a plain network": plain, "Conv4": Conv4(5, head="random")}.items():
        files = crossed(model)
        print(f"{name}: {len(files)} files")
        print("".join(f"  {file}\n" for file in files), end="")


if __name__ == "__main__":
    main()
