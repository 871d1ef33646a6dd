"""What is prepared once for all processes of the tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from innerloop.files import one_at_a_time


def shared_base(factory: pytest.TempPathFactory) -> Path:
    """The folder of this session that its processes share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first process fills, by `make(folder)`, while the others wait for it.

    Where `make` raises an error, the next process that needs the folder tries again.
    """
    base = shared_base(factory)
    folder = base / name
    with one_at_a_time(base / f"{name}.lock"):
        if not folder.exists():
            # Under a name of each process: what an error leaves behind is in nobody's way.
            unfinished = factory.mktemp(name)
            make(unfinished)
            unfinished.rename(folder)
    return folder
