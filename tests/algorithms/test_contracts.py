"""What every registered algorithm must hold to, in float64; the table is contracts.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import innerloop
from innerloop import registry
from innerloop.algorithms import ALGORITHMS
from innerloop.models import Conv4
from tests.algorithms.contracts import CONTRACTS, ONE_AND_THREE
from tests.algorithms.networks import (
    GRUClassifier,
    Small,
    Tied,
    TransformerClassifier,
)
from tests.helpers import directional_derivative, random_episodes, relative_error

names = pytest.mark.parametrize("name", CONTRACTS)


def test_every_registered_algorithm_has_its_row():
    """An algorithm without a contract cannot be registered."""
    assert list(ALGORITHMS) == list(CONTRACTS) == list(registry.OURS)


@names
def test_sums_by_hand(name):
    for sum_ in CONTRACTS[name].sums():
        algorithm = sum_.algorithm
        grads, metrics = algorithm.meta_gradient(
            algorithm.init_params(), sum_.episodes or ONE_AND_THREE, sum_.progress
        )
        assert metrics["loss"].item() == pytest.approx(sum_.loss)
        assert {n: g.tolist() for n, g in grads.items()} == {
            n: pytest.approx(g, abs=1e-12) for n, g in sum_.gradient.items()
        }


@names
def test_equals_a_naive_loop_over_tasks(name):
    model, episodes = Small(), random_episodes()
    algorithm = CONTRACTS[name].make(model)
    params = algorithm.init_params()
    grads, metrics = algorithm.meta_gradient(params, episodes)
    expected = CONTRACTS[name].naive(model, params, episodes)
    assert relative_error(grads, expected) < 1e-10
    assert set(metrics) == {"loss", "accuracy"}


@names
@pytest.mark.parametrize("chunk_size", [None, 2])
def test_gradients_are_in_memory_as_the_parameters_are(name, chunk_size):
    """PyTorch's optimisers require this on a GPU; elsewhere it saves a copy."""
    algorithm = CONTRACTS[name].make(Conv4(3, width=16, image_size=16, head="random"))
    algorithm.chunk_size = chunk_size
    params = algorithm.init_params()
    grads, _ = algorithm.meta_gradient(params, random_episodes(dtype=torch.float32))
    for n, p in params.items():
        assert grads[n].stride() == p.stride(), n
        assert grads[n].dtype == p.dtype


@names
@pytest.mark.parametrize("network", [GRUClassifier, TransformerClassifier])
def test_networks_of_others_equal_a_naive_loop(name, network):
    algorithm = CONTRACTS[name].foreign(network())
    episodes = random_episodes(shape=(5, 4))
    params = algorithm.init_params()
    grads, _ = algorithm.meta_gradient(params, episodes)
    expected = CONTRACTS[name].naive(algorithm.model, params, episodes)
    assert relative_error(grads, expected) < 1e-10


@names
def test_the_graph_of_parameters_passed_in_is_not_recorded(name):
    """A network's own parameters, which ask for gradients, serve as well as copies."""
    algorithm, episodes = CONTRACTS[name].make(Small()), random_episodes()
    params = {n: p.requires_grad_() for n, p in algorithm.init_params().items()}
    grads, metrics = algorithm.meta_gradient(params, episodes)
    assert not any(t.requires_grad for t in (*grads.values(), *metrics.values()))


@names
def test_finite_differences(name):
    """Second order means that the derivative is that of the loss."""
    contract = CONTRACTS[name]
    algorithm, episodes = contract.make(Small()), random_episodes()
    params = algorithm.init_params()
    grads, _ = algorithm.meta_gradient(params, episodes)
    generator = torch.Generator().manual_seed(3)
    direction = {
        n: torch.zeros_like(p)
        if n in algorithm.moving_averages
        else torch.randn(p.shape, generator=generator, dtype=p.dtype)
        for n, p in params.items()
    }
    numeric = directional_derivative(
        lambda params: algorithm.meta_gradient(params, episodes)[1]["loss"], params, direction
    )
    along = sum((grads[n] * direction[n]).sum() for n in grads).item()
    if contract.is_gradient:
        assert along == pytest.approx(numeric, rel=1e-6)
    else:
        assert abs(along - numeric) > 1e-3 * abs(numeric)


@names
def test_shared_frozen_and_unused_parameters(name):
    model, episodes = Tied(), random_episodes(shape=(6,))
    algorithm = CONTRACTS[name].make(model)
    params = algorithm.init_params()
    assert not any("frozen" in n for n in params)
    grads, _ = algorithm.meta_gradient(params, episodes)
    expected = CONTRACTS[name].naive(model, params, episodes)
    assert relative_error(grads, expected) < 1e-10
    assert grads["unused.weight"].abs().max() == 0


@names
def test_nothing_passed_in_is_changed(name):
    model, episodes = Small(), random_episodes()
    own = {n: p.clone() for n, p in model.named_parameters()}
    algorithm = CONTRACTS[name].make(model)
    params = algorithm.init_params()
    kept = {n: p.clone() for n, p in params.items()}
    inputs = [t.clone() for t in episodes]
    algorithm.meta_gradient(params, episodes)
    task = episodes.task(0)
    adapted = algorithm.adapt(params, task.support_x, task.support_y)
    algorithm.query_loss(adapted, task)
    assert all(torch.equal(params[n], kept[n]) for n in kept)
    assert all(torch.equal(p, own[n]) for n, p in model.named_parameters())
    assert all(torch.equal(a, b) for a, b in zip(episodes, inputs, strict=True))
    again = algorithm.init_params()
    next(iter(again.values())).zero_()
    assert all(torch.equal(p, own[n]) for n, p in model.named_parameters())


@names
@pytest.mark.parametrize("chunk_size", [1, 2, 9])
def test_chunks_do_not_change_the_result(name, chunk_size):
    episodes = random_episodes(tasks=5)
    whole = CONTRACTS[name].make(Small())
    chunked = CONTRACTS[name].make(Small(), chunk_size=chunk_size)
    params = whole.init_params()
    a, b = whole.meta_gradient(params, episodes), chunked.meta_gradient(params, episodes)
    assert relative_error(a[0], b[0]) < 1e-12
    assert a[1]["accuracy"].item() == pytest.approx(b[1]["accuracy"].item())


@names
@pytest.mark.parametrize("bn", ["transductive", "support"])
@pytest.mark.parametrize("head", ["random", "shared"])
@pytest.mark.parametrize("steps", [1, 3])
def test_every_short_cut_equals_the_general_path(name, bn, head, steps):
    """Features computed for all tasks in one batch, once for all steps: the same numbers."""
    model = Conv4(3, width=4, image_size=16, head=head, unit_features=True).double()
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    if name == "boil" and head == "shared":
        with pytest.raises(innerloop.UserError, match="shared head"):
            CONTRACTS[name].make(model)
        return
    options = {} if name in ("protonet", "fine-tune") else {"inner_steps": steps}
    algorithm = CONTRACTS[name].make(model, bn=bn, **options)
    params, episodes = algorithm.init_params(), random_episodes()
    if name != "fine-tune":  # its training has no tasks, and only one way of computing
        grads, metrics = algorithm.meta_gradient(params, episodes)
        algorithm.execution = "vmap"
        general, same = algorithm.meta_gradient(params, episodes)
        # Beside the weights: one step from a shared head moves nothing, but for rounding.
        ends = [{n: params[n] + g[n] for n in params} for g in (grads, general)]
        assert relative_error(*ends) < 1e-10
        assert metrics["loss"].item() == pytest.approx(same["loss"].item(), rel=1e-10)
    task = episodes.task(0)
    predict = algorithm.predictor(params, task.support_x, task.query_x)
    for fast in algorithm.inner_loop(params, task.support_x, task.support_y, inner_steps=2):
        torch.testing.assert_close(
            predict(fast), algorithm.query_outputs(fast, task.support_x, task.query_x)
        )


@pytest.mark.long
@names
def test_learns_on_glyphs_saves_and_loads(name, tmp_path):
    config = {
        "algorithm": name,
        "glyph_classes": 200,
        "width": 8,
        "iterations": 15,
        "val_every": 15,
        "val_tasks": 4,
        "test_tasks": 24,
        "seed": 1,
    }
    run = innerloop.train(out=tmp_path / "run", **config)
    assert run.results["algorithm"] == name
    untrained = innerloop.train(
        out=tmp_path / "untrained", **config | {"iterations": 1, "meta_lr": 1e-12}
    )
    assert run.results["accuracy"] > untrained.results["accuracy"] + 0.05
    loaded = innerloop.load(run.folder)
    assert type(loaded.algorithm) is ALGORITHMS[name]
    assert loaded.params.keys() == run.params.keys()
    assert all(torch.equal(p, loaded.params[n]) for n, p in run.params.items())
