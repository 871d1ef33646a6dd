"""The precision of products on a GPU; test_gpu.py tests the results there."""

import pytest

from innerloop import UserError
from innerloop.ops.gpu import operators as gpu
from innerloop.ops.precision import _tf32, products


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_there_is_one_on_a_cpu(precision):
    with (
        pytest.raises(UserError, match=f"precision {precision} needs device cuda"),
        products(precision, "cpu"),
    ):
        pass
    with products("float32", "cpu"):
        assert not gpu._half


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
