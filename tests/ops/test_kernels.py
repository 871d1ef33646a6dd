"""The kernels against PyTorch's operators, on every build that this processor can run."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from innerloop.ops import kernels
from innerloop.ops.cpu import library
from tests.ops.arrays import close, packed

# tasks, images, height, width, inputs, outputs, kernel, stride, padding
CONVS = [
    (3, 5, 28, 28, 1, 64, 3, 2, 1),
    (2, 3, 15, 11, 32, 48, 3, 1, 1),
    (2, 7, 5, 5, 64, 64, 3, 2, 2),
    (1, 2, 6, 7, 16, 16, 5, 1, 0),
    (5, 1, 9, 8, 3, 80, 1, 2, 0),
    (1, 40, 4, 4, 16, 32, 3, 2, 1),
    (1, 1, 60, 50, 16, 16, 3, 1, 1),
    # Much of these is padding.
    (2, 90, 1, 1, 16, 32, 3, 2, 2),
    (3, 5, 7, 7, 64, 64, 3, 2, 2),
    (2, 3, 3, 2, 32, 16, 3, 1, 2),
    (1, 3, 7, 5, 16, 48, 2, 3, 3),
    (4, 2, 2, 2, 16, 16, 5, 1, 4),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", CONVS)
@pytest.mark.parametrize("shared", [False, True])
def test_convolution(build, shape, dtype, shared):
    t, b, h, w, i, o, k, stride, padding = shape
    x = packed(t, b, h, w, i, dtype=dtype)
    weights = packed(1 if shared else t, k, k, i, o, dtype=dtype)
    y = kernels.conv_forward(x, weights, stride, padding)
    dy = torch.randn(y.shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    dw = kernels.conv_weights(x, dy, (k, k), stride, padding)
    dx = None if i % 16 else kernels.conv_inputs(dy, weights, (h, w), stride, padding)
    for task in range(t):
        images = x[task].permute(0, 3, 1, 2).requires_grad_()
        matrix = weights[0 if shared else task].permute(3, 2, 0, 1).requires_grad_()
        out = F.conv2d(images, matrix, stride=stride, padding=padding)
        close(y[task].permute(0, 3, 1, 2), out.detach())
        to_x, to_w = torch.autograd.grad(out, (images, matrix), dy[task].permute(0, 3, 1, 2))
        close(dw[task].permute(3, 2, 0, 1), to_w)
        if dx is not None:
            close(dx[task].permute(0, 3, 1, 2), to_x)


# tasks, images, height, width, channels
NORMS = [(3, 5, 14, 14, 64), (1, 4, 7, 5, 48), (2, 3, 15, 4, 16), (5, 9, 2, 2, 32)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", NORMS)
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("slope", [1.0, 0.0, 0.1])
@pytest.mark.parametrize("first", [None, 1, 3])
def test_norm(build, shape, dtype, pool, slope, first):
    t, c = shape[0], shape[-1]
    x = 3 + packed(*shape, dtype=dtype)
    gamma, beta = packed(t, c, dtype=dtype), packed(t + 1, c, dtype=dtype)[1:]
    y, mean, rstd, argmax = kernels.norm_forward(x, gamma, beta, 1e-5, pool, slope, first)
    dy = torch.randn(y.shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    dx, dgamma, dbeta = kernels.norm_backward(x, gamma, mean, rstd, argmax, dy, pool, slope, first)
    for task in range(t):
        images = x[task].permute(0, 3, 1, 2).requires_grad_()
        g, b = gamma[task].clone().requires_grad_(), beta[task].clone().requires_grad_()
        variance, middle = torch.var_mean(images[:first], (0, 2, 3), correction=0, keepdim=True)
        out = (images - middle) * (variance + 1e-5).rsqrt() * g[:, None, None] + b[:, None, None]
        out = F.max_pool2d(out, 2) if pool else out
        out = F.leaky_relu(out, slope)
        close(y[task].permute(0, 3, 1, 2), out.detach())
        expected = torch.autograd.grad(out, (images, g, b), dy[task].permute(0, 3, 1, 2))
        close(dx[task].permute(0, 3, 1, 2), expected[0])
        close(dgamma[task], expected[1])
        close(dbeta[task], expected[2])


def test_statistics_far_from_zero(build):
    # A mean much larger than the spread, and channels that hardly vary.
    x = 1000 + packed(2, 30, 20, 20, 16, dtype=torch.float32)
    x[..., 3] = 1000
    one, zero = torch.ones(2, 16), torch.zeros(2, 16)
    _, mean, rstd, _ = kernels.norm_forward(x, one, zero, 1e-5, False, 1.0)
    exact = x.double().flatten(1, 3)
    torch.testing.assert_close(mean.double(), exact.mean(1), rtol=1e-7, atol=0)
    expected = (exact.var(1, correction=0) + 1e-5).rsqrt()
    torch.testing.assert_close(rstd.double(), expected, rtol=1e-4, atol=0)


def test_a_tie_goes_to_the_first_pixel_as_in_pytorch(build):
    x = torch.ones(1, 1, 4, 4, 16)
    _, _, _, argmax = kernels.norm_forward(x, torch.ones(1, 16), torch.ones(1, 16), 1e-5, True, 1.0)
    assert (argmax == 0).all()


def test_not_a_number_is_not_hidden(build):
    x = torch.randn(1, 2, 4, 4, 16, generator=torch.Generator().manual_seed(0))
    x[0, 0, 1, 2, 5] = float("nan")
    y, *_ = kernels.norm_forward(x, torch.ones(1, 16), torch.zeros(1, 16), 1e-5, True, 0.0)
    assert y[..., 5].isnan().all()
    assert not y[..., 6].isnan().any()


def test_left_out_on_request():
    x = torch.zeros(1, 1, 4, 4)
    with kernels.without():
        assert not kernels.serve(x, 16)
    code = (
        "import torch; from innerloop.ops import kernels; print(kernels.serve(torch.zeros(1), 16))"
    )
    environment = {**os.environ, "INNERLOOP_KERNELS": "0"}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert out.stdout.split() == [b"False"]


def test_serve_only_what_they_can():
    if library.load() is None:
        pytest.skip("the kernels are not compiled here")
    assert kernels.serve(torch.zeros(1), 16, 48)
    assert not kernels.serve(torch.zeros(1), 16, 20)
    assert not kernels.serve(torch.zeros(1, dtype=torch.bfloat16), 16)
    assert not kernels.serve(torch.zeros(1, device="meta"), 16)


@pytest.mark.parametrize("threads", [1, 3, 16])
@pytest.mark.parametrize(
    ("shape", "how"),
    [
        ((2, 5, 9, 9, 16), (1, 1)),
        ((2, 5, 9, 9, 16), (3, 4)),  # Stride and padding: much of it.
        ((1, 110, 3, 3, 16), (2, 1)),  # Groups of images that do not come out even.
    ],
)
def test_the_number_of_threads_changes_nothing(build, threads, shape, how):
    tasks, _, *size, channels = shape
    x, w = packed(*shape, dtype=torch.float32), packed(tasks, 3, 3, 16, 16, dtype=torch.float32)
    one, zero = torch.ones(tasks, channels), torch.zeros(tasks, channels)

    def everything():
        y = kernels.conv_forward(x, w, *how)
        dx, dw = kernels.conv_inputs(y, w, size, *how), kernels.conv_weights(x, y, (3, 3), *how)
        z, mean, rstd, argmax = kernels.norm_forward(y, one, zero, 1e-5, True, 0.0)
        back = kernels.norm_backward(y, one, mean, rstd, argmax, z, True, 0.0)
        second = kernels.norm_second(y, one, mean, rstd, argmax, z, (y, one, one), True, 0.0)
        return [y, dx, dw, z, mean, rstd, *back, *second]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        expected = everything()
        torch.set_num_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(everything(), expected, strict=True))
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("threads_of_build")  # tasks apart, and all tasks at once
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("channels", [16, 3])  # for pictures the convolution is computed again
@pytest.mark.parametrize(("size", "stride", "padding"), [(14, 1, 1), (7, 2, 2)])
@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_a_block_is_its_parts(pool, shared, channels, size, stride, padding, slope):
    tasks, eps, how = 3, 1e-5, (stride, padding, pool, slope)
    inner = channels == 16
    # Large enough for three images of a task to be taken at a time, then two; or mostly padding.
    x = packed(tasks, 5, size, size, channels, dtype=torch.float64)
    w = packed(1 if shared else tasks, 3, 3, channels, 64, dtype=torch.float64)
    gamma, beta = packed(tasks, 64, dtype=torch.float64), torch.zeros(tasks, 64).double()
    gamma[:, ::5] = 0  # all pixels are equal: pooling takes the first one
    kept, y, mean, rstd, argmax = kernels.block_forward(x, w, gamma, beta, eps, how)
    seen = kept, mean, rstd, argmax
    dy = packed(*y.shape, dtype=torch.float64)
    dx, dw, dgamma, dbeta = kernels.block_backward(x, w, gamma, seen, dy, how, inner)
    tangent = packed(*x.shape, dtype=torch.float64).flip(1), dw.flip(1), beta + 1, gamma
    if inner:
        second = kernels.block_second(x, w, gamma, seen, dy, tangent, how, True)
    first_layer = kernels.block_second(x, w, gamma, seen, dy, (None, *tangent[1:]), how, False)

    z = kernels.conv_forward(x, w, stride, padding)
    if inner or not pool:
        close(kept, z)
    conv = kernels.conv_forward
    weights, inputs = kernels.conv_weights, kernels.conv_inputs
    for ours, part in zip(
        (y, mean, rstd, argmax), kernels.norm_forward(z, gamma, beta, eps, pool, slope), strict=True
    ):
        close(ours.double(), part.double())
    dz, *vectors = kernels.norm_backward(z, gamma, mean, rstd, argmax, dy, pool, slope)
    close(dgamma, vectors[0])
    close(dbeta, vectors[1])
    close(dw, weights(x, dz, (3, 3), stride, padding))
    vx, vw, a, b = tangent
    results = [(first_layer, torch.zeros_like(z))]
    if inner:
        close(dx, inputs(dz, w, (size, size), stride, padding))
        results.append((second, conv(vx, w, stride, padding)))
    for result, direct in results:
        to_dz = direct + conv(x, vw, stride, padding)
        to_z, to_gamma, to_dy = kernels.norm_second(
            z, gamma, mean, rstd, argmax, dy, (to_dz, a, b), pool, slope
        )
        to_w = weights(x, to_z, (3, 3), stride, padding)
        if result is not first_layer:
            to_w = to_w + weights(vx, dz, (3, 3), stride, padding)
            to_x = inputs(dz, vw, (size, size), stride, padding) + inputs(
                to_z, w, (size, size), stride, padding
            )
            close(result[0], to_x)
        else:
            assert result[0] is None
        close(result[1], to_w)
        close(result[2], to_gamma)
        close(result[3], to_dy)


@pytest.mark.parametrize(
    ("sizes", "by_kernels"), [((64, 64), True), ((64, 60), False), ((1024, 512), False)]
)
def test_kernels_multiply_what_they_are_faster_at(sizes, by_kernels, compiled, monkeypatch):
    x, w = torch.zeros(2, 3, sizes[1]), torch.zeros(2, *sizes)
    monkeypatch.setattr(kernels, "_has_mkl", lambda: False)
    assert kernels.multiply(x, w) == by_kernels
    with kernels.without():
        assert not kernels.multiply(x, w)
    monkeypatch.setattr(kernels, "_has_mkl", lambda: True)
    assert not kernels.multiply(x, w)
