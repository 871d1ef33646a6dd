"""The precision of products; test_gpu.py tests the results on a GPU."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from innerloop import UserError
from innerloop.ops import kernels
from innerloop.ops.cpu import binding
from innerloop.ops.gpu import operators as gpu
from innerloop.ops.precision import _tf32, products


def test_some_are_not_on_a_cpu(monkeypatch):
    with pytest.raises(UserError, match="tf32 needs device cuda"), products("tf32", "cpu"):
        pass
    monkeypatch.setattr(kernels, "halves", lambda: False)
    with pytest.raises(UserError, match="AVX512-BF16"), products("bf16", "cpu"):
        pass
    monkeypatch.setattr(kernels, "halves", lambda: True)
    with pytest.raises(UserError, match="AVX512-BF16"), products("bf16", "mps"):
        pass
    with products("float32", "cpu"):
        assert not gpu._half


def test_half_precision_on_a_cpu_is_for_the_thread_that_asks(halves):
    x, w = torch.randn(2, 5, 6, 6, 16), torch.randn(2, 3, 3, 16, 32)

    def convolution(x, w):
        return binding.conv_forward(x, w, 2, 1)

    exact = convolution(x, w)
    with products("bf16", "cpu"):
        rounded, double = convolution(x, w), convolution(x.double(), w.double())
        with ThreadPoolExecutor() as pool:
            assert torch.equal(pool.submit(convolution, x, w).result(), exact)
    torch.testing.assert_close(rounded, convolution(x.bfloat16().float(), w.bfloat16().float()))
    assert not torch.equal(rounded, exact)
    # Only single precision is rounded.
    torch.testing.assert_close(double, convolution(x.double(), w.double()), rtol=0, atol=0)
    assert torch.equal(convolution(x, w), exact)


def test_none_without_kernels():
    with kernels.without():
        assert not kernels.halves()


def test_unknown_ones_are_refused():
    with pytest.raises(UserError, match="precision must be one of"), products("fp8", "cuda"):
        pass


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_settings_are_put_back(precision):
    """The settings exist without a GPU as well."""
    before = _tf32()
    with products(precision, "cuda"):
        assert gpu._half == (precision == "bf16")
        wanted = "tf32" if precision == "tf32" else "ieee"
        # In words, or before PyTorch 2.9 yes or no.
        assert _tf32() in ((wanted, wanted), (precision == "tf32", precision == "tf32"))
    assert _tf32() == before
    with pytest.raises(ZeroDivisionError), products(precision, "cuda"):
        1 / 0  # noqa: B018
    assert _tf32() == before
    assert not gpu._half
