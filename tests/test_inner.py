"""The inner optimisers by themselves, against those of PyTorch and by finite differences."""

from __future__ import annotations

import pytest
import torch

from innerloop import UserError
from innerloop.inner import SGD, Adam, InnerOptimizer

PAIRS = {
    "sgd": (SGD(), torch.optim.SGD, {}),
    "momentum": (SGD(0.9), torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (
        SGD(0.8, 0.1, nesterov=True),
        torch.optim.SGD,
        {"momentum": 0.8, "weight_decay": 0.1, "nesterov": True},
    ),
    "decay": (SGD(weight_decay=0.2), torch.optim.SGD, {"weight_decay": 0.2}),
    "adam": (Adam(), torch.optim.Adam, {}),
    "adam, decay": (
        Adam((0.8, 0.9), 1e-3, 0.1),
        torch.optim.Adam,
        {"betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1},
    ),
    "adamw": (
        Adam(weight_decay=0.3, decoupled_weight_decay=True),
        torch.optim.AdamW,
        {"weight_decay": 0.3},
    ),
}


def test_a_small_number_that_is_zero_in_the_precision_of_a_weight_is_refused():
    weights = {"a": torch.ones(2, dtype=torch.float16)}
    with pytest.raises(UserError, match=r"1e-08 of the optimiser is 0 in torch\.float16"):
        Adam().init(weights)
    Adam(eps=1e-4).init(weights)
    Adam().init({"a": torch.ones(2, dtype=torch.bfloat16)})


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss(w):
    real = (w["a"] ** 4).sum() + (w["a"].sum() - w["b"]).square().sum()
    return real + (w["c"] ** 3 + w["a"][0]).abs().sum()


def descent(optimizer, weights, steps=5, rates=0.05):
    """Steps by hand, differentiable; yields nothing but the end."""
    state = optimizer.init(weights)
    for _ in range(steps):
        slope = dict(
            zip(
                weights,
                torch.autograd.grad(loss(weights), list(weights.values()), create_graph=True),
                strict=True,
            )
        )
        weights, state = optimizer.update(weights, slope, state, rates)
    return weights


def start():
    weights = {"a": numbers(3), "b": numbers(2, seed=1)}
    weights["c"] = torch.complex(numbers(4, seed=2), numbers(4, seed=3))
    return {name: w.requires_grad_() for name, w in weights.items()}


@pytest.mark.parametrize("name", PAIRS)
def test_the_weights_are_those_of_torch_optim(name):
    optimizer, kind, options = PAIRS[name]
    assert isinstance(optimizer, InnerOptimizer)
    theirs = {n: p.detach().clone().requires_grad_() for n, p in start().items()}
    steps = kind(
        [
            {"params": [theirs["a"], theirs["c"]], "lr": 0.05},
            {"params": [theirs["b"]], "lr": 0.02},
        ],
        **options,
    )
    for _ in range(5):
        steps.zero_grad()
        loss(theirs).backward()
        steps.step()
    ours = descent(optimizer, start(), rates={"a": 0.05, "b": 0.02, "c": 0.05})
    for n, p in theirs.items():
        torch.testing.assert_close(ours[n], p, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", PAIRS)
def test_the_derivative_through_the_steps_equals_finite_differences(name):
    optimizer = PAIRS[name][0]

    def end(a, b, c):
        a, b, c = descent(optimizer, {"a": a, "b": b, "c": c}, 3).values()
        return torch.cat([a, b, c.real, c.imag])

    assert torch.autograd.gradcheck(end, tuple(start().values()), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_derivative_of_adam_at_a_gradient_of_zero(dtype):
    """The first step is g / (|g| + ε), whose derivative at 0 is 1 / ε."""
    optimizer, weights = Adam(eps=1e-2), {"a": torch.zeros(2, dtype=dtype)}

    def step(g):
        state = optimizer.init(weights)
        updated, state = optimizer.update(weights, {"a": g}, state, 0.5)
        return optimizer.update(updated, {"a": 0 * g}, state, 0.5)[0]["a"]

    g = torch.tensor([0.0, 1.0], dtype=dtype)
    found = torch.func.jacrev(step)(g)
    torch.testing.assert_close(found, torch.func.jacfwd(step)(g))
    assert found.isfinite().all()
    # A second step of length 0.5 m̂ / ε, m̂ = 0.09 g / 0.19, follows in the same direction.
    expected = -0.5 / 1e-2 * (1 + 0.09 / 0.19)
    assert found[0, 0].item() == pytest.approx(expected, rel=1e-5)


def test_arguments_are_not_written_to():
    for optimizer, *_ in PAIRS.values():
        weights = {n: p.detach() for n, p in start().items()}
        slope, kept = (
            {n: p + 1 for n, p in weights.items()},
            {n: p.clone() for n, p in weights.items()},
        )
        state = optimizer.init(weights)
        first, _ = optimizer.update(weights, slope, state, 0.1)
        again, _ = optimizer.update(weights, slope, state, 0.1)
        assert all(torch.equal(weights[n], kept[n]) for n in kept)
        assert all(torch.equal(first[n], again[n]) for n in kept)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(1.0), "momentum must be at least 0 and less than 1, not 1.0"),
        (lambda: SGD(weight_decay=-1), "weight_decay must be at least 0"),
        (lambda: SGD(nesterov=True), "nesterov needs a momentum"),
        (lambda: Adam((0.9, 1.0)), r"betas\[1\] must be at least 0 and less than 1"),
        (lambda: Adam(eps=0.0), "eps must be greater than 0"),
        (lambda: Adam(weight_decay=float("nan")), "weight_decay must be at least 0"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()
