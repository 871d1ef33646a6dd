"""Which library is loaded."""

import platform
import shutil
import sys

import pytest

from innerloop.ops.cpu import library
from tests.ops.conftest import BUILDS


def test_compiled_where_there_is_a_compiler():
    ours = platform.machine() in ("x86_64", "AMD64") and sys.platform == "linux"
    if not (ours and shutil.which("gcc")):
        pytest.skip("no compiler for which the kernels are written")
    assert BUILDS
    assert library.load() is not None
