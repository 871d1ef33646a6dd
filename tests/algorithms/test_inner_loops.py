"""What an inner loop of one task yields: all weights, and as many sets as it has steps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from innerloop import (
    ANIL,
    IMAML,
    MAML,
    Algorithm,
    FineTune,
    MAMLPlusPlus,
    MetaSGD,
    Reptile,
    UserError,
    evaluate,
)
from innerloop.functional import gradient
from innerloop.models import MLP
from tests.helpers import random_episodes, relative_error

SHAPE = (16, 16)


def network():
    return MLP(256, 3, hidden=(6,)).double()


def moved(params):
    """Weights that are not the module's own."""
    return {name: 1.5 * p + 0.1 for name, p in params.items()}


def going_on(base):
    """A subclass that goes on with the usual inner loop."""

    class Own(base):
        def inner_loop(self, *sets, **options):
            yield from super().inner_loop(*sets, **options)

    return Own


@pytest.mark.parametrize("make", [ANIL, FineTune, lambda *a: MAML(*a, adapted="head")])
def test_adapted_weights_are_all_that_forward_needs(make):
    """Also where adaptation itself needs the head alone."""
    algorithm = make(network(), 0.3, 2)
    params, task = moved(algorithm.init_params()), random_episodes().task(0)
    fast = algorithm.adapt(params, task.support_x, task.support_y)
    weights = {n: p for n, p in {**params, **fast}.items() if "@" not in n}
    expected = functional_call(algorithm.model, weights, task.query_x)
    assert torch.equal(algorithm.forward(fast, task.query_x), expected)
    found = algorithm.query_outputs(fast, task.support_x, task.query_x)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("base", [ANIL, MAML, MetaSGD, MAMLPlusPlus, IMAML, Reptile, FineTune])
@pytest.mark.parametrize("adapted", [None, "head"])
def test_an_inner_loop_that_goes_on_with_the_usual_one_changes_nothing(base, adapted):
    kinds = (base, going_on(base))
    usual, own = (kind(network(), 0.3, 3, adapted=adapted) for kind in kinds)
    params, episodes = moved(usual.init_params()), random_episodes()
    expected, metrics = usual.meta_gradient(params, episodes)
    found, others = own.meta_gradient(params, episodes)
    assert relative_error(found, expected) < 1e-10
    assert others["loss"].item() == pytest.approx(metrics["loss"].item(), rel=1e-12)


@pytest.mark.parametrize("base", [MAML, MetaSGD, MAMLPlusPlus])
@pytest.mark.parametrize("progress", [0.2, 0.7])
@pytest.mark.parametrize("execution", ["vmap", "loop"])
def test_second_derivatives_begin_where_they_are_said_to(base, progress, execution):
    options = {"second_order_from": 0.5, "execution": execution}
    usual, own = (kind(network(), 0.3, 3, **options) for kind in (base, going_on(base)))
    params, episodes = usual.init_params(), random_episodes()
    expected, _ = usual.meta_gradient(params, episodes, progress)
    found, _ = own.meta_gradient(params, episodes, progress)
    assert relative_error(found, expected) < 1e-12


class Early(Algorithm):
    """Stops where the support loss is small."""

    inner_steps = 3
    below = 1.1
    again = False

    def inner_loop(self, params, support_x, support_y, *, inner_steps=None, n_way=None):
        fast = self.fast_weights(params, n_way)
        yield fast
        done = False
        for _ in range(self.inner_steps if inner_steps is None else inner_steps):

            def loss(weights):
                return self.loss(self.forward(weights, support_x), support_y)

            done = done or loss(fast).item() < self.below
            if not done:
                slope = gradient(loss, fast, create_graph=True)
                fast = {name: p - 0.5 * slope[name] for name, p in fast.items()}
            elif not self.again:
                return
            yield fast


def stopping(**attributes):
    """Tasks of which some stop before their first step, and some do not."""
    algorithm, episodes = Early(network(), execution="loop"), random_episodes()
    draws = torch.Generator().manual_seed(0)
    params = {
        name: torch.randn(p.shape, generator=draws, dtype=p.dtype) / 4
        for name, p in algorithm.init_params().items()
    }
    losses = [
        F.cross_entropy(algorithm.forward(params, x), y)
        for x, y in zip(episodes.support_x, episodes.support_y, strict=True)
    ]
    vars(algorithm).update(attributes, below=torch.stack(losses).median().item() + 1e-6)
    return algorithm, params, episodes


def test_tasks_that_stop_early_are_named():
    algorithm, params, episodes = stopping()
    grads, _ = algorithm.meta_gradient(params, episodes)
    assert grads.keys() == params.keys()
    sets = episodes.support_x, episodes.support_y
    with pytest.raises(UserError, match=r"Early takes more steps in one task.* again"):
        algorithm.score_steps(params, episodes)
    with pytest.raises(UserError, match="takes more steps in one task"):
        algorithm.inner_loop_each(params, *sets)
    assert algorithm.score_steps(params, episodes, every_step=False)["loss"].shape[1] == 1


class OneByOne:
    def __init__(self, episodes):
        self.episodes = episodes

    def batch(self, start, count):
        return self.episodes._replace(
            **{name: t[start : start + count] for name, t in self.episodes._asdict().items()}
        )


def test_evaluation_names_them_from_one_chunk_to_the_next():
    algorithm, params, episodes = stopping()
    count, source = episodes.num_tasks, OneByOne(episodes)
    with pytest.raises(UserError, match="takes more steps in one task"):
        evaluate(algorithm, params, source, tasks=count, chunk_size=1)
    result = evaluate(algorithm, params, source, tasks=count, chunk_size=1, every_step=False)
    assert len(result["loss_per_step"]) == 1


def test_weights_that_are_yielded_again_are_the_way_out():
    algorithm, params, episodes = stopping(again=True)
    assert algorithm.score_steps(params, episodes)["loss"].shape[1] == 4
    sets = episodes.support_x, episodes.support_y
    assert len(algorithm.inner_loop_each(params, *sets)) == 4


def test_steps_that_an_algorithm_of_ours_misses_are_named():
    class Short(MAML):
        def inner_loop(self, *sets, **options):
            yield next(super().inner_loop(*sets, **options))

    algorithm = Short(network(), 0.1, 2)
    with pytest.raises(UserError, match=r"yields 1 sets .* inner_steps=2 it must yield 3"):
        algorithm.meta_gradient(algorithm.init_params(), random_episodes())


def returning(self, params, support_x, support_y, *, inner_steps=None, n_way=None):
    return self.fast_weights(params, n_way)


def nothing(self, params, support_x, support_y, *, inner_steps=None, n_way=None):
    yield from ()


def numbers(self, params, support_x, support_y, *, inner_steps=None, n_way=None):
    yield 1.0


def a_part(self, params, support_x, support_y, *, inner_steps=None, n_way=None):
    yield {n: p for n, p in self.fast_weights(params, n_way).items() if n != "head.bias"}


@pytest.mark.parametrize("base", [Algorithm, MAML])
@pytest.mark.parametrize(
    ("loop", "message"),
    [
        (returning, "returns a dict.*write yield"),
        (nothing, "yields nothing"),
        (numbers, "yields a float"),
        (a_part, r"yields no head\.bias"),
    ],
)
def test_mistakes_are_named(base, loop, message):
    algorithm = type("Own", (base,), {"inner_loop": loop})(network())
    params, episodes = algorithm.init_params(), random_episodes()
    sets = episodes.support_x, episodes.support_y
    for call in (
        lambda: algorithm.meta_gradient(params, episodes),
        lambda: algorithm.score_steps(params, episodes),
        lambda: algorithm.adapt(params, *(t[0] for t in sets)),
        lambda: algorithm.inner_loop_each(params, *sets),
    ):
        with pytest.raises(UserError, match=message):
            call()


def test_a_dict_that_goes_on_is_not_what_was_yielded():
    class Filling(Algorithm):
        def inner_loop(self, params, support_x, support_y, *, inner_steps=None, n_way=None):
            fast = self.fast_weights(params, n_way)
            yield fast
            for name in fast:
                fast[name] = fast[name] + 1
            yield fast

    algorithm, episodes = Filling(network(), execution="loop"), random_episodes()
    params = algorithm.init_params()
    before, after = algorithm.inner_loop_each(params, episodes.support_x, episodes.support_y)
    assert torch.equal(before["head.bias"] + 1, after["head.bias"])
