"""What an algorithm requires of its network and its tasks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import MAML, Episodes, ProtoNet, UserError
from innerloop.algorithms import Algorithm
from innerloop.models import Conv4
from tests.algorithms import naive
from tests.algorithms.networks import Small, stackable
from tests.algorithms.users import EPISODES, make
from tests.helpers import random_episodes, relative_error


def test_an_algorithm_of_a_users_own_needs_its_inner_loop_alone():
    """The method that is abstract is the one that authors are told to write."""

    class Nearest(Algorithm):
        inner_steps = 1

        def inner_loop(self, params, support_x, support_y, *, inner_steps=None, n_way=None):
            yield params
            yield {n: p + 0.1 for n, p in params.items()}

    algorithm, episodes = Nearest(Small()), random_episodes()
    loop = Nearest(Small(), execution="loop")
    params = algorithm.init_params()
    found, metrics = algorithm.meta_gradient(params, episodes)
    expected, _ = loop.meta_gradient(params, episodes)
    assert relative_error(found, expected) < 1e-10
    assert set(metrics) == {"loss", "accuracy"}
    assert algorithm.score_steps(params, episodes)["accuracy"].shape == (3, 2)
    assert "one task" in algorithm.explain()


def test_labels_have_to_run_from_0_without_gaps_where_they_are_counted():
    model = Conv4(3, width=4, image_size=16, head="shared").double()
    sx, sy, qx, qy = random_episodes()
    for algorithm in (MAML(model), ProtoNet(model)):
        params = algorithm.init_params()
        for wrong in (sy + 1, sy * 2, sy - 1):
            with pytest.raises(UserError, match="must run from 0 to N-1 without gaps"):
                algorithm.meta_gradient(params, Episodes(sx, wrong, qx, qy))
            with pytest.raises(UserError, match="must run from 0 to N-1 without gaps"):
                algorithm.adapt(params, sx[0], wrong[0])


@pytest.mark.parametrize("way", ["auto", "loop", "stacked"])
def test_more_classes_than_rows_are_named(way):
    algorithm = MAML(stackable(), 0.1, 1, execution=way)
    sx, sy, qx, qy = random_episodes(n_way=4)
    with pytest.raises(UserError, match="needs a row for each class"):
        algorithm.meta_gradient(algorithm.init_params(), Episodes(sx, sy, qx, qy))


def test_networks_that_cannot_be_learnt_are_refused():
    frozen = nn.Linear(4, 3).requires_grad_(False)
    with pytest.raises(UserError, match="no trainable parameter"):
        MAML(frozen)
    with pytest.raises(UserError, match="no trainable parameter"):
        ProtoNet(frozen).init_params()
    named = nn.Module()
    named.register_parameter("a@b", nn.Parameter(torch.zeros(1)))
    with pytest.raises(UserError, match=r"'a@b' has a @"):
        MAML(named)
    with pytest.raises(UserError, match=r"torch.nn.Module, not function"):
        MAML(lambda x: x)
    with pytest.raises(UserError, match=r"compiled by torch\.jit"):
        MAML(torch.jit.trace(nn.Linear(4, 3), torch.zeros(1, 4)))
    lazy = MAML(nn.LazyLinear(3))
    with pytest.raises(UserError, match="no shape yet"):
        lazy.init_params()
    sx, sy, qx, qy = EPISODES
    good = MAML(make("weight_norm"))
    with pytest.raises(UserError, match="at least one task"):
        good.meta_gradient(good.init_params(), Episodes(sx[:0], sy[:0], qx[:0], qy[:0]))
    with pytest.raises(UserError, match="differ in the number of tasks"):
        good.meta_gradient(good.init_params(), Episodes(sx[:2], sy[:2], qx, qy))


@pytest.mark.parametrize("way", ["vmap", "loop"])
def test_frozen_batch_norm_is_its_running_statistics_as_constants(way):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    model = nn.Sequential(*model, nn.Linear(4 * 14 * 14, 3)).double()
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2)
    before = {n: b.clone() for n, b in model.named_buffers()}
    episodes = random_episodes()
    with pytest.raises(UserError, match="bn='frozen'"):
        MAML(model)
    maml = MAML(model, naive.LR, naive.STEPS, bn="frozen", execution=way)
    params = maml.init_params()
    found, _ = maml.meta_gradient(params, episodes)
    expected = naive.maml(model.eval(), params, episodes)
    assert relative_error(found, expected) < 1e-10
    assert all(torch.equal(b, before[n]) for n, b in model.named_buffers())
    task = episodes.task(0)
    fast = maml.adapt(params, task.support_x, task.support_y)
    together = maml.query_outputs(fast, task.support_x, task.query_x)
    alone = maml.query_outputs(fast, task.support_x, task.query_x[:1])
    torch.testing.assert_close(together[:1], alone)
    with pytest.raises(UserError, match="this network has none"):
        MAML(Small(), bn="frozen")


def test_autocast_around_training_gives_what_it_gives_a_naive_loop():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 3))
    maml = MAML(model, naive.LR, naive.STEPS, execution="loop")
    episodes = random_episodes(shape=(3, 4), dtype=torch.float32)
    params = maml.init_params()
    exact, _ = maml.meta_gradient(params, episodes)
    with torch.autocast("cpu", torch.bfloat16):
        found, metrics = maml.meta_gradient(params, episodes)
        expected = naive.maml(model, params, episodes)
    assert relative_error(found, expected) < 1e-2
    assert 0 < relative_error(found, exact) < 0.1
    assert metrics["accuracy"].dtype == torch.float32


def test_tasks_have_equally_many_classes_and_examples():
    model = Conv4(3, width=4, image_size=16, head="shared").double()
    sx, sy, qx, qy = random_episodes()
    missing = sy.clone()
    missing[1][missing[1] == 2] = 1
    for algorithm in (MAML(model), ProtoNet(model)):
        params = algorithm.init_params()
        with pytest.raises(
            UserError, match=r"task 1 has no example of class 2 .* other tasks have 3"
        ):
            algorithm.meta_gradient(params, Episodes(sx, missing, qx, qy))
        with pytest.raises(UserError, match="query sets have no examples"):
            algorithm.meta_gradient(params, Episodes(sx, sy, qx[:, :0], qy[:, :0]))


def test_the_support_loss_per_shot_is_the_mean_times_the_ways():
    algorithm = MAML(Conv4(3, width=4, image_size=16), inner_reduction="per_shot")
    outputs, labels = torch.randn(6, 3), torch.arange(6) % 3
    expected = 3 * F.cross_entropy(outputs, labels)
    torch.testing.assert_close(algorithm.support_loss(outputs, labels), expected)
    shares = outputs.softmax(dim=1)
    torch.testing.assert_close(
        algorithm.support_loss(outputs, shares), F.cross_entropy(outputs, shares)
    )


def test_an_inner_loss_that_is_no_scalar_is_refused():
    class Rows(MAML):
        def support_loss(self, outputs, targets):
            return F.cross_entropy(outputs, targets, reduction="none")

    algorithm = Rows(Small(), 0.1, 1)
    with pytest.raises(UserError, match="support_loss of Rows must return a scalar"):
        algorithm.meta_gradient(algorithm.init_params(), random_episodes())


def test_an_inner_loss_of_all_tasks_that_is_not_one_number_each_is_refused():
    class Rows(MAML):
        def inner_loss_each(self, params, fast, support, step):
            return super().inner_loss_each(params, fast, support, step)[:, None]

    algorithm = Rows(Small(), 0.1, 1)
    with pytest.raises(UserError, match="inner loss of a task must be a scalar"):
        algorithm.meta_gradient(algorithm.init_params(), random_episodes())


@pytest.mark.parametrize("way", ["auto", "loop"])
@pytest.mark.parametrize(
    ("found", "says"),
    [
        (lambda loss, metrics: loss, "query_loss of Own must return the loss and a dict"),
        (lambda loss, metrics: (loss, [loss]), "query_loss of Own must return the loss and a dict"),
        (lambda loss, metrics: (loss[None], metrics), "query_loss of Own must return a scalar"),
        (lambda loss, metrics: (loss.item(), metrics), "query_loss of Own must return a scalar"),
        (lambda loss, metrics: (loss, {"right": 0.5}), "metric 'right' must be a tensor"),
    ],
)
def test_query_losses_of_other_kinds_are_refused(found, says, way):
    class Own(MAML):
        def query_loss(self, params, task):
            return found(*super().query_loss(params, task))

    algorithm = Own(Small(), 0.1, 1, execution=way)
    with pytest.raises(UserError, match=says):
        algorithm.meta_gradient(algorithm.init_params(), random_episodes())
    with pytest.raises(UserError, match=says):
        algorithm.score_steps(algorithm.init_params(), random_episodes())


def test_an_inner_loss_that_is_a_plain_number_is_refused():
    class Own(MAML):
        def inner_loss(self, params, fast, support, step):
            return super().inner_loss(params, fast, support, step).item()

    algorithm = Own(Small(), 0.1, 1)
    with pytest.raises(UserError, match="inner_loss of Own must return a scalar"):
        algorithm.meta_gradient(algorithm.init_params(), random_episodes())


def a_part(fast):
    return dict(list(fast.items())[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (a_part, r"not others: \w+"),
        (lambda fast: fast | {"other@x": torch.ones(2)}, "not others: other@x"),
        (lambda fast: {n: p.sum() for n, p in fast.items()}, "not others"),
        (lambda fast: None, "not a NoneType"),
    ],
)
@pytest.mark.parametrize("execution", ["stacked", "vmap", "loop"])
def test_an_update_that_gives_other_weights_is_named(change, message, execution):
    """Weights that it left out would start again from the meta-parameters."""

    class Own(MAML):
        def update(self, params, fast, gradient, step):
            return change(super().update(params, fast, gradient, step))

    class Optimizer:
        elementwise = True

        def init(self, weights):
            return None

        def update(self, weights, gradient, state, rates):
            return change({n: p - rates * gradient[n] for n, p in weights.items()}), state

    model, episodes = stackable(), random_episodes()
    optimizer = MAML(model, 0.1, 2, inner_optimizer=Optimizer(), execution=execution)
    for algorithm in (Own(model, 0.1, 2, execution=execution), optimizer):
        params = algorithm.init_params()
        for call in (algorithm.meta_gradient, algorithm.score_steps):
            with pytest.raises(UserError, match=f"must return the weights after .* {message}"):
                call(params, episodes)


def test_a_rate_that_is_missing_is_named():
    class Own(MAML):
        def rates(self, params, step):
            return dict.fromkeys(self.adapted_names[1:], 0.1)

    algorithm = Own(Small(), 0.1, 2)
    with pytest.raises(UserError, match=f"no inner learning rate for {algorithm.adapted_names[0]}"):
        algorithm.meta_gradient(algorithm.init_params(), random_episodes())
