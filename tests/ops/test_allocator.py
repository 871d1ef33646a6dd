"""Whether the C library keeps freed memory."""

import subprocess
import sys

import pytest

from innerloop.ops import allocator


def test_glibc_takes_the_settings():
    """In a process of its own, because the settings affect a whole process."""
    code = """
import ctypes
from innerloop.ops.allocator import keep_memory
print(keep_memory() == (getattr(ctypes.CDLL(None), "mallopt", None) is not None))
"""
    if sys.platform != "linux":
        pytest.skip("the settings are those of glibc")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["True"], done.stderr


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_there_are_no_such_settings(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    assert not allocator.keep_memory()
