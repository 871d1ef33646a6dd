"""What is special to ANIL and BOIL, Reptile, Meta-SGD, ProtoNet and the baseline."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from innerloop import (
    ANIL,
    BOIL,
    MAML,
    Episodes,
    FineTune,
    MetaSGD,
    ProtoNet,
    Reptile,
    SinusoidSampler,
    UserError,
)
from innerloop.models import MLP, BatchNorm, Conv4
from tests.algorithms.networks import GRUClassifier, Small
from tests.helpers import NormNet, random_episodes


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
    for typo in ("layers.7", "head.*, layers.7"):
        with pytest.raises(UserError, match=r"matches 'layers\.7'; there are conv\.weight"):
            MAML(Small(), adapted=typo)
    with pytest.raises(UserError, match=r"no module called head.*cell\.weight_ih"):
        ANIL(GRUClassifier())


@pytest.mark.parametrize("head", ["shared", "linear"])
def test_boil_refuses_a_head_of_equal_rows_with_the_way_out(head):
    with pytest.raises(UserError, match="head='random'"):
        BOIL(Conv4(5, head=head))


def test_boil_takes_a_frozen_head():
    model = Conv4(3, width=4, image_size=16, head="random").double()
    model.head.requires_grad_(False)
    algorithm = BOIL(model, 0.1)
    assert not any(name.startswith("head.") for name in algorithm.adapted_names)
    grads, _ = algorithm.meta_gradient(algorithm.init_params(), random_episodes())
    assert grads["convs.0.weight"].abs().max() > 0


class NormedHead(Small):
    """A head that looks at several examples at a time."""

    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(BatchNorm(48), self.head).double()


class TiedHead(Small):
    """A head whose bias is also the body's."""

    def __init__(self):
        super().__init__()
        self.conv.bias = self.head.bias


@pytest.mark.parametrize("network", [NormedHead, TiedHead])
@pytest.mark.parametrize("bn", ["transductive", "support"])
def test_no_short_cut_for_a_head_that_is_not_a_plain_layer(network, bn):
    """Its features cannot be taken apart from it."""
    algorithm = ANIL(network(), 0.1, 2, bn=bn, adapted="head.*, conv.bias")
    assert not algorithm.keeps_body
    task = random_episodes(tasks=1).task(0)
    params = algorithm.init_params()
    fast = algorithm.adapt(params, task.support_x, task.support_y)
    predict = algorithm.predictor(params, task.support_x, task.query_x)
    torch.testing.assert_close(
        predict(fast), algorithm.query_outputs(fast, task.support_x, task.query_x)
    )


def test_the_body_is_computed_once_for_all_inner_steps():
    """ANIL adapts on features, however many steps there are."""
    model, calls = Small(), []
    model.conv.register_forward_hook(lambda *_: calls.append(1))
    task = random_episodes(tasks=1).task(0)
    algorithm = ANIL(model, 0.1, 5)
    params = algorithm.init_params()
    algorithm.adapt(params, task.support_x, task.support_y)
    # The first call also inspects the network.
    calls.clear()
    algorithm.adapt(params, task.support_x, task.support_y)
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


def test_reptile_at_use_sees_the_whole_support_set():
    task = random_episodes(tasks=1).task(0)
    small, whole = Reptile(Small(), 0.1, 2, inner_batch_size=2), Reptile(Small(), 0.1, 2)
    params = whole.init_params()
    a, b = (x.adapt(params, task.support_x, task.support_y) for x in (small, whole))
    assert all(torch.equal(a[name], b[name]) for name in a)


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
    assert all(torch.allclose(adapted[name], expected[name], atol=1e-7) for name in expected)
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
    (adapted,) = algorithm.inner_loop(params, task.support_x, task.support_y, inner_steps=9)
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


def test_baseline_refuses_batch_norm_that_would_mix_tasks():
    with pytest.raises(UserError, match="replace_batch_norm"):
        FineTune(NormNet("batch"))


def test_protonet_refuses_regression():
    waves = SinusoidSampler().batch(0, 2)
    algorithm = ProtoNet(MLP(1, 1))
    with pytest.raises(UserError, match="cannot learn regression"):
        algorithm.meta_gradient(algorithm.init_params(), waves)


def test_targets_of_another_shape_are_refused():
    """They would be broadcast against the outputs: [K, 1] against [K]."""
    for loss in (nn.functional.mse_loss, nn.MSELoss()):
        algorithm = MAML(MLP(1, 1), loss=loss)
        x, y = torch.zeros(2, 5, 1), torch.zeros(2, 5)
        with pytest.raises(UserError, match=r"\(5, 1\) and targets \(5,\)"):
            algorithm.meta_gradient(algorithm.init_params(), Episodes(x, y, x, y))


def test_protonet_takes_one_task_as_the_first_of_several():
    algorithm = ProtoNet(Conv4(3, width=4, image_size=16).double())
    params, episodes = algorithm.init_params(), random_episodes()
    (several,) = algorithm.loops(params, episodes)
    (alone,) = algorithm.loops(params, Episodes(*(t[:1] for t in episodes), n_way=episodes.n_way))
    assert alone.keys() == several.keys()
    for name, value in alone.items():
        torch.testing.assert_close(value[0], several[name][0])


@pytest.mark.parametrize(
    ("network", "labels", "said"),
    [
        (nn.Conv2d(1, 4, 3), torch.arange(5), r"the network returns \[5, 4, 5, 5\]: .*Flatten"),
        (nn.Unflatten(1, (1,)), torch.arange(5), r"the network returns \[5, 1, 7, 7\]"),
        (
            nn.Conv2d(1, 4, 3, padding=1),
            torch.arange(5)[:, None, None].expand(5, 7, 7),
            r"one class label each, .* have shape \[5, 7, 7\]",
        ),
    ],
)
@pytest.mark.parametrize("execution", ["auto", "loop", "vmap"])
def test_prototypes_of_places_are_refused(network, labels, said, execution):
    x, y = torch.randn(2, 5, 1, 7, 7), labels.expand(2, *labels.shape)
    protonet = ProtoNet(nn.Sequential(nn.Conv2d(1, 1, 1), network), execution=execution)
    with pytest.raises(UserError, match=said):
        protonet.meta_gradient(protonet.init_params(), Episodes(x, y, x, y))
