"""How PyTorch's operators are used on a GPU; the rest is in test_kernels.py, on a CPU."""

import pytest
import torch

from innerloop.ops.gpu import operators as gpu
from innerloop.ops.precision import products


def test_factors_and_results_are_rounded_but_not_double_precision():
    a, b = torch.full((1, 1, 4101), 1.001), torch.ones(1, 4101, 1)
    with products("bf16", "cuda"):
        rounded = gpu._product(a, b)
        exact = gpu._product(a.double(), b.double())
    # 1.001 is 1 in bfloat16, and after 4096 comes 4128.
    assert rounded.item() == 4096
    assert rounded.dtype == torch.float32
    assert exact.item() == pytest.approx(4105.101, abs=1e-3)
