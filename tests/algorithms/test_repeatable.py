"""Operations in a form that can be differentiated twice: the numbers are PyTorch's own."""

import pytest
import torch
from torch import nn

from innerloop.algorithms import noise

B, L, E = 3, 5, 8
CASES = {
    "a sequence to itself": ({}, {}),
    "time first": ({"batch_first": False}, {}),
    "no bias": ({"bias": False}, {}),
    "weights asked for": ({}, {"need_weights": True}),
    "a mask": ({}, {"attn_mask": torch.ones(L, L, dtype=torch.bool).triu(1)}),
    "causal": (
        {},
        {"attn_mask": nn.Transformer.generate_square_subsequent_mask(L), "is_causal": True},
    ),
    "padding": ({}, {"key_padding_mask": torch.arange(L).expand(B, L) > 3}),
    "zeros to look at": ({"add_zero_attn": True}, {}),
    "a key for all": ({"add_bias_kv": True}, {}),
    "widths of its own": ({"kdim": E, "vdim": E + 1}, {}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("other", [False, True], ids=["itself", "another"])
def test_attention_of_several_heads(case, other):
    made, asked = CASES[case]
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(E, 2, **{"batch_first": True, "dtype": torch.float64} | made)
    first = (B, L, E) if layer.batch_first else (L, B, E)
    x = torch.randn(first, dtype=torch.float64, requires_grad=True)
    value = x if layer.vdim == E else torch.randn(*first[:2], layer.vdim, dtype=torch.float64)
    key = x.flip(0) if other else x
    options = {"need_weights": False} | asked

    def found():
        y, weights = layer(x, key, value, **options)
        gradient = torch.autograd.grad(y.square().sum(), (x, *layer.parameters()))
        return [y, *gradient] + ([] if weights is None else [weights])

    theirs = found()
    with noise.calls(training=True), noise.drawing(False, x):
        ours = found()
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("inplace", [False, True])
def test_the_hard_sigmoid_has_a_second_derivative(inplace):
    x = torch.linspace(-5, 5, 12, dtype=torch.float64, requires_grad=True)
    wanted = torch.nn.functional.hardsigmoid(x)
    with noise.drawing(False, x):
        y = nn.Hardsigmoid(inplace)(x * 1)
    torch.testing.assert_close(y, wanted)
    slope = torch.autograd.grad(y.square().sum(), x, create_graph=True)[0]
    torch.testing.assert_close(slope, torch.autograd.grad(wanted.square().sum(), x)[0])
    inside = (x.detach().abs() < 3).double()
    torch.testing.assert_close(torch.autograd.grad(slope.sum(), x)[0], inside / 18)


def test_a_hint_that_attention_is_causal_is_not_lost():
    """PyTorch wants the mask, too."""
    x = torch.randn(B, L, E)
    layer = nn.MultiheadAttention(E, 2, batch_first=True)
    with noise.drawing(False, x), pytest.raises(RuntimeError, match="is_causal"):
        layer(x, x, x, need_weights=False, is_causal=True)


def test_one_sequence_without_a_batch():
    layer = nn.MultiheadAttention(E, 2, dtype=torch.float64)
    x = torch.randn(L, E, dtype=torch.float64)
    with noise.drawing(False, x):
        ours = layer(x, x, x, need_weights=False)[0]
    torch.testing.assert_close(ours, layer(x, x, x, need_weights=False)[0])


def test_dropout_in_attention_is_that_of_the_key():
    layer = nn.MultiheadAttention(E, 2, dropout=0.5, batch_first=True)
    x = torch.randn(B, L, E)

    def outputs(key, training=True):
        layer.train(training)
        with noise.calls(training=training, keys=(key,)), noise.at(0), noise.drawing(False, x):
            return layer(x, x, x, need_weights=False)[0]

    assert torch.equal(outputs(1), outputs(1))
    assert not torch.equal(outputs(1), outputs(2))
    assert torch.equal(outputs(1, False), outputs(2, False))
