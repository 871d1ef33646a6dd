"""Which library is loaded."""

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from innerloop.ops.cpu import library
from tests.ops.conftest import BUILDS


def test_compiled_where_there_is_a_compiler():
    ours = platform.machine() in ("x86_64", "AMD64") and sys.platform == "linux"
    if not (ours and shutil.which("gcc")):
        pytest.skip("no compiler for which the kernels are written")
    assert BUILDS
    assert library.load() is not None


@pytest.mark.parametrize("flags", [["-mavx512f", "-mavx2", "-mfma"], ["-mavx2", "-mfma"]])
def test_no_array_of_a_users_size_is_on_the_stack(flags):
    """Nor is there anything else in the sources that a compiler warns of."""
    compiler = shutil.which("gcc")
    if compiler is None or platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("no compiler for which the kernels are written")
    source = Path(library.__file__).with_name("kernels.c")
    warnings = ["-Wall", "-Wextra", "-Wvla", "-Walloca", "-Werror"]
    command = [compiler, "-O1", "-fopenmp", "-fsyntax-only", *flags, *warnings, str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
