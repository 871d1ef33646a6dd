"""The Triton kernels against PyTorch's operators.

On a GPU; or without one in Triton's interpreter, where Triton is installed:
`TRITON_INTERPRET=1 python -m pytest tests/ops/gpu`.
"""

import os

import pytest
import torch

from innerloop.ops.gpu import operators as gpu

triton = pytest.importorskip("triton", reason="Triton is not installed: it comes with CUDA builds")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not (INTERPRETED or torch.cuda.is_available()):
    pytest.skip("there is no GPU here", allow_module_level=True)
from innerloop.ops.gpu import tiles  # noqa: E402

pytestmark = pytest.mark.gpu
DEVICE = "cpu" if INTERPRETED else "cuda"
# tasks, images, height, width, channels, kernel, stride, padding
SHAPES = [
    (3, 2, 7, 5, 16, 3, 2, 1),
    (1, 2, 9, 8, 32, 3, 2, 2),
    (2, 5, 15, 15, 64, 3, 1, 1),
    (2, 3, 6, 6, 48, 1, 1, 0),
]


@pytest.fixture(autouse=True)
def _operators(monkeypatch):
    """What gpu.py does is done by PyTorch's operators."""
    monkeypatch.setattr(gpu, "_tiles", lambda device: None)


def rand(*shape, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, dtype=dtype, generator=generator).to(DEVICE)


def close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        off = 1e-13 if a.dtype == torch.float64 else 1e-5
        scale = b.double().abs().max().clamp(min=1e-6)
        torch.testing.assert_close(a.double() / scale, b.double() / scale, rtol=0, atol=off)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [*SHAPES, (2, 3, 6, 6, 1, 3, 1, 1), (2, 3, 9, 7, 3, 5, 2, 0)])
def test_patches_and_their_sums(shape, dtype):
    *size, k, stride, padding = shape
    how = (k, k), stride, padding
    x = rand(*size, dtype=dtype)
    patches = gpu._patches(x, *how)
    assert torch.equal(tiles.patches(x, *how, dtype), patches)
    if dtype == torch.float32:
        half = tiles.patches(x, *how, torch.bfloat16)
        # The interpreter truncates instead of rounding.
        torch.testing.assert_close(half.float(), patches, rtol=2.0**-7, atol=0)
    taps = rand(*patches.shape, dtype=dtype)
    back = gpu._fold(taps, tuple(size[2:4]), *how)
    close([tiles.fold(taps, tuple(size), *how)], [back])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [*(s[:5] for s in SHAPES), (1, 8, 20, 20, 16)])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("slope", [1.0, 0.0, 0.1])
def test_norm(shape, dtype, pool, slope):
    x = 3 + rand(*shape, dtype=dtype)
    gamma, beta = rand(shape[0], shape[-1], dtype=dtype), rand(shape[0], shape[-1], dtype=dtype)
    y, mean, rstd, argmax = found = gpu.norm_forward(x, gamma, beta, 1e-5, pool, slope)
    close(tiles.norm_forward(x, gamma, beta, 1e-5, pool, slope), found)
    given = x, gamma, mean, rstd, argmax, rand(*y.shape, dtype=dtype, seed=1)
    close(tiles.norm_backward(*given, pool, slope), gpu.norm_backward(*given, pool, slope))
    tangent = rand(*shape, dtype=dtype, seed=2), beta, gamma
    close(
        tiles.norm_second(*given, tangent, pool, slope),
        gpu._norm_second(*given, tangent, pool, slope),
    )


def test_statistics_far_from_zero():
    # A mean much larger than the spread, and a channel that does not vary.
    x = 1000 + rand(2, 30, 20, 20, 16, dtype=torch.float32)
    x[..., 3] = 1000
    one = torch.ones(2, 16, device=DEVICE)
    _, mean, rstd, _ = tiles.norm_forward(x, one, 0 * one, 1e-5, False, 1.0)
    exact = x.double().flatten(1, 3)
    torch.testing.assert_close(mean.double(), exact.mean(1), rtol=1e-6, atol=0)
    expected = (exact.var(1, correction=0) + 1e-5).rsqrt()
    torch.testing.assert_close(rstd.double(), expected, rtol=1e-4, atol=0)


def test_ties_and_what_is_no_number():
    x, one = torch.ones(1, 2, 4, 4, 16, device=DEVICE), torch.ones(1, 16, device=DEVICE)
    assert bool((tiles.norm_forward(x, one, one, 1e-5, True, 1.0)[3] == 0).all())
    x[0, 0, 1, 2, 5] = float("nan")
    y = tiles.norm_forward(x, one, 0 * one, 1e-5, True, 0.0)[0]
    assert bool(y[..., 5].isnan().all())
    assert not bool(y[..., 6].isnan().any())
