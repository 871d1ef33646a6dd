"""Every build of the kernels in turn."""

import ctypes
from pathlib import Path

import pytest
import torch

from innerloop.ops import kernels
from innerloop.ops.cpu import library

BUILDS = sorted(Path(kernels.__file__).parent.joinpath("cpu").glob("_*.so"))


@pytest.fixture(params=[*BUILDS, Path("gpu.py")], ids=lambda path: path.name.split(".")[0])
def build(request, monkeypatch):
    """One build after the other takes the place of the one that would be chosen.

    The last are the operations for a GPU, which a CPU can do as well.
    """
    if request.param.suffix == ".py":
        monkeypatch.setattr(kernels, "_on_gpu", lambda x: True)
        return
    if "avx512" in request.param.name and torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("this processor has no AVX-512")
    loaded = ctypes.CDLL(str(request.param))
    monkeypatch.setattr(library, "load", lambda: loaded)
