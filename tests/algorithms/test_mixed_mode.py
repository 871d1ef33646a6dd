"""Both ways to the second derivatives give the same numbers."""

from __future__ import annotations

import math
import weakref
from collections import Counter

import pytest
import torch
from torch import nn

from innerloop import ANIL, BOIL, MAML, MAMLPlusPlus, MetaSGD, UserError
from innerloop.algorithms.mixed_mode import Place, _backwards
from innerloop.inner import SGD, Adam
from innerloop.models import MLP, Conv4, TutorialConv
from tests.helpers import NormNet, random_episodes, relative_error


def both(make, model, episodes, progress=1.0, execution="vmap", **options):
    """Meta-gradients in reverse and in mixed mode."""
    results = []
    for derivative in ("reverse", "mixed"):
        algorithm = make(model, derivative=derivative, execution=execution, **options)
        params = algorithm.init_params()
        results.append(algorithm.meta_gradient(params, episodes, progress))
    return results


@pytest.mark.parametrize("norm", ["batch", "layer", "group", "instance", "none"])
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("execution", ["vmap", "loop"])
def test_every_norm(norm, steps, execution):
    """Forward over reverse under vmap, reverse over reverse in a loop."""
    model = NormNet(norm).double()
    (reverse, a), (mixed, b) = both(
        MAML, model, random_episodes(), execution=execution, inner_lr=0.3, inner_steps=steps
    )
    assert relative_error(mixed, reverse) < 1e-12
    assert a["loss"].item() == pytest.approx(b["loss"].item(), rel=1e-12)


@pytest.mark.parametrize("make", [MAML, ANIL, BOIL, MetaSGD, MAMLPlusPlus])
@pytest.mark.parametrize("options", [{}, {"inner_max_norm": 0.05}, {"bn": "support"}])
def test_every_kind_of_inner_loop(make, options):
    """Rates, norms and weights that the inner loop leaves alone have derivatives, too."""
    model = Conv4(3, width=4, image_size=16, pool="max", head="random").double()
    if make is MAMLPlusPlus:
        options = {**options, "multi_step_loss_until": 1.0, "per_step_statistics": False}
    (reverse, _), (mixed, _) = both(
        make, model, random_episodes(), 0.5, inner_lr=0.1, inner_steps=3, **options
    )
    assert relative_error(mixed, reverse) < 1e-12


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Conv4(3, width=4, image_size=16), (1, 16, 16)),
        (Conv4(3, width=4, image_size=16, pool="max", unit_features=True), (1, 16, 16)),
        (Conv4(3, width=4, image_size=16, head="shared"), (1, 16, 16)),
        (TutorialConv(3, width=4), (1, 28, 28)),
        (MLP(256, 3, hidden=(8,)), (1, 16, 16)),
    ],
    ids=["stride", "unit", "shared", "tutorial", "mlp"],
)
def test_own_networks(model, shape):
    model = model.double()
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    (reverse, _), (mixed, _) = both(
        MAML, model, random_episodes(shape=shape), inner_lr=0.1, inner_steps=2
    )
    assert relative_error(mixed, reverse) < 1e-12


@pytest.mark.parametrize("steps", [8, 9, 16, 17, 70])
def test_inner_loops_that_are_taken_in_stretches(steps):
    """Steps are computed again where their weights were not kept."""
    model = MLP(4, 3, hidden=(5,)).double()
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    episodes = random_episodes(shape=(4,))
    for execution in ("stacked", "vmap", "loop"):
        (reverse, _), (mixed, _) = both(
            MAML, model, episodes, execution=execution, inner_lr=0.1, inner_steps=steps
        )
        assert relative_error(mixed, reverse) < 1e-12


@pytest.mark.parametrize("steps", [1, 7, 8, 9, 63, 64, 65, 100, 200, 1000])
def test_few_sets_of_weights_are_kept_and_no_step_is_taken_three_times(steps):
    alive = weakref.WeakSet()
    taken = Counter()
    most = 0

    def weights(step):
        p = torch.tensor(float(step))
        alive.add(p)
        return {"w": p}

    def take(place):
        nonlocal most
        taken[place.step] += 1
        most = max(most, len(alive))
        return {"w": torch.zeros(())}, Place(place.step + 1, weights(place.step + 1), None)

    seen = []
    for place, slope in _backwards(Place(0, weights(0), None), steps, take):
        assert place.fast["w"].item() == place.step
        assert (slope is None) == (place.step == steps)
        seen.append(place.step)
        most = max(most, len(alive))
    assert seen == list(reversed(range(steps + 1)))
    assert set(taken) == set(range(steps))
    assert max(taken.values()) == (1 if steps <= 8 else 2)
    # The last stretch is not computed again.
    assert taken[steps - 1] == 1
    assert most <= max(8, math.ceil(steps**0.5)) + math.ceil(steps / max(8, steps**0.5)) + 3


def test_masks_of_dropout_are_the_same_when_a_step_is_taken_again():
    """Also with an inner loss of the user's own, which does not use the step number."""

    class Own(MAML):
        def inner_loss(self, params, fast, support, step):
            x, y = support.batch(step)
            return self.loss(self.forward({**params, **fast}, x), y)

    model = nn.Sequential(
        nn.Flatten(), nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3)
    ).double()
    episodes, keys = random_episodes(shape=(4,)), (3, 1, 4)
    for make in (MAML, Own):
        for execution in ("vmap", "loop"):
            found = []
            for derivative in ("reverse", "mixed"):
                maml = make(model, 0.2, 20, derivative=derivative, execution=execution)
                params = maml.init_params()
                found.append(maml.meta_gradient(params, episodes, keys=keys)[0])
            assert relative_error(found[1], found[0]) < 1e-12
            other = maml.meta_gradient(params, episodes, keys=(2, 7, 1))[0]
            assert relative_error(other, found[0]) > 1e-3


def test_first_order_is_first_order_in_either_mode():
    model, episodes = NormNet("batch").double(), random_episodes()
    one = MAML(model, 0.3, 2, first_order=True)
    other = MAML(model, 0.3, 2, first_order=True, derivative="mixed")
    params = one.init_params()
    assert (
        relative_error(
            one.meta_gradient(params, episodes)[0], other.meta_gradient(params, episodes)[0]
        )
        < 1e-15
    )


class Complex(nn.Module):
    """A complex weight beside a real one."""

    def __init__(self):
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.wave = nn.Parameter(torch.randn(4, 3, dtype=torch.complex128, generator=draws))
        self.bias = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def forward(self, x):
        return (x.to(self.wave.dtype) @ self.wave).tanh().abs() + self.bias


@pytest.mark.parametrize("optimizer", [SGD(0.9), SGD(0.9, 0.1, True), Adam(eps=1e-2)], ids=repr)
def test_complex_states_of_an_optimiser_carry_derivatives(optimizer):
    (reverse, _), (mixed, _) = both(
        MAML,
        Complex(),
        random_episodes(shape=(4,)),
        execution="auto",
        inner_lr=0.1,
        inner_steps=4,
        inner_optimizer=optimizer,
    )
    assert relative_error(mixed, reverse) < 1e-12


def test_mistake_is_named():
    with pytest.raises(UserError, match="derivative must be one of reverse, mixed"):
        MAML(MLP(4, 2), derivative="forward")
