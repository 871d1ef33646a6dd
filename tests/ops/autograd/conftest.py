"""The operations on the kernels for a CPU, then on those for a GPU, which a CPU can run."""

import pytest
import torch

from innerloop.ops import kernels


@pytest.fixture(params=["compiled", "as on a GPU"], autouse=True)
def device(request, monkeypatch):
    if not kernels.serve(torch.zeros(1), 16):
        pytest.skip("the kernels are not compiled here")
    if request.param != "compiled":
        monkeypatch.setattr(kernels, "_on_gpu", lambda x: True)
