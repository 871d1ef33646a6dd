"""The benchmarks compare like with like, and count the arithmetic rightly."""

import warnings

import pytest
import torch
from benchmarks import peers, scaling, speed
from torch import nn

from innerloop.models import Conv4, TutorialConv

WORKS = {
    "tutorial": speed.Workload(lambda: TutorialConv(3, width=16), 2, 3, 1, 2, 2, 0.04),
    "strided": speed.Workload(
        lambda: Conv4(3, width=16, image_size=16, head="random"), 2, 3, 1, 2, 2, 0.1, (1, 16, 16)
    ),
}


@pytest.mark.parametrize("order", speed.ORDERS)
@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
def test_all_contestants_compute_the_same_gradient(work, order):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = speed.contestants(work, order, torch.float64)
        gradients = {name: meta_gradient() for name, meta_gradient in made.items()}
    assert {"innerloop", "higher", "torch.func vmap"} <= gradients.keys()
    assert ("tutorial" in gradients) == (order == "first" and work is WORKS["tutorial"])
    exact = peers.exact_vmap(peers.Plain(work.make()), order == "first")
    for name, gradient in gradients.items():
        if name != "torch.func vmap" or exact:
            assert speed.difference(gradients["innerloop"], gradient) < 1e-9, name


def test_difference_is_relative():
    a, b = {"w": torch.tensor([3.0, 4.0])}, {"w": torch.tensor([3.0, 4.5])}
    assert speed.difference(a, b) == pytest.approx(0.1)


def test_multiply_adds_by_hand():
    work = WORKS["strided"]
    # 16 -> 8 -> 4 -> 2 -> 1 pixels a side, 9 x 1 or 9 x 16 inputs, 16 filters; then 16 x 3.
    first = 8 * 8 * 16 * 9
    others = (4 * 4 + 2 * 2 + 1) * 16 * 9 * 16 + 16 * 3
    step, images = 2 * first + 3 * others, 2 * 3 + 3 * 2
    assert speed.multiply_adds(work, "first") == 2 * step * images
    more = 2 * 2 * 3 * (2 * first + 6 * others)
    assert speed.multiply_adds(work, "second") == 2 * step * images + more


def test_plain_network_is_the_same_function():
    for work in WORKS.values():
        ours = work.make()
        assert not any(type(m) is not nn.Conv2d for m in peers.Plain(ours).convs)
        x = torch.rand(6, *work.shape)
        torch.testing.assert_close(peers.Plain(ours)(x), ours(x), rtol=1e-4, atol=1e-5)


def test_efficiency_of_a_ring():
    # Two processes: each sends the gradient once, in two messages.
    assert scaling.efficiency(1.0, 100.0, 2, 100.0, 0.5) == pytest.approx(1 / 3)
    assert scaling.efficiency(1.0, 100.0, 1, 100.0, 0.5) == 1
