"""What is published is built from the sources alone, and has what it needs and no more."""

from __future__ import annotations

import re
import shutil
import zipfile

import pytest
from tools import wheels


def test_a_wheel_above_the_limit_is_named_with_its_size(tmp_path, monkeypatch):
    wheel = tmp_path / "innerloop-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("innerloop/weights.bin", bytes(2_000))
    monkeypatch.setattr(wheels, "LARGEST", 2_000)
    with pytest.raises(SystemExit, match=re.escape(f"{wheel.name} has 2,1")):
        wheels.check_contents(wheel, [])


def test_what_an_earlier_build_left_is_in_no_wheel(tmp_path, monkeypatch):
    """Modules that are there no more, and kernels compiled for another system."""
    root = wheels.ROOT
    monkeypatch.setattr(wheels, "ROOT", tmp_path)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(root / name, tmp_path)
    for folder in ("src/innerloop", "build/lib/innerloop"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "src/innerloop/__init__.py").write_text("")
    (tmp_path / "build/lib/innerloop/removed.py").write_text("")

    names = zipfile.ZipFile(wheels.build(tmp_path / "out", "wheel", False)).namelist()
    assert "innerloop/__init__.py" in names
    assert "innerloop/removed.py" not in names
