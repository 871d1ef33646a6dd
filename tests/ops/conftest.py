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


@pytest.fixture(params=[*BUILDS, Path("gpu.py")], ids=_name)
def build(request, monkeypatch):
    """The same, and last the operations for a GPU, which a CPU can do as well."""
    if request.param.suffix == ".py":
        monkeypatch.setattr(kernels, "_on_gpu", lambda x: True)
    else:
        _take(request.param, monkeypatch)
