"""Networks whose numbers of channels are not multiples of 16, against one task at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from innerloop import MAML, Episodes, ops
from innerloop.models import Conv4
from innerloop.ops import kernels
from innerloop.ops.stacked import NotStackableError, Stacked, apart, calls
from tests.ops.stacked.operations import needs_kernels

TASKS, ROWS = 2, 4
WIDTHS = st.sampled_from([1, 2, 6, 15, 16, 17, 20, 24, 33])


class Layers(nn.Module):
    """Layers that follow each other, some of which are looked at twice."""

    def __init__(self, channels, kinds):
        super().__init__()
        self.kinds, made = kinds, []
        for i, kind in enumerate(kinds):
            a, b = channels[i], channels[i + 1]
            groups = a if kind == "depthwise" else 1
            b = channels[i + 1] = a if kind == "depthwise" else b
            layer = nn.Conv2d(a, b, 3, padding=1, groups=groups, bias=kind != "block")
            made.append(
                nn.ModuleDict({"conv": layer, "norm": nn.BatchNorm2d(b, track_running_stats=False)})
            )
        self.made = nn.ModuleList(made)

    def forward(self, x):
        for kind, layer in zip(self.kinds, self.made, strict=True):
            y = layer["conv"](x)
            if kind == "block":
                y = F.max_pool2d(F.leaky_relu(layer["norm"](y), 0.1), 2)
            elif kind == "residual":
                y = F.relu(layer["norm"](y))
                y = y + torch.cat([y[:, 1:], y[:, :1]], 1).tanh() + y.mean((2, 3), keepdim=True)
            elif kind == "before":
                y = layer["norm"](F.relu(y, inplace=True) * 2)
            elif kind == "plain":
                y = F.max_pool2d(F.relu(y), 2)
            x = y
        return x.flatten(1)


KINDS = st.sampled_from(["block", "residual", "before", "plain", "depthwise"])


@given(
    channels=st.lists(WIDTHS, min_size=4, max_size=4),
    kinds=st.lists(KINDS, min_size=1, max_size=3),
    learnt=st.booleans(),
)
def test_layers_of_any_width_are_those_of_each_task(channels, kinds, learnt):
    torch.manual_seed(0)
    network = Layers(channels, kinds).double()
    params = {
        n: torch.randn(TASKS, *p.shape, dtype=torch.float64).requires_grad_()
        for n, p in network.named_parameters()
    }
    x = torch.randn(TASKS, ROWS, channels[0], 8, 8, dtype=torch.float64, requires_grad=learnt)
    call = torch.func.functional_call
    with calls():
        stacked = {n: Stacked(p) for n, p in params.items()}
        together = apart(call(network, stacked, (Stacked(x),)), TASKS)
    each = torch.stack(
        [call(network, {n: p[t] for n, p in params.items()}, (x[t],)) for t in range(TASKS)]
    )
    given = [*params.values(), *([x] if learnt else [])]
    found = []
    for y in (together, each):
        options = {"allow_unused": True, "materialize_grads": True}
        first = torch.autograd.grad((y * y.cos()).sum(), given, create_graph=True, **options)
        second = torch.autograd.grad(sum((g * g.cos()).sum() for g in first), given, **options)
        found.append((y, *first, *second))
    # The derivatives for biases before a norm are zero, but for what rounding leaves of large ones.
    scale = max(float(b.detach().abs().max()) for b in found[1]) + 1
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9 * scale)


@needs_kernels
@pytest.mark.parametrize("width", [6, 20, 33])
def test_blocks_of_any_width_take_the_kernels(width, monkeypatch):
    seen = []
    block = ops.conv_block
    monkeypatch.setattr(
        ops, "conv_block", lambda x, *a, **o: seen.append(x.shape[2]) or block(x, *a, **o)
    )
    layers = [
        layer
        for a, b in ((1, width), (width, width))
        for layer in (nn.Conv2d(a, b, 3), nn.BatchNorm2d(b, track_running_stats=False), nn.ReLU())
    ]
    network = nn.Sequential(*layers)
    with calls():
        given = {
            n: Stacked(p.detach().expand(TASKS, *p.shape)) for n, p in network.named_parameters()
        }
        y = torch.func.functional_call(network, given, (Stacked(torch.randn(TASKS, 4, 1, 8, 8)),))
    assert y.shape == (4, width, 4, 4)
    # The second takes what the first has made, with its zeros, as it is.
    whole = y.whole
    assert y.tasks.shape == (TASKS, 4, width, 4, 4)
    assert not whole.tasks[:, :, width:].any()
    assert seen == [1, width + kernels.missing(width)]


def _chain(x, w, v, b=None):
    return F.conv2d(F.relu(F.conv2d(x, w, padding=1)), v, b, padding=1)


@pytest.mark.parametrize(
    ("function", "shapes", "said"),
    [
        (_chain, [(20, 1, 3, 3), (8, 24, 3, 3)], "to have 24 channels, but got 20"),
        (_chain, [(20, 1, 3, 3), (16, 18, 3, 3)], "to have 18 channels, but got 20"),
        (_chain, [(16, 1, 3, 3), (16, 24, 3, 3)], "to have 24 channels, but got 16"),
        (_chain, [(16, 1, 3, 3), (16, 16, 3, 3), (1,)], "bias to be 1-dimensional with 16"),
        (lambda x, w: F.conv2d(x, w, stride=0), [(20, 1, 3, 3)], "non-positive stride"),
    ],
)
def test_no_channels_are_made_up_that_a_network_lacks(function, shapes, said):
    """Weights of another width are an error, as they are to PyTorch."""
    given = [torch.randn(TASKS, *shape) for shape in ((4, 1, 8, 8), *shapes)]
    with calls(), pytest.raises((RuntimeError, NotStackableError)) as refused:
        apart(function(*map(Stacked, given)), TASKS)
    assert said in f"{refused.value} {refused.value.__cause__}"


@pytest.mark.parametrize("width", [20, 24])
def test_a_network_of_ours_of_any_width_has_the_gradient_of_the_loop(width):
    network = Conv4(5, width=width).double()
    episodes = Episodes(
        torch.randn(3, 5, 1, 28, 28, dtype=torch.float64),
        torch.arange(5).expand(3, 5),
        torch.randn(3, 10, 1, 28, 28, dtype=torch.float64),
        torch.arange(5).repeat(2).expand(3, 10),
    )
    found = {}
    for way in ("auto", "loop"):
        maml = MAML(network, 0.1, 2, execution=way)
        found[way] = maml.meta_gradient(maml.init_params(), episodes)[0]
    for name, gradient in found["loop"].items():
        torch.testing.assert_close(found["auto"][name], gradient, rtol=1e-6, atol=1e-9)


@needs_kernels
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("place", ["image", "weight"])
@given(width=st.sampled_from([6, 15, 16, 20, 33]), last=st.sampled_from([7, 16, 20]))
def test_what_relu_makes_of_infinity_stays_zero(width, last, place, pool):
    """Zero times infinity, in channels that the network does not have, must not reach others."""
    torch.manual_seed(0)
    x = torch.rand(TASKS, ROWS, 3, 8, 8, dtype=torch.float64)
    first = -torch.rand(TASKS, width, 3, 3, 3, dtype=torch.float64)
    second, third = (
        torch.randn(TASKS, last, n, 2, 2, dtype=torch.float64, requires_grad=True)
        for n in (width, last)
    )
    if place == "image":
        x[:, 0, 0, 0, 0] = torch.inf
    else:
        first[:, 0, 0, 0, 0] = -torch.inf

    def network(x, first, second, third):
        y = F.relu(F.conv2d(x, first))
        y = F.max_pool2d(y, 2) if pool else y
        return F.conv2d(F.relu(F.conv2d(y, second)), third)

    given = x, first, second, third
    each = torch.stack([network(*(t[i] for t in given)) for i in range(TASKS)])
    with calls():
        together = apart(network(*map(Stacked, given)), TASKS)
    assert each.isfinite().all()
    torch.testing.assert_close(together, each)
    for a, b in zip(
        torch.autograd.grad(together.sum(), (second, third)),
        torch.autograd.grad(each.sum(), (second, third)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
