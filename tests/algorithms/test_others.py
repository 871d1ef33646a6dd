"""What is special to ANIL and BOIL, Reptile, Meta-SGD, ProtoNet and the baseline."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from innerloop import ANIL, BOIL, MAML, FineTune, MetaSGD, ProtoNet, Reptile, UserError
from innerloop.models import MLP, Conv4
from tests.algorithms.networks import GRUClassifier, Small
from tests.helpers import random_episodes


def changed(algorithm, episodes):
    """Names of the weights that adaptation changes."""
    params, task = algorithm.init_params(), episodes.task(0)
    adapted = algorithm.adapt(params, task.support_x, task.support_y)
    return {name for name in adapted if not torch.equal(params[name], adapted[name])}


@pytest.mark.parametrize(
    ("make", "options", "expected"),
    [
        (ANIL, {}, {"head.weight", "head.bias"}),
        (BOIL, {}, {"conv.weight", "conv.bias", "norm.weight", "norm.bias"}),
        (MAML, {"adapted": "norm.*"}, {"norm.weight", "norm.bias"}),
        (MAML, {"adapted": "conv.weight, head.*"}, {"conv.weight", "head.weight", "head.bias"}),
    ],
)
def test_only_what_is_named_is_adapted(make, options, expected):
    episodes = random_episodes()
    names = changed(make(Small(), 0.1, 2, **options), episodes)
    # Batch norm takes away the bias of the convolution before it.
    assert names | {"conv.bias"} == expected | {"conv.bias"}


def test_nothing_to_adapt_is_named():
    with pytest.raises(UserError, match=r"'layers\.7' names none of conv\.weight"):
        MAML(Small(), adapted="layers.7")
    with pytest.raises(UserError, match=r"no module called head.*cell\.weight_ih"):
        ANIL(GRUClassifier())


def test_boil_refuses_a_shared_head_with_the_way_out():
    with pytest.raises(UserError, match="head='random'"):
        BOIL(Conv4(5, head="shared"))


def test_the_body_is_computed_once_for_all_inner_steps():
    """ANIL adapts on features, however many steps there are."""
    model, calls = Small(), []
    model.conv.register_forward_hook(lambda *_: calls.append(1))
    task = random_episodes(tasks=1).task(0)
    algorithm = ANIL(model, 0.1, 5)
    algorithm.adapt(algorithm.init_params(), task.support_x, task.support_y)
    assert len(calls) == 1


def test_reptile_takes_mini_batches_in_turn():
    """Support, then query drawings, then from the start again."""
    seen = []

    class Watching(Reptile):
        def support_loss(self, outputs, targets):
            seen.append(targets)
            return super().support_loss(outputs, targets)

    episodes = random_episodes(tasks=1)
    algorithm = Watching(Small(), 0.1, 4, inner_batch_size=5)
    params, task = algorithm.init_params(), episodes.task(0)
    algorithm.task_gradient(params, task, None, 1.0)
    labels = torch.cat([task.support_y, task.query_y]).tolist()
    rows = [[labels[i % 12] for i in range(5 * step, 5 * step + 5)] for step in range(4)]
    assert [y.tolist() for y in seen] == rows
    with pytest.raises(UserError, match="inner_batch_size"):
        Reptile(Small(), inner_batch_size=0)


def test_reptile_with_plain_descent_moves_to_the_mean_of_the_adapted_weights():
    episodes = random_episodes()
    algorithm = Reptile(Small(), 0.1, 3)
    params = algorithm.init_params()
    grads, _ = algorithm.meta_gradient(params, episodes)
    adapted = []
    for i in range(episodes.num_tasks):
        sx, sy, qx, qy = episodes.task(i)
        adapted.append(algorithm.adapt(params, torch.cat([sx, qx]), torch.cat([sy, qy])))
    for name, p in params.items():
        mean = torch.stack([weights[name] for weights in adapted]).mean(0)
        torch.testing.assert_close(p - grads[name], mean)


def test_meta_sgd_starts_as_maml_and_follows_its_rates():
    task = random_episodes(tasks=1).task(0)
    maml, meta_sgd = MAML(Small(), 0.2, 1), MetaSGD(Small(), 0.2, 1)
    params = meta_sgd.init_params()
    expected = maml.adapt(maml.init_params(), task.support_x, task.support_y)
    adapted = meta_sgd.adapt(params, task.support_x, task.support_y)
    assert all(torch.equal(adapted[name], expected[name]) for name in expected)
    params["rate@head.weight"] = torch.zeros_like(params["rate@head.weight"])
    adapted = meta_sgd.adapt(params, task.support_x, task.support_y)
    assert torch.equal(adapted["head.weight"], params["head.weight"])


@pytest.mark.parametrize("n_way", [2, 3, 7])
def test_protonet_takes_any_number_of_ways(n_way):
    model = Conv4(5, width=4, image_size=16).double()
    algorithm = ProtoNet(model)
    params, episodes = algorithm.init_params(), random_episodes(n_way=n_way)
    assert not any(name.startswith("head.") for name in params)
    algorithm.meta_gradient(params, episodes)
    task = episodes.task(0)
    (adapted,) = algorithm.adapt_steps(params, task.support_x, task.support_y, inner_steps=9)
    logits = algorithm.query_outputs(adapted, task.support_x, task.query_x)
    # Squared Euclidean distances to the means of the classes.
    features = algorithm.embed(params, task.support_x)
    centres = torch.stack([features[task.support_y == c].mean(0) for c in range(n_way)])
    expected = -torch.cdist(algorithm.embed(params, task.query_x), centres).square()
    torch.testing.assert_close(logits, expected)


def test_baseline_learns_a_classifier_of_all_classes_and_adapts_a_new_head():
    algorithm = FineTune(Small(), num_classes=40)
    params = algorithm.init_params()
    assert params["classifier@weight"].shape == (40, 48)
    episodes = random_episodes()
    grads, _ = algorithm.meta_gradient(params, episodes)
    assert grads["head.weight"].abs().max() == 0
    assert changed(algorithm, episodes) == {"head.weight", "head.bias"}


def test_baseline_of_regression_adapts_everything():
    model = MLP(1, 1, hidden=(8,))
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    algorithm = FineTune(model, loss=nn.functional.mse_loss)
    assert algorithm.adapted_names == [name for name, _ in model.named_parameters()]
    with pytest.raises(UserError, match="HeadedModel"):
        FineTune(GRUClassifier(), num_classes=5, adapted="all")
