"""Every build of the kernels in turn."""

import ctypes
from pathlib import Path

import pytest
import torch

from innerloop.ops import kernels
from innerloop.ops.cpu import library

BUILDS = [file for name in ("avx512", "generic", "neon") if (file := library.file_of(name))]


def _take(file, monkeypatch):
    """This build takes the place of the one that would be chosen."""
    if "avx512" in file.name and torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("this processor has no AVX-512")
    loaded = ctypes.CDLL(str(file))
    monkeypatch.setattr(library, "load", lambda: loaded)
    return loaded


def _name(file):
    return file.name.split(".")[0]


@pytest.fixture(params=BUILDS, ids=_name)
def compiled(request, monkeypatch):
    """One build after the other."""
    return _take(request.param, monkeypatch)


GPU = Path("gpu.py")


def _take_any(file, monkeypatch):
    """The same, or the operations for a GPU, which a CPU can do as well."""
    if file == GPU:
        monkeypatch.setattr(kernels, "_on_gpu", lambda x: True)
    else:
        _take(file, monkeypatch)


@pytest.fixture(params=[*BUILDS, GPU], ids=_name)
def build(request, monkeypatch):
    """One build after the other, and last the operations for a GPU."""
    _take_any(request.param, monkeypatch)


@pytest.fixture(
    params=[*((file, threads) for file in BUILDS for threads in (1, 2, 8)), (GPU, 1)],
    ids=lambda param: f"{_name(param[0])}-{param[1]}",
)
def threads_of_build(request, monkeypatch):
    """The same, each build with several numbers of threads."""
    file, threads = request.param
    _take_any(file, monkeypatch)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    yield
    torch.set_num_threads(before)
