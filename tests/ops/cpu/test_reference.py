"""The kernels against plain loops in C, for random shapes of all kinds."""

import ctypes
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from innerloop.ops.cpu import binding, library, shapes


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The functions of reference.c, in double precision."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no compiler for the reference")
    source = Path(library.__file__).with_name("reference.c")
    file = tmp_path_factory.mktemp("reference") / "reference.so"
    command = [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", str(source)]
    subprocess.run([*command, "-lm", "-o", str(file)], check=True)
    loaded = ctypes.CDLL(str(file))

    def run(name, shapes, given, results):
        """`results` filled by a function that is given the other tensors first."""
        tensors = [t if t.dtype == torch.uint8 else t.double() for t in given]
        out = [torch.empty(t.shape, dtype=_double(t)) for t in results]
        addresses = [ctypes.c_void_p(t.data_ptr()) for t in (*tensors, *out)]
        assert getattr(loaded, name)(*(ctypes.byref(s) for s in shapes), *addresses) == 0
        return out

    return run


def _double(t):
    return torch.uint8 if t.dtype == torch.uint8 else torch.float64


class Case:
    """Shapes, strides and numbers drawn from a seed; from 40 on of 3 x 3 by single pixels."""

    def __init__(self, seed, dtype):
        draw = random.Random(seed)
        self.threads = draw.choice([1, 2, 5])
        self.generator, self.dtype = torch.Generator().manual_seed(seed), dtype
        # A part of the images at a time only where they are large.
        largest = 12 if seed % 8 else 30
        while True:
            self.tasks, self.images = draw.randint(1, 4), draw.randint(1, 6)
            self.size = draw.randint(1, largest), draw.randint(1, largest)
            self.kernel = draw.randint(1, 4), draw.randint(1, 4)
            self.stride, self.padding = draw.randint(1, 3), draw.randint(0, 3)
            self.inputs, self.outputs = draw.choice([1, 3, 16, 32]), draw.choice([16, 48, 64])
            if seed >= 40:
                self.kernel, self.stride, self.inputs = (3, 3), 1, draw.choice([16, 48])
            self.pool, self.shared = draw.random() < 0.5, draw.random() < 0.5
            self.slope = draw.choice([1.0, 0.0, 0.1])
            self.first = draw.choice([None, draw.randint(1, self.images)])
            out = [
                (n + 2 * self.padding - k) // self.stride + 1
                for n, k in zip(self.size, self.kernel, strict=True)
            ]
            # With few pixels batch norm magnifies what rounding has left of their differences.
            counted = (self.first or self.images) * out[0] * out[1]
            if min(out) >= 1 + self.pool and counted >= 16:
                break
        self.how = self.stride, self.padding, self.pool, self.slope

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.generator, dtype=self.dtype)

    def x(self):
        return self.normal(self.tasks, self.images, *self.size, self.inputs)

    def w(self):
        return self.normal(
            1 if self.shared else self.tasks, *self.kernel, self.inputs, self.outputs
        )

    def conv(self, x, w):
        return shapes.conv(x.shape, self.outputs, self.kernel, self.stride, self.padding, len(w))[0]

    def norm(self, x, first=None):
        how = {"pool": self.pool, "slope": self.slope, "eps": 1e-3}
        return shapes.norm(x.shape, first=first, **how)[0]

    def close(self, ours, theirs):
        """Up to rounding of the largest number."""
        for a, b in zip(ours, theirs, strict=True):
            if a.dtype == torch.uint8:
                # In single precision two pixels may be the same, or a sum on the other side of 0.
                assert self.dtype == torch.float32 or torch.equal(a, b)
                continue
            error = (a.double() - b).abs().max() / b.abs().max().clamp(min=1e-3)
            assert error < (1e-12 if self.dtype == torch.float64 else 3e-5)


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture(params=range(52))
def case(request, dtype):
    drawn, before = Case(request.param, dtype), torch.get_num_threads()
    torch.set_num_threads(drawn.threads)
    yield drawn
    torch.set_num_threads(before)


def test_convolution(compiled, reference, case):
    x, w = case.x(), case.w()
    shape = case.conv(x, w)
    y = binding.conv_forward(x, w, case.stride, case.padding)
    case.close([y], reference("conv_forward", [shape], [x, w], [y]))
    dy = case.normal(*y.shape)
    dw = binding.conv_weights(x, dy, case.kernel, case.stride, case.padding)
    case.close([dw], reference("conv_weights", [shape], [x, dy], [dw]))
    if case.inputs % 16 == 0:
        dx = binding.conv_inputs(dy, w, case.size, case.stride, case.padding)
        case.close([dx], reference("conv_inputs", [shape], [dy, w], [dx]))


def test_depthwise_convolution(compiled, reference, case):
    channels = case.outputs
    x = case.normal(case.tasks, case.images, *case.size, channels)
    w = case.normal(1 if case.shared else case.tasks, *case.kernel, 1, channels)
    how = case.stride, case.padding
    shape = shapes.depthwise(x.shape, w.shape, *how)[0]
    y = binding.depthwise_forward(x, w, *how)
    case.close([y], reference("depthwise_forward", [shape], [x, w], [y]))
    dy = case.normal(*y.shape)
    dw = binding.depthwise_weights(x, dy, case.kernel, *how)
    case.close([dw], reference("depthwise_weights", [shape], [x, dy], [dw]))
    dx = binding.depthwise_inputs(dy, w, case.size, *how)
    case.close([dx], reference("depthwise_inputs", [shape], [dy, w], [dx]))


@pytest.mark.parametrize("rows", range(1, 15))
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_rows_of_linear_layers(compiled, reference, dtype, rows, shared, threads):
    """Few rows go by products of rows and rows, more by transposed weights."""
    case, before = Case(rows, dtype), torch.get_num_threads()
    dy, w = case.normal(3, rows, 1, 1, 48), case.normal(1 if shared else 3, 1, 1, 80, 48)
    torch.set_num_threads(threads)
    try:
        dx = binding.conv_inputs(dy, w, (1, 1), 1, 0)
    finally:
        torch.set_num_threads(before)
    shape = shapes.conv(dx.shape, 48, (1, 1), 1, 0, len(w))[0]
    case.close([dx], reference("conv_inputs", [shape], [dy, w], [dx]))


@pytest.mark.parametrize("rows", [1, 12, 13, 65, 230])
@pytest.mark.parametrize("shared", [False, True], ids=["", "shared"])
def test_linear_layers(compiled, reference, dtype, rows, shared):
    """Outputs are the inputs of a convolution of single pixels, plus the bias."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 + rows % 3)
    try:
        linear_layers(reference, Case(rows, dtype), rows, shared)
    finally:
        torch.set_num_threads(before)


def linear_layers(reference, case, rows, shared, rounded=lambda t: t):
    tasks, inputs, outputs = case.tasks, case.outputs, 80
    x, w = case.normal(tasks, rows, inputs), case.normal(1 if shared else tasks, outputs, inputs)
    bias, dy = case.normal(tasks, outputs), case.normal(tasks, rows, outputs)
    shape = shapes.linear(x.shape, w.shape)[0]
    (y,) = reference("conv_inputs", [shape], [rounded(x), rounded(w)], [dy])
    found = [binding.linear_forward(x, w, b) for b in (bias, None)]
    case.close(found, [y + bias[:, None].double(), y])
    found = binding.linear_weights(dy, x)
    (dw,) = reference("conv_weights", [shape], [rounded(dy), rounded(x)], [found[0]])
    case.close(found, [dw, dy.double().sum(1)])


# Images of so many pixels, in groups of so many channels.
NORMS = {"row": (1, 1, 48), "rows": (31, 1, 48), "groups": (3, 77, 6), "filled up": (2, 5, 10)}


@pytest.mark.parametrize("kind", NORMS)
def test_group_norm(compiled, dtype, kind):
    """Against PyTorch's, which tests/ops/autograd/test_group_norm.py compares more closely."""
    case, (images, pixels, group) = Case(0, dtype), NORMS[kind]
    groups = 48 // group
    known = groups * group
    x, dy, v = (case.normal(3, images, 1, pixels, 48) for _ in range(3))
    gamma, beta, a, b = (case.normal(3, 48) for _ in range(4))
    given = [t.double().clone().requires_grad_() for t in (x, gamma, beta, dy)]
    of_groups = given[0][..., :known].movedim(-1, 2).flatten(0, 1)
    y = F.group_norm(of_groups, groups, eps=1e-3).unflatten(0, (3, images)).movedim(2, -1)
    y = F.pad(y, (0, 48 - known))
    y = y * given[1][:, None, None, None] + given[2][:, None, None, None]
    found = binding.group_norm_forward(x, gamma, beta, groups, group, 1e-3)
    case.close(found[:1], [y.detach()])
    seen = found[1:]
    found = binding.group_norm_backward(x, gamma, *seen, dy, group)
    expected = torch.autograd.grad(y, given[:3], given[3], create_graph=True)
    case.close(found, [t.detach() for t in expected])
    found = binding.group_norm_second(x, gamma, *seen, dy, (v, a, b), group)
    tangent = [t.double() for t in (v, a, b)]
    case.close(found, torch.autograd.grad(expected, (given[0], given[1], given[3]), tangent))


@pytest.mark.parametrize("rows", [5, 70])
def test_linear_layers_of_rounded_factors(halves, reference, rows):
    with shapes.half_products():
        linear_layers(reference, Case(rows, torch.float32), rows, False, lambda t: t.bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32], ids=["bf16"], indirect=False)
def test_convolution_of_rounded_factors(halves, reference, case):
    """The products of the rounded factors, summed in single precision."""

    def rounded(*tensors):
        return [t.bfloat16().float() for t in tensors]

    x, w = case.x(), case.w()
    shape, size = case.conv(x, w), (case.kernel, case.stride, case.padding)
    with shapes.half_products():
        y = binding.conv_forward(x, w, *size[1:])
        dy = case.normal(*y.shape)
        dw = binding.conv_weights(x, dy, *size)
        dx = binding.conv_inputs(dy, w, case.size, *size[1:]) if case.inputs % 16 == 0 else None
    # Winograd's way is not rounded.
    whole = case.kernel == (3, 3) and case.stride == 1 and case.inputs % 16 == 0

    def close(ours, name, given, may_be_whole):
        try:
            case.close([ours], reference(name, [shape], rounded(*given), [ours]))
        except AssertionError:
            case.close([ours], reference(name, [shape], given, [ours]))
            assert may_be_whole

    close(y, "conv_forward", [x, w], whole)
    if dx is not None:
        close(dx, "conv_inputs", [dy, w], whole)
    # Nor is this product where most of the kernel falls into the padding.
    close(dw, "conv_weights", [x, dy], whole or case.padding)


def test_norm(compiled, reference, case):
    x = case.normal(case.tasks, case.images, 5, *case.size[1:], case.outputs)
    if case.pool and x.shape[3] < 2:
        x = x.repeat(1, 1, 1, 2, 1)
    shape, how = [case.norm(x, case.first)], (case.pool, case.slope, case.first)
    gamma, beta, a, b = (case.normal(case.tasks, case.outputs) for _ in range(4))
    out = binding.norm_forward(x, gamma, beta, 1e-3, *how)
    case.close(out, reference("norm_forward", shape, [x, gamma, beta], out))
    y, *seen = out
    dy, v = case.normal(*y.shape), case.normal(*x.shape)
    out = binding.norm_backward(x, gamma, *seen, dy, *how)
    case.close(out, reference("norm_backward", shape, [x, gamma, *seen, dy], out))
    out = binding.norm_second(x, gamma, *seen, dy, (v, a, b), *how)
    case.close(out, reference("norm_second", shape, [x, gamma, *seen, dy, v, a, b], out))


def test_block(compiled, reference, case):
    x, w = case.x(), case.w()
    gamma, beta, a, b = (case.normal(case.tasks, case.outputs) for _ in range(4))
    z = binding.conv_forward(x, w, case.stride, case.padding)
    shapes = [case.conv(x, w), case.norm(z)]
    kept, *out = binding.block_forward(x, w, gamma, beta, 1e-3, case.how)
    z, *theirs = reference("block_forward", shapes, [x, w, gamma, beta], [z, *out])
    case.close(out, theirs)
    y, *seen = out
    dy, vx = case.normal(*y.shape), case.normal(*x.shape)
    vw = case.normal(case.tasks, *w.shape[1:])
    # The input pictures have no gradient.
    inputs = case.inputs % 16 == 0
    vx = vx if inputs else torch.zeros_like(vx)

    given = [x, w, gamma, z, *seen, dy]
    dx, *out = binding.block_backward(x, w, gamma, (kept, *seen), dy, case.how, inputs)
    to_x, *theirs = reference("block_backward", shapes, given, [x, *out])
    case.close(out, theirs)
    if inputs:
        case.close([dx], [to_x])
    tangent = vx if inputs else None, vw, a, b
    dx, *out = binding.block_second(x, w, gamma, (kept, *seen), dy, tangent, case.how, inputs)
    to_x, *theirs = reference("block_second", shapes, [*given, vx, vw, a, b], [x, *out])
    case.close(out, theirs)
    if inputs:
        case.close([dx], [to_x])
