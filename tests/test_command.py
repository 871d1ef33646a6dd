"""Ctrl-C while the command loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import innerloop

# Python runs it before anything else: presses Ctrl-C when the module is imported, and what the
# module raises then is another error, as NumPy's is.
PRESS = """
import importlib.abc, os, signal, sys

class Press(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            sys.meta_path.remove(self)
            {press}

sys.meta_path.insert(0, Press())
# Ignored in the background of a shell, which tests may run in.
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
QUIETLY = "os.kill(os.getpid(), signal.SIGINT)"
BROKEN = f"""
            try:
                {QUIETLY}
            except KeyboardInterrupt:
                raise AttributeError("half a module") from None
"""
# The package says of it what a user can do.
SAID = BROKEN.replace(
    'AttributeError("half a module")',
    '__import__("innerloop.errors").errors.UserError("install a package")',
)


def run(folder: Path, name: str, press: str) -> tuple[int, str]:
    (folder / "sitecustomize.py").write_text(PRESS.format(name=name, press=press))
    source = str(Path(innerloop.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "innerloop", "data", "info", "glyphs"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), source])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("press", [QUIETLY, BROKEN, SAID], ids=["quietly", "broken", "said"])
@pytest.mark.parametrize("name", ["innerloop.cli", "innerloop.errors", "tyro", "numpy"])
def test_ctrl_c_while_the_command_loads_is_no_traceback(tmp_path, name, press):
    assert run(tmp_path, name, press) == (130, "interrupted\n")


def test_an_error_without_ctrl_c_is_shown(tmp_path):
    status, said = run(tmp_path, "numpy", 'raise AttributeError("half a module")')
    assert status == 1
    assert "half a module" in said
