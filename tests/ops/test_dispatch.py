"""What layers call: the kernels where they apply, PyTorch's operators elsewhere."""

import pytest
import torch
import torch.nn.functional as F

from innerloop import ops
from innerloop.ops import kernels
from tests.ops.arrays import close, packed


def test_sizes_of_nothing_are_left_to_pytorch_or_refused(build):
    w, one = torch.zeros(16, 16, 3, 3), torch.ones(16)
    how = {"stride": 1, "padding": 1, "pool": True, "slope": 0.0}
    nothing = torch.zeros(0, 16, 8, 8)
    assert ops.conv2d(nothing, w, padding=1).shape == (0, 16, 8, 8)
    assert ops.conv_block(nothing, w, one, one, 1e-5, **how).shape == (0, 16, 4, 4)
    if kernels._on_gpu(nothing):
        return  # PyTorch's operators have messages of their own
    with pytest.raises(RuntimeError, match="too small for a kernel of"):
        ops.conv2d(torch.zeros(2, 16, 2, 2), w)
    with pytest.raises(RuntimeError, match="nothing is left"):
        ops.conv_block(torch.zeros(2, 16, 1, 1), w, one, one, 1e-5, **how)


@pytest.mark.parametrize("channels", [16, 3])
def test_depthwise_is_what_pytorch_makes_of_it(build, channels):
    x = packed(2, 3, channels, 7, 6, dtype=torch.float64)
    w = packed(2, channels, 1, 3, 3, dtype=torch.float64)
    each = [F.conv2d(*one, None, 2, 1, 1, channels) for one in zip(x, w, strict=True)]
    close(ops.conv2d(x, w, stride=2, padding=1, depthwise=True), torch.stack(each))
    close(ops.conv2d(x[0], w[0], stride=2, padding=1, depthwise=True), each[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [16, 3])
@pytest.mark.parametrize("pool", [False, True])
def test_a_block_is_what_pytorch_makes_of_it(build, dtype, channels, pool):
    """All derivatives to the second order beside PyTorch's own in double precision."""
    tasks, sizes = 2, [(5, channels, 30, 30), (32, channels, 3, 3), (32,), (32,)]
    given = [packed(tasks, *size, dtype=torch.float64) for size in sizes]
    tangent = [packed(tasks + 1, *size, dtype=torch.float64)[1:] for size in sizes]

    def ours(*given):
        how = {"stride": 1, "padding": 1, "pool": pool, "slope": 0.0}
        return ops.conv_block(*given, 1e-5, **how)

    def pytorch(*given):
        def one(x, w, gamma, beta):
            x = F.conv2d(x, w, padding=1)
            x = F.batch_norm(x, None, None, gamma, beta, True, 0.0, 1e-5)
            return F.relu(F.max_pool2d(x, 2) if pool else x)

        return torch.stack([one(*task) for task in zip(*given, strict=True)])

    def derivatives(block, dtype, first):
        """With respect to all inputs from number `first` on."""
        inputs = [t.to(dtype, copy=True) for t in given]
        learnt = [t.requires_grad_() for t in inputs[first:]]
        y = block(*inputs)
        rate = torch.linspace(-1, 1, y[0].numel(), dtype=dtype).view(y.shape[1:])
        once = torch.autograd.grad((y**2 * rate).sum(), learnt, create_graph=True)
        change = sum((g * d.to(dtype)).sum() for g, d in zip(once, tangent[first:], strict=True))
        return [y, *once, *torch.autograd.grad(change, learnt)]

    for first in (0, 1):
        expected = derivatives(pytorch, torch.float64, first)
        for found, result in zip(derivatives(ours, dtype, first), expected, strict=True):
            close(found, result.to(dtype))
    # Forwards, too.
    tangents = tuple(d.to(dtype) for d in tangent)
    change = torch.func.jvp(ours, tuple(t.to(dtype) for t in given), tangents)[1]
    close(change, torch.func.jvp(pytorch, tuple(given), tuple(tangent))[1].to(dtype))


def test_groups_are_batches_of_their_own(build):
    x, w = packed(6, 16, 4, 4, dtype=torch.float64), packed(16, dtype=torch.float64)
    ours = ops.batch_norm(x, w, w, 1e-5, pool=True, slope=0.0, group=3)
    with kernels.without():
        expected = ops.batch_norm(x, w, w, 1e-5, pool=True, slope=0.0, group=3)
    torch.testing.assert_close(ours, expected)
    apart = ops.batch_norm(x[3:], w, w, 1e-5, pool=True, slope=0.0)
    torch.testing.assert_close(ours[3:], apart)


@pytest.mark.parametrize("size", [(), (4, 4)])
def test_the_first_rows_give_the_statistics_of_each_batch(build, size):
    """Of groups, with an axis of tasks, and without pixels: those of a batch of their own."""
    x, w = packed(6, 16, *size, dtype=torch.float64), packed(16, dtype=torch.float64)
    how = {"slope": 0.1, "first": 2}
    found = ops.batch_norm(x, w, w, 1e-5, group=3, **how)
    for group, y in zip(x.split(3), found.split(3), strict=True):
        own = ops.batch_norm(group[:2], w, w, 1e-5, slope=0.1)
        torch.testing.assert_close(y[:2], own)
        # Those after them do not change each other.
        other = torch.cat([group[:2], group.new_zeros(1, 16, *size), group[2:]])
        torch.testing.assert_close(ops.batch_norm(other, w, w, 1e-5, **how)[3], y[2])
    tasks, vectors = x.unflatten(0, (2, 3)), w.expand(2, -1)
    several = ops.batch_norm(tasks, vectors, vectors, 1e-5, **how)
    torch.testing.assert_close(several.flatten(0, 1), found)


@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.parametrize("first", [None, 5])
def test_series_of_tasks_are_no_images(build, tasks, first):
    """Where there are as many rows as channels, shapes alone do not tell them apart."""
    x = packed(tasks, 16, 16, 7, dtype=torch.float64)
    w = packed(tasks, 16, dtype=torch.float64)
    found = ops.batch_norm(x, w, w, 1e-5, slope=0.1, first=first)
    for own, weight, y in zip(x, w, found, strict=True):
        variance, mean = torch.var_mean(own[:first], (0, 2), correction=0)
        expected = F.batch_norm(own, mean, variance, weight, weight, False, 0.0, 1e-5)
        torch.testing.assert_close(y, F.leaky_relu(expected, 0.1))


@pytest.mark.parametrize("first", [None, 2])
def test_volumes_are_no_images_of_tasks(build, first):
    """Five axes with one weight a channel are one batch."""
    x, w = packed(3, 16, 2, 5, 4, dtype=torch.float64), packed(16, dtype=torch.float64)
    found = ops.batch_norm(x, w, w, 1e-5, first=first)
    variance, mean = torch.var_mean(x[:first], (0, 2, 3, 4), correction=0)
    torch.testing.assert_close(found, F.batch_norm(x, mean, variance, w, w, False, 0.0, 1e-5))


IN_PLACE = {
    "conv2d": lambda x, w, one: ops.conv2d(x, w, padding=1),
    "batch_norm": lambda x, w, one: ops.batch_norm(x, one, one, 1e-5, slope=0.1),
    "batch_norm by the first": lambda x, w, one: ops.batch_norm(x, one, one, 1e-5, first=2),
    "batch_norm and pooling": lambda x, w, one: ops.batch_norm(x, one, one, 1e-5, pool=True),
    "conv_block": lambda x, w, one: ops.conv_block(
        x, w, one, one, 1e-5, stride=1, padding=1, pool=True, slope=0.0
    ),
    "max_pool_2x2": lambda x, w, one: ops.max_pool_2x2(x.flatten(0, -4)),
    "linear": lambda x, w, one: ops.linear(x[..., 0, 0], w[..., 0, 0], None),
    "attention": lambda x, w, one: ops.attention(x, x, x, 0.5),
}


@pytest.mark.parametrize("name", IN_PLACE)
@pytest.mark.parametrize("tasks", [0, 1, 2])
def test_what_follows_may_write_in_place(build, name, tasks):
    """As `nn.ReLU(inplace=True)` does."""
    every = (tasks,) if tasks else ()

    def derivative(follows):
        sizes = (3, 16, 4, 4), (16, 16, 3, 3), (16,)
        x, w, one = (packed(*every, *size, dtype=torch.float64).requires_grad_() for size in sizes)
        (follows(IN_PLACE[name](x, w, one)) ** 2).sum().backward()
        return x.grad

    expected = derivative(torch.relu)
    torch.testing.assert_close(derivative(torch.relu_), expected)


@pytest.mark.parametrize("shared", [False, True])
def test_no_tasks_have_no_results(compiled, shared):
    """An empty meta-batch gives empty results, without a division by zero."""
    x, w, one = torch.zeros(0, 2, 16, 4, 4), torch.zeros(0, 16, 16, 3, 3), torch.zeros(0, 16)
    how = {"stride": 1, "padding": 1, "pool": True, "slope": 0.0}

    def gradients(x, w, one):
        def loss(x, w, one):
            y = ops.conv_block(x, w, one, one, 1e-5, **how)
            y = y.sum() + ops.conv2d(x, w).square().sum()
            return y + ops.batch_norm(x, one, one, 1e-5, pool=True).square().sum()

        return torch.func.grad(loss, argnums=(0, 1, 2))(x, w, one)

    of_w = torch.zeros(w.shape[1:]) if shared else w
    many = torch.func.vmap(gradients, in_dims=(0, None if shared else 0, 0))
    for found, given in zip(many(x, of_w, one), (x, w, one), strict=True):
        assert found.shape == given.shape


@pytest.mark.parametrize(
    ("x", "w", "how"),
    [
        ((2, 32, 8, 8), (16, 16, 3, 3), {}),
        ((2, 16, 8, 8), (0, 16, 3, 3), {}),
        ((2, 16, 8, 8), (16, 16, 3, 3), {"padding": -1}),
        ((2, 16, 8, 8), (16, 16, 3, 3), {"stride": 0}),
    ],
)
def test_what_pytorch_refuses_is_refused(compiled, x, w, how):
    x, w = torch.zeros(x), torch.zeros(w)
    with pytest.raises(RuntimeError):
        ops.conv2d(x, w, **how)
    with kernels.without(), pytest.raises(RuntimeError):
        ops.conv2d(x, w, **how)


def test_types_are_not_mixed(compiled):
    x, w, one = torch.zeros(2, 16, 8, 8), torch.zeros(16, 16, 3, 3), torch.zeros(16)
    with pytest.raises(RuntimeError):
        ops.conv2d(x, w.double())
    with pytest.raises(RuntimeError):
        ops.batch_norm(x, one.double(), one, 1e-5)


def everything(x, w, one):
    """A block, and its derivatives to the second order."""
    how = {"stride": 1, "padding": 1, "pool": True, "slope": 0.0}

    def loss(x, w, one):
        return (ops.conv_block(x, w, one, one, 1e-5, **how) ** 3).sum()

    def gradients(*given):
        return torch.func.grad(loss, argnums=(0, 1, 2))(*given)

    def product(*given):
        return sum((g * t.cos()).sum() for g, t in zip(gradients(*given), given, strict=True))

    return *gradients(x, w, one), *torch.func.grad(product, argnums=(0, 1, 2))(x, w, one)


LAYOUTS = {
    "channels last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "transposed": lambda t: t.mT.contiguous().mT,
    "every other": lambda t: torch.stack([t, 0 * t], dim=2).flatten(1, 2)[:, ::2],
    "from the middle": lambda t: torch.cat([0 * t, t, 0 * t])[len(t) : 2 * len(t)],
    "overlapping": lambda t: t[:1].expand_as(t),
    "rows that overlap": lambda t: t.flatten().as_strided(t.shape, (5, 3, 2, 1)),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("inputs", [1, 16])
def test_order_in_memory_changes_nothing(build, layout, inputs):
    x, w = (
        packed(3, inputs, 6, 7, dtype=torch.float64),
        packed(32, inputs, 3, 3, dtype=torch.float64),
    )
    x, w, one = layout(x), layout(w), packed(1, dtype=torch.float64).expand(32)
    copies = (t.clone(memory_format=torch.contiguous_format) for t in (x, w, one))
    for found, expected in zip(everything(x, w, one), everything(*copies), strict=True):
        assert torch.equal(found, expected)
