"""Networks: shapes, initial values, and agreement with their descriptions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from innerloop import UserError
from innerloop.models import MLP, BatchNorm, Conv4, TutorialConv
from innerloop.models.layers import (
    given_statistics,
    make_head,
    seen_statistics,
    statistics_by_group,
)
from innerloop.ops import max_pool_2x2


@pytest.mark.parametrize(
    ("options", "size", "features"),
    [
        ({}, 28, 64),
        ({"width": 32}, 28, 32),
        ({"unit_features": True}, 28, 64 * 16),
        ({"pool": "max"}, 28, 64),
        ({"pool": "max", "width": 32, "channels": 3, "image_size": 84}, 84, 32 * 25),
        ({"pool": "max", "unit_features": True}, 28, 64 * 9),
        ({"unit_features": True, "image_size": 33}, 33, 64 * 25),
    ],
)
def test_conv4_shapes(options, size, features):
    model = Conv4(7, **options)
    x = torch.rand(4, options.get("channels", 1), size, size)
    assert model.features(x).shape == (4, features)
    assert model(x).shape == (4, 7)


@torch.no_grad()
@pytest.mark.parametrize("pool", ["max", "stride"])
def test_unit_features_have_one_length_whatever_the_size_of_images(pool):
    """Logits went from 5 at 28 pixels to 401 at 224 for one inner rate."""

    def length(size, **options):
        model = Conv4(image_size=size, width=8, pool=pool, unit_features=True, **options)
        x = torch.rand(3, 1, size, size, generator=torch.Generator().manual_seed(0))
        return model.features(x).norm(dim=1)

    usual = length(28)
    for size in (16, 33, 64, 84, 224):
        torch.testing.assert_close(length(size), usual)
    # Unchanged at 28 pixels; for other sizes an option gives the old behaviour.
    torch.testing.assert_close(length(28, unit_length=False), usual, rtol=0, atol=0)
    x = torch.rand(3, 1, 64, 64)
    old = Conv4(image_size=64, width=8, pool=pool, unit_features=True, unit_length=False)
    mean_squares = old.features(x).square().mean(dim=1)
    torch.testing.assert_close(mean_squares, torch.ones(3), rtol=1e-4, atol=0)


@torch.no_grad()
def test_conv4_can_start_as_in_the_papers_code():
    model, ours = Conv4(20, init="xavier", head="normal"), Conv4(20)
    for conv in model.convs:
        bound = (6 / (9 * (conv.weight.shape[0] + conv.weight.shape[1]))) ** 0.5
        assert 0.95 * bound < conv.weight.abs().max() <= bound
        assert conv.bias.abs().max() == 0
    assert model.head.weight.std() == pytest.approx(1, abs=0.05)
    assert model.head.bias.abs().max() == ours.head.weight.abs().max() == 0
    with pytest.raises(UserError, match="init must be one of kaiming, xavier"):
        Conv4(5, init="orthogonal")


@torch.no_grad()
@pytest.mark.parametrize("head", ["random", "normal"])
def test_a_head_is_not_drawn_from_the_numbers_of_a_convolution(head):
    model = Conv4(20, head=head, seed=3)
    first = model.convs[0].weight.flatten()
    both = torch.stack([first, model.head.weight.flatten()[: len(first)]])
    assert torch.corrcoef(both)[0, 1].abs() < 0.2


def test_conv4_has_the_papers_number_of_parameters():
    # Four convolutions, four scales and shifts, one linear layer.
    count = sum(p.numel() for p in Conv4(5).parameters())
    assert count == (9 * 64 + 64) + 3 * (9 * 64 * 64 + 64) + 4 * 128 + 64 * 5 + 5


def test_tutorial_conv_sizes_and_start():
    model = TutorialConv(5)
    x = torch.rand(10, 1, 28, 28)
    sizes = []
    for conv in model.convs:
        conv.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-1]))
    with statistics_by_group(10):  # layer by layer, not block by block
        logits = model(x)
    assert sizes == [15, 5, 2, 2]
    assert model.features(x).shape == (10, 64)
    # All-ones rows with zero bias: all logits are equal, so accuracy is chance.
    assert torch.allclose(logits, logits[:, :1].expand_as(logits))
    assert all(conv.bias.abs().max() == 0 for conv in model.convs)


def test_tutorial_conv_equals_its_description():
    """Written out with PyTorch's own pooling and batch norm."""
    model = TutorialConv(5, width=8)
    x = torch.rand(10, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    h = x
    for i, (conv, norm) in enumerate(zip(model.convs, model.norms, strict=True)):
        h = F.conv2d(h, conv.weight, conv.bias, stride=2, padding=2)

        def batch_norm(h, norm=norm):
            return F.batch_norm(h, None, None, norm.weight, norm.bias, training=True)

        if i < 3:
            h = F.relu(F.max_pool2d(batch_norm(h), 2))
        else:
            h = F.max_pool2d(batch_norm(F.relu(h)), 2)
    expected = F.linear(h.flatten(1), model.head.weight, model.head.bias)
    assert torch.allclose(model(x), expected, atol=1e-6)


@pytest.mark.parametrize("make", [Conv4, TutorialConv, lambda seed: MLP(784, 5, seed=seed)])
def test_initial_weights_depend_on_the_seed_alone(make):
    torch.manual_seed(1)
    first = make(seed=3).state_dict()
    torch.manual_seed(2)
    again, other = make(seed=3).state_dict(), make(seed=4).state_dict()
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert any(not torch.equal(first[n], other[n]) for n in first)


@pytest.mark.parametrize(
    "wrong", [{"pool": "mean"}, {"head": "cosine"}, {"image_size": 12, "pool": "max"}]
)
def test_conv4_refuses(wrong):
    with pytest.raises(UserError, match=next(iter(wrong)).replace("image_size", "16 pixels")):
        Conv4(5, **wrong)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (2, 3)])
def test_max_pool_equals_pytorchs(size):
    x = torch.randn(3, 2, *size, dtype=torch.float64, requires_grad=True)
    assert torch.equal(max_pool_2x2(x), F.max_pool2d(x, 2))
    weight = torch.randn_like(F.max_pool2d(x, 2))
    ours = torch.autograd.grad((max_pool_2x2(x) * weight).sum(), x)[0]
    theirs = torch.autograd.grad((F.max_pool2d(x, 2) * weight).sum(), x)[0]
    assert torch.equal(ours, theirs)


def test_batch_norm_by_group_is_batch_norm_of_each_group():
    norm = BatchNorm(3)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(6, 3, 4, 4)
    with statistics_by_group(2):
        grouped = norm(x)
    assert torch.allclose(grouped, torch.cat([norm(part) for part in x.split(2)]))
    with statistics_by_group(6):
        assert torch.allclose(norm(x), grouped) is False


def test_batch_norm_with_the_statistics_of_the_first_rows():
    norm = BatchNorm(3)
    x = torch.randn(6, 3, 4, 4)
    with statistics_by_group(6, first=4):
        y = norm(x)
        x2 = torch.cat([x[:4], torch.randn(2, 3, 4, 4)])
        assert torch.equal(norm(x2)[:4], y[:4])
    assert torch.allclose(y[:4], norm(x[:4]), atol=1e-5)


def test_pooling_in_forward_mode():
    """The derivative along a direction, and of the derivative, inside and outside vmap."""
    generator = torch.Generator().manual_seed(0)
    x, v = torch.randn(2, 3, 4, 6, 7, generator=generator, dtype=torch.float64)

    def own(x):
        return max_pool_2x2(x).square()

    def plain(x):
        return F.max_pool2d(x, 2).square()

    def slope(f):
        return torch.func.grad(lambda x: f(x).pow(3).sum())

    for of_own, of_plain in ((own, plain), (slope(own), slope(plain))):
        expected = torch.func.jvp(of_plain, (x,), (v,))[1]
        torch.testing.assert_close(torch.func.jvp(of_own, (x,), (v,))[1], expected)
        batched = torch.func.vmap(lambda x, v, f=of_own: torch.func.jvp(f, (x,), (v,))[1])
        torch.testing.assert_close(batched(x[None], v[None])[0], expected)


def test_batch_norm_with_given_statistics():
    norm = BatchNorm(3).double()
    torch.nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(0))
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mean, variance = torch.tensor([[0.5, -1.0, 2.0], [4.0, 0.25, 1.0]], dtype=torch.float64)
    with given_statistics({norm.key: (mean, variance)}):
        y = norm(x)
        alone = norm(x[:1])
    shape = (1, 3, 1, 1)
    scale = norm.weight.view(shape) / (variance.view(shape) + norm.eps).sqrt()
    torch.testing.assert_close(y, (x - mean.view(shape)) * scale)
    torch.testing.assert_close(alone, y[:1])
    assert not torch.allclose(norm(x), y)


def test_batch_norm_notes_the_statistics_that_it_saw():
    norm = BatchNorm(3)
    x = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with seen_statistics() as seen:
        norm(x)
    mean, variance = seen[norm.key]
    torch.testing.assert_close(mean, x.mean((0, 2, 3)))
    torch.testing.assert_close(variance, x.transpose(0, 1).flatten(1).var(1))
    norm(2 * x)
    torch.testing.assert_close(seen[norm.key][0], mean)


def test_heads():
    zero, row, random = (make_head(kind, 64, 5) for kind in ("linear", "shared", "random"))
    assert zero.weight.shape == random.weight.shape == (5, 64)
    assert row.weight.shape == (1, 64)
    assert zero.weight.abs().max() == row.weight.abs().max() == random.bias.abs().max() == 0
    assert random.weight.norm(dim=1).mean().item() == pytest.approx(1, abs=0.2)
    assert torch.equal(random.weight, make_head("random", 64, 5).weight)
    assert not torch.equal(random.weight, make_head("random", 64, 5, seed=1).weight)
    with pytest.raises(UserError, match="head must be 'linear', 'random', 'normal' or 'shared'"):
        make_head("zero", 64, 5)
