"""examples/own_data.py learns to learn."""

from __future__ import annotations

import runpy
from pathlib import Path

FILE = Path(__file__).parents[2] / "examples" / "own_data.py"


def test_it_learns():
    before, after = runpy.run_path(str(FILE))["main"](iterations=60, tasks=60)
    assert after > before + 0.05
    assert after > 0.5
