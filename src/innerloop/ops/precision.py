"""The precision of matrix products."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from innerloop.errors import UserError, one_of
from innerloop.ops import kernels
from innerloop.ops.cpu import shapes
from innerloop.ops.gpu import operators

PRECISIONS = ("float32", "tf32", "bf16")


@contextlib.contextmanager
def products(precision: str, device: str | torch.device) -> Iterator[None]:
    """Use this precision for products within this context.

    Args:
        precision: `"float32"`; `"tf32"`, on a GPU alone: factors rounded to 10 bits after the
            point; `"bf16"`: factors in the convolutions of the kernels rounded to 7 bits, on a GPU
            their results, too, on a CPU but where Winograd's way is as fast without
            (`winograd.inc`).  Sums are float32 in all cases.
        device: where products are computed.

    Raises:
        UserError: another precision, or one that there is not here: on a CPU there is `"bf16"`
            where the processor multiplies such numbers (AVX512-BF16) and the kernels are compiled.
    """
    one_of(PRECISIONS, precision=precision)
    if not str(device).startswith("cuda"):
        if precision == "tf32":
            raise UserError("precision tf32 needs device cuda; elsewhere use float32")
        if precision == "bf16" and not (str(device).startswith("cpu") and kernels.halves()):
            raise UserError(
                "precision bf16 needs device cuda, or on a CPU the compiled kernels and a "
                "processor with AVX512-BF16, which are not here: use float32"
            )
        with shapes.half_products() if precision == "bf16" else contextlib.nullcontext():
            yield
        return
    before = _tf32()
    _set_tf32((precision == "tf32", precision == "tf32"))
    try:
        with operators.half_products() if precision == "bf16" else contextlib.nullcontext():
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
