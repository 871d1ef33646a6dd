"""MAML++: that each part does what it says, above all that per-step statistics are used."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from innerloop import MAML, Episodes, MAMLPlusPlus, UserError, evaluate
from innerloop.models import MLP, BatchNorm
from tests.algorithms import naive
from tests.algorithms.networks import Small
from tests.helpers import random_episodes, relative_error


def make(**options):
    return MAMLPlusPlus(Small(), naive.LR, naive.STEPS, **options)


def without_parts(**options):
    off = {
        "learn_inner_lr": False,
        "multi_step_loss_until": 0.0,
        "per_step_norm": False,
        "per_step_statistics": False,
    }
    return make(**(off | options))


def test_without_its_parts_it_is_maml():
    plain, maml = without_parts(), MAML(Small(), naive.LR, naive.STEPS)
    params, episodes = maml.init_params(), random_episodes()
    assert plain.init_params().keys() == params.keys()
    a, b = (x.meta_gradient(params, episodes)[0] for x in (plain, maml))
    assert relative_error(a, b) < 1e-12


@pytest.mark.parametrize("progress", [0.0, 0.2, 0.4, 1.0])
def test_multi_step_loss_equals_a_naive_loop(progress):
    algorithm, episodes = make(multi_step_loss_until=0.4), random_episodes()
    params = algorithm.init_params()
    counts = algorithm.step_weights(progress)
    assert sum(counts) == pytest.approx(1)
    assert (
        counts
        == {
            0.0: pytest.approx([0, 1 / 3, 1 / 3, 1 / 3]),
            0.2: pytest.approx([0, 1 / 6, 1 / 6, 2 / 3]),
            0.4: [0, 0, 0, 1],
            1.0: [0, 0, 0, 1],
        }[progress]
    )
    grads, _ = algorithm.meta_gradient(params, episodes, progress)
    expected = naive.maml_plus_plus(algorithm.model, params, episodes, counts)
    assert relative_error(grads, expected) < 1e-10


@pytest.mark.parametrize(
    ("option", "owned"),
    [
        ({"learn_inner_lr": True}, {"rate@conv.weight", "rate@norm.bias", "rate@head.weight"}),
        ({"per_step_norm": True}, {"step@norm.weight", "step@norm.bias"}),
        ({"per_step_statistics": True}, {"mean@norm", "variance@norm"}),
    ],
)
def test_each_part_owns_its_meta_parameters(option, owned):
    plain, params = without_parts().init_params(), without_parts(**option).init_params()
    assert owned <= params.keys()
    assert all("@" in name for name in params.keys() - plain.keys())


def test_learnt_rates_get_a_gradient_in_first_order_too():
    algorithm, episodes = make(first_order=True), random_episodes()
    params = algorithm.init_params()
    grads, _ = algorithm.meta_gradient(params, episodes)
    # Of the last step, with its gradient held constant: - lr <support gradient, query gradient>.
    # Biases before a norm have none.
    rates = [n for n in params if n.startswith("rate@") and n != "rate@conv.bias"]
    assert rates
    assert all(grads[name].abs().max() > 0 for name in rates)


def trained_statistics(algorithm, rounds=40):
    params, episodes = algorithm.init_params(), random_episodes(tasks=4)
    for _ in range(rounds):
        grads, _ = algorithm.meta_gradient(params, episodes)
        params |= {n: params[n] - 0.5 * grads[n] for n in algorithm.moving_averages}
    return params, episodes


def test_running_statistics_come_to_those_of_the_batches():
    algorithm = make()
    params, episodes = trained_statistics(algorithm)
    grads, _ = algorithm.meta_gradient(params, episodes)
    for name in algorithm.moving_averages:
        assert params[name].shape == (naive.STEPS + 1, 3)
        assert grads[name].abs().max() < 1e-8
    # Steps differ, which is why there is a row for each.
    assert (params["mean@norm"][0] - params["mean@norm"][-1]).abs().max() > 1e-3


def test_per_step_statistics_are_used_where_they_are_asked_for():
    """A known defect of other code is to keep them and never read them."""
    params, episodes = trained_statistics(make())
    task = episodes.task(0)
    algorithm = make(bn="per_step")

    def outputs(params, queries=slice(None)):
        steps = list(algorithm.inner_loop(params, task.support_x, task.support_y))
        predict = algorithm.predictor(params, task.support_x, task.query_x[queries])
        return [predict(fast) for fast in steps]

    usual = outputs(params)
    for step in range(naive.STEPS + 1):
        changed = {n: p.clone() for n, p in params.items()}
        changed["mean@norm"][step] += 0.5
        same = [torch.equal(a, b) for a, b in zip(outputs(changed), usual, strict=True)]
        # What a step's statistics change is seen from that step on, and not before it.
        assert same == [i < step for i in range(naive.STEPS + 1)]
    # No prediction depends on the other queries.
    for alone, together in zip(outputs(params, slice(0, 1)), usual, strict=True):
        torch.testing.assert_close(alone, together[:1])


class OneAfterTheOther(nn.Module):
    """Convolutions that have kernels, as a user would write them."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 16, 3), BatchNorm(16)
        self.other, self.last = nn.Conv2d(16, 16, 3), BatchNorm(16)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(self.last(self.other(x)).mean((-2, -1)))


@pytest.mark.parametrize("bn", ["transductive", "support", "per_step"])
def test_a_network_of_ones_own_has_the_same_gradients_and_statistics_in_every_way(bn):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = OneAfterTheOther().double()
    episodes = random_episodes(tasks=3)
    found = {}
    for way in ("loop", "vmap", "stacked", "auto"):
        algorithm = MAMLPlusPlus(model, naive.LR, naive.STEPS, bn=bn, execution=way)
        params = algorithm.init_params()
        try:
            found[way] = algorithm.meta_gradient(params, episodes)[0]
        except UserError:
            continue
        for name in ("mean@norm", "variance@last"):
            assert found[way][name].shape == params[name].shape == (naive.STEPS + 1, 16)
    assert {"loop", "vmap", "auto"} <= found.keys()
    assert ("stacked" in found) == (bn != "per_step")
    for gradient in found.values():
        assert relative_error(gradient, found["loop"]) < 1e-9


@pytest.mark.parametrize("execution", ["auto", "loop"])
def test_pytorchs_batch_norms_have_a_scale_and_shift_for_each_step_too(execution):
    def network(norm):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)
        ).double()

    ours, theirs = (
        MAMLPlusPlus(network(norm), 0.05, 3, execution=execution)
        for norm in (BatchNorm(4), nn.BatchNorm2d(4, track_running_stats=False))
    )
    params, generator = ours.init_params(), torch.Generator().manual_seed(1)
    params = {
        name: p
        if name in ours.moving_averages
        else p + 0.1 * torch.randn(p.shape, generator=generator)
        for name, p in params.items()
    }
    own = {name: p for name, p in params.items() if name not in ours.moving_averages}
    assert theirs.init_params().keys() == own.keys() > {"step@1.weight", "step@1.bias"}
    assert theirs.adapted_names == ours.adapted_names
    x = torch.randn(2, 6, 1, 8, 8, generator=generator, dtype=torch.float64)
    y = torch.tensor([0, 1, 2] * 2).expand(2, -1)
    episodes = Episodes(x, y, x.flip(1), y.flip(1))
    expected = ours.meta_gradient(params, episodes)[0]
    found = theirs.meta_gradient(own, episodes)[0]
    assert relative_error(found, {name: expected[name] for name in own}) < 1e-10
    with pytest.raises(UserError, match="replace_batch_norm"):
        MAMLPlusPlus(theirs.model, 0.05, 3, bn="per_step")


def test_more_steps_in_use_than_in_training():
    """Extra steps use the last rate, the last norms and the last statistics."""
    algorithm = make(bn="per_step")
    params, episodes = trained_statistics(algorithm, rounds=3)
    params["rate@conv.weight"][-1] = 0.0
    task = episodes.task(0)
    steps = list(algorithm.inner_loop(params, task.support_x, task.support_y, inner_steps=9))
    assert len(steps) == 10
    last = naive.STEPS
    for later in steps[last + 1 :]:
        assert torch.equal(later["conv.weight"], steps[last]["conv.weight"])
        assert torch.equal(later["mean@norm"], params["mean@norm"][last])
        assert torch.equal(later["norm.bias"], params["step@norm.bias"][last])
        assert not torch.equal(later["head.weight"], steps[last]["head.weight"])


class Sampler:
    """Enough of a sampler for `evaluate`."""

    n_way, split, seed = 3, "test", 0

    def __init__(self, episodes):
        self.episodes = episodes

    def batch(self, start, count):
        return Episodes(*(t[start : start + count] for t in self.episodes))

    def protocol(self):
        return {}


@pytest.mark.parametrize("bn", ["transductive", "support", "per_step"])
def test_evaluation_of_many_tasks_is_that_of_each(bn):
    algorithm = make(bn=bn)
    params, episodes = trained_statistics(algorithm, rounds=3)
    result = evaluate(algorithm, params, Sampler(episodes), tasks=4)
    losses = []
    for i in range(4):
        task = episodes.task(i)
        steps = algorithm.inner_loop(params, task.support_x, task.support_y)
        losses.append([algorithm.query_loss(fast, task)[0].item() for fast in steps])
    assert result["loss_per_step"] == pytest.approx(torch.tensor(losses).mean(0).tolist())


def test_norms_that_the_network_does_not_use():
    model = Small()
    model.spare = BatchNorm(3).double()
    algorithm = MAMLPlusPlus(model, naive.LR, naive.STEPS)
    params, episodes = algorithm.init_params(), random_episodes()
    grads, _ = algorithm.meta_gradient(params, episodes)
    assert grads["mean@spare"].abs().max() == grads["variance@spare"].abs().max() == 0


def test_statistics_of_every_step_need_norms_and_the_option():
    with pytest.raises(UserError, match="per_step_statistics"):
        make(bn="per_step", per_step_statistics=False)
    with pytest.raises(UserError, match=r"innerloop\.models\.BatchNorm"):
        MAMLPlusPlus(MLP(4, 3), bn="per_step")
    with pytest.raises(UserError, match="bn must be one of transductive, support, frozen, not"):
        MAML(Small(), bn="per_step")
    with pytest.raises(UserError, match="multi_step_loss_until"):
        make(multi_step_loss_until=1.5)
    with pytest.raises(UserError, match="nothing is left to adapt"):
        make(adapted="norm.*")


def test_adapting_the_head_alone_keeps_per_step_norms_and_statistics():
    """Features computed once, in one batch, would skip the norms of each step."""
    algorithm = make(adapted="head.*", multi_step_loss_until=1.0)
    params, episodes = algorithm.init_params(), random_episodes()
    assert algorithm.adapted_names == ["head.weight", "head.bias"]
    grads, _ = algorithm.meta_gradient(params, episodes, 0.5)
    assert all(grads[name].abs().max() > 0 for name in grads if "@" in name)


def test_meta_parameters_always_come_in_the_same_order():
    """The optimiser and its checkpoint depend on the order."""
    expected = [
        *("conv.weight", "conv.bias", "head.weight", "head.bias"),
        *(f"rate@{name}" for name in ("conv.weight", "conv.bias", "head.weight", "head.bias")),
        *("step@norm.weight", "step@norm.bias", "mean@norm", "variance@norm"),
    ]
    assert list(make().init_params()) == expected
