"""Hooks of a user's own that return something else are named."""

from __future__ import annotations

import pytest
import torch

from innerloop import MAML, UserError, inner
from tests.algorithms.networks import Small, stackable
from tests.helpers import random_episodes

TREES = [None, [1], "a", (1, 2), torch.zeros(2), {"a": 1}]
HOOKS = {
    "start": "must return a dict of tensors by parameter name",
    "rest": "must return a dict of tensors by parameter name",
    "loss_after_adaptation": "must return ",
    "task_gradient": "must return ",
    "mean_gradient": "must return ",
    "init_params": "must return a dict of tensors by parameter name",
    "step_weights": "must return 2 numbers",
}


def own(hook, found):
    return type("Own", (MAML,), {hook: lambda self, *_, **__: found})


def of_hook(hook, kind):
    return kind(stackable(), 0.1, execution="stacked" if hook == "mean_gradient" else "auto")


@pytest.mark.parametrize("found", TREES, ids=str)
@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_that_return_something_else_are_named(hook, found):
    if hook == "step_weights" and (found is TREES[3] or found is TREES[4]):
        return  # two numbers
    algorithm, params = of_hook(hook, own(hook, found)), MAML(stackable()).init_params()
    with pytest.raises(UserError, match=f"{hook} of Own {HOOKS[hook]}"):
        algorithm.meta_gradient(params, random_episodes())


@pytest.mark.parametrize("found", [None, "fast", [0.1], {"a": "fast"}, (1, 2)], ids=str)
@pytest.mark.parametrize("call", ["meta_gradient", "score_steps"])
def test_rates_are_numbers(found, call):
    algorithm = own("rates", found)(Small(), 0.1)
    with pytest.raises(UserError, match="rates of Own must return the inner learning rates"):
        getattr(algorithm, call)(algorithm.init_params(), random_episodes())


@pytest.mark.parametrize("optimizer", [None, inner.SGD(0.9)], ids=repr)
@pytest.mark.parametrize("execution", ["stacked", "vmap", "loop"])
@pytest.mark.parametrize("lead", [2, 1, 7], ids="lead={}".format)
def test_rates_that_do_not_fit_are_refused_however_tasks_are_computed(lead, execution, optimizer):
    """Two, as many as there are tasks, would fit the weights of all tasks."""

    class Own(MAML):
        def rates(self, params, step):
            return {n: torch.full((lead, *p.shape), 0.1) for n, p in params.items()}

    algorithm = Own(stackable(), 0.1, 2, execution=execution, inner_optimizer=optimizer)
    with pytest.raises(UserError, match=r"learning rate of .* does not broadcast against"):
        algorithm.meta_gradient(algorithm.init_params(), random_episodes(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g, m: (dict(list(g.items())[1:]), m), "a gradient for each .* there is none for"),
        (lambda g, m: (g | {"more": m["loss"]}, m), "more is none of them"),
        (lambda g, m: (g, {}), "the metrics have no 'loss'"),
        (lambda g, m: (g, {"loss": 1.0}), "'loss' must be a tensor, not a float"),
        (lambda g, m: (g, None), "must be a dict, not a NoneType"),
    ],
)
@pytest.mark.parametrize("hook", ["task_gradient", "mean_gradient"])
def test_gradients_are_those_of_the_meta_parameters(hook, change, message):
    usual = getattr(MAML, hook)
    kind = type("Own", (MAML,), {hook: lambda self, *a, **k: change(*usual(self, *a, **k))})
    algorithm = of_hook(hook, kind)
    with pytest.raises(UserError, match=f"{hook} of Own.* {message}"):
        algorithm.meta_gradient(algorithm.init_params(), random_episodes())


class Updates:
    def __init__(self, found, elementwise):
        self.found, self.elementwise = found, elementwise

    def init(self, weights):
        return None

    def update(self, weights, gradient, state, rates):
        return self.found({n: p - rates * gradient[n] for n, p in weights.items()})


@pytest.mark.parametrize("elementwise", [True, False])
@pytest.mark.parametrize(
    ("found", "message"),
    [
        (lambda w: None, r"must return \(weights, state\).* not a NoneType"),
        (lambda w: w, r"must return \(weights, state\).* not a dict"),
        (lambda w: (w,), r"must return \(weights, state\).* not a tuple"),
        (lambda w: (w, object()), "this one holds a object"),
        (lambda w: (None, None), "must return the weights after the step"),
    ],
)
def test_an_inner_optimizer_that_returns_something_else_is_named(found, message, elementwise):
    maml = MAML(Small(), 0.1, 2, inner_optimizer=Updates(found, elementwise))
    with pytest.raises(UserError, match=message):
        maml.meta_gradient(maml.init_params(), random_episodes())


@pytest.mark.parametrize("derivative", ["reverse", "mixed"])
def test_an_inner_optimizer_may_fill_the_dict_that_it_is_given(derivative):
    class Fills(Updates):
        def update(self, weights, gradient, state, rates):
            for name, slope in gradient.items():
                weights[name] = weights[name] - rates * slope
            return weights, None

    episodes = random_episodes()
    found, wanted = (
        MAML(Small(), 0.1, 2, derivative=derivative, inner_optimizer=optimizer)
        for optimizer in (Fills(None, True), Updates(lambda w: (w, None), True))
    )
    params = found.init_params()
    grads, _ = found.meta_gradient(params, episodes)
    for name, g in wanted.meta_gradient(params, episodes)[0].items():
        assert torch.equal(grads[name], g)
