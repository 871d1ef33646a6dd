"""The precision of matrix products on a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from innerloop.errors import UserError, one_of
from innerloop.ops.gpu.operators import half_products

PRECISIONS = ("float32", "tf32", "bf16")


@contextlib.contextmanager
def products(precision: str, device: str | torch.device) -> Iterator[None]:
    """Use this precision for products on a GPU within this context.

    Args:
        precision: `"float32"`; `"tf32"`, factors rounded to 10 bits after the point; `"bf16"`,
            factors and results of the convolutions of our layers rounded to 7 bits.  Sums are
            float32 in all cases.
        device: where products are computed.

    Raises:
        UserError: another precision, or one that there is on a GPU alone.
    """
    one_of(PRECISIONS, precision=precision)
    if not str(device).startswith("cuda"):
        if precision != "float32":
            raise UserError(f"precision {precision} needs device cuda; elsewhere it is float32")
        yield
        return
    before = _tf32()
    _set_tf32((precision == "tf32", precision == "tf32"))
    try:
        with half_products() if precision == "bf16" else contextlib.nullcontext():
            yield
    finally:
        _set_tf32(before)


# Since PyTorch 2.9 these settings have other names, and the old ones do not mix with them.
_NEW = hasattr(torch.backends.cuda.matmul, "fp32_precision")


def _settings() -> tuple[Any, Any]:
    backends: Any = torch.backends
    return backends.cuda.matmul, backends.cudnn.conv


def _tf32() -> tuple[Any, Any]:
    """Of matrix products, and of PyTorch's own convolutions."""
    if _NEW:
        matmul, convolution = _settings()
        return matmul.fp32_precision, convolution.fp32_precision
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def _set_tf32(values: tuple[Any, Any]) -> None:
    if _NEW:
        words = {True: "tf32", False: "ieee"}
        for setting, value in zip(_settings(), values, strict=True):
            setting.fp32_precision = words.get(value, value)
    else:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = values
