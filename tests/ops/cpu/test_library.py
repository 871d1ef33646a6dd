"""Which library is loaded."""

import contextlib
import ctypes
import functools
import platform
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
import torch

from innerloop import ops
from innerloop.ops import kernels
from innerloop.ops.cpu import library
from tests.ops.arrays import packed
from tests.ops.conftest import BUILDS


def test_compiled_where_there_is_a_compiler():
    ours = platform.machine() in ("x86_64", "AMD64") and sys.platform == "linux"
    if not (ours and shutil.which("gcc")):
        pytest.skip("no compiler for which the kernels are written")
    assert BUILDS
    assert library.load() is not None


@pytest.mark.parametrize("flags", [["-mavx512f", "-mavx2", "-mfma"], ["-mavx2", "-mfma"]])
def test_no_array_of_a_users_size_is_on_the_stack(flags):
    """Compilers have no other warnings about the sources either."""
    compiler = shutil.which("gcc")
    if compiler is None or platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("no compiler for which the kernels are written")
    source = Path(library.__file__).with_name("kernels.c")
    warnings = ["-Wall", "-Wextra", "-Wvla", "-Walloca", "-Werror"]
    command = [compiler, "-O1", "-fopenmp", "-fsyntax-only", *flags, *warnings, str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


OURS = [
    library.VERSION,
    *map(ctypes.sizeof, (library.Conv, library.Norm, library.Attention, library.Source)),
]


def describing(numbers, threads=True):
    """Source of a library that reports these numbers; of an old one, without numbers, if None."""
    if numbers is None:
        return "int conv_forward_float32(void) { return 0; }"
    lines = "".join(f"out[{i}] = {n}; " for i, n in enumerate(numbers))
    threads_too = f"int have_threads(void) {{ return {threads:d}; }}"
    return f"void describe_kernels(int *out) {{ {lines}}} {threads_too}"


@pytest.fixture
def built(tmp_path, monkeypatch, request):
    """Load what is compiled from a source instead of the kernels."""
    compiler = shutil.which("gcc")
    if compiler is None or torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("no compiler, or no processor for the kernels")
    source = tmp_path / "kernels.c"
    source.write_text(request.param)
    file = tmp_path / f"_generic{EXTENSION_SUFFIXES[0]}"
    subprocess.run([compiler, "-shared", "-fPIC", str(source), "-o", str(file)], check=True)
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    monkeypatch.setattr(library, "load", functools.cache(library.load.__wrapped__))
    return file


@pytest.mark.parametrize("built", [describing(OURS)], indirect=True)
def test_a_library_of_our_version_is_taken(built):
    assert library.load()._name == str(built)


@pytest.mark.parametrize("built", [describing(OURS, threads=False)], indirect=True)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_library_without_threads_is_taken_and_says_so(built, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    said = pytest.warns(RuntimeWarning, match="one thread of 2.*INNERLOOP_KERNELS=0")
    with said if threads > 1 else contextlib.nullcontext():
        assert library.load()._name == str(built)


@pytest.mark.parametrize(
    "built",
    [
        describing(None),
        *(describing([n + (i == k) for i, n in enumerate(OURS)]) for k in range(len(OURS))),
    ],
    ids=["before versions", "version", "Conv", "Norm", "Attention", "Source"],
    indirect=True,
)
def test_a_library_of_other_sources_is_refused_with_one_warning(built):
    x, w, one = packed(2, 16, 6, 6, dtype=torch.float32), torch.ones(16, 16, 3, 3), torch.ones(16)

    def block():
        return ops.conv_block(x, w, one, one, 1e-5, stride=1, padding=1, pool=True, slope=0.0)

    with kernels.without():
        expected = block()
    with pytest.warns(RuntimeWarning, match="Reinstall innerloop") as warned:
        assert torch.equal(block(), expected)
    assert str(built) in str(warned[0].message)
    assert len(warned) == 1
    # From then on there is no further warning.
    assert torch.equal(block(), expected)
    assert not kernels.ready()


def test_the_structures_are_those_of_the_library(compiled):
    """Also where no build is loaded for this processor."""
    found = (ctypes.c_int * len(OURS))()
    compiled.describe_kernels(found)
    assert list(found) == OURS
