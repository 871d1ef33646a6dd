"""Both ways to the second derivatives give the same numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from innerloop import ANIL, BOIL, MAML, MAMLPlusPlus, MetaSGD, UserError
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


def test_mistake_is_named():
    with pytest.raises(UserError, match="derivative must be one of reverse, mixed"):
        MAML(MLP(4, 2), derivative="forward")
