"""Losses, targets and metrics of any kind."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import MAML, Episodes, UserError, evaluate
from innerloop.algorithms.scores import loss_of
from innerloop.models import Conv4
from tests.algorithms.networks import Small
from tests.helpers import random_episodes


def tasks_of(make_task, count=6):
    return Episodes(*(torch.stack(t) for t in zip(*map(make_task, range(count)), strict=True)))


class Fixed:
    """Episodes that exist already, as a sampler."""

    split, seed, n_way, data_name = "test", 0, None, "own"
    class_names: tuple[str, ...] = ()
    input_shape = (5,)

    def __init__(self, episodes):
        self.episodes = episodes

    def batch(self, start, count):
        return Episodes(*(t[start : start + count] for t in self.episodes))

    def protocol(self):
        return {}


def normal(i, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(i))


def one_logit(i):
    x = normal(i, 20, 5)
    y = (x @ normal(i + 100, 5) > 0).long()
    return x[:12], y[:12], x[12:], y[12:]


def several_labels(i):
    x = normal(i, 12, 5)
    return x[:6], (x[:6, :4] > 0).long(), x[6:], (x[6:, :4] > 0).long()


def tags(i):
    x = normal(i, 8, 7, 5)
    y = x[..., :3].argmax(-1)
    return x[:4], y[:4], x[4:], y[4:]


def pixels(i):
    x = normal(i, 4, 1, 6, 6)
    y = (x[:, 0] > 0).long()
    return x[:2], y[:2], x[2:], y[2:]


TARGETS = {
    "one logit": (
        lambda: nn.Linear(5, 1),
        lambda o, t: F.binary_cross_entropy_with_logits(o[:, 0], t.to(o.dtype)),
        one_logit,
        lambda o, t: ((o[:, 0] > 0) == (t > 0)).double().mean(),
    ),
    "several labels": (
        lambda: nn.Linear(5, 4),
        lambda o, t: F.binary_cross_entropy_with_logits(o, t.to(o.dtype)),
        several_labels,
        lambda o, t: ((o > 0) == (t > 0)).double().mean(),
    ),
    "tags": (
        lambda: nn.Linear(5, 3),
        lambda o, t: F.cross_entropy(o.flatten(0, 1), t.flatten()),
        tags,
        lambda o, t: (o.argmax(-1) == t).double().mean(),
    ),
    "pixels": (
        lambda: nn.Conv2d(1, 2, 3, padding=1),
        F.cross_entropy,
        pixels,
        lambda o, t: (o.argmax(1) == t).double().mean(),
    ),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_integer_targets_that_are_no_labels_are_scored_by_the_metric_alone(kind):
    network, loss, task, metric = TARGETS[kind]
    episodes = tasks_of(task)
    plain = MAML(network(), 0.1, 2, loss=loss)
    params = plain.init_params()
    _, metrics = plain.meta_gradient(params, episodes)
    assert set(metrics) == {"loss"}
    result = evaluate(plain, params, Fixed(episodes), tasks=6)
    assert result["metric"] == "loss"
    assert not any("accura" in key for key in result)
    assert isinstance(result["ci95"], float)

    def share_right(outputs, targets):
        return metric(outputs, targets).item()

    scored = MAML(plain.model, 0.1, 2, loss=loss, metric=share_right, execution="loop")
    result = evaluate(scored, params, Fixed(episodes), tasks=6)
    assert result["metric"] == "share_right"
    assert 0 <= result["share_right"] <= 1
    assert len(result["share_right_of_tasks"]) == 6
    assert isinstance(result["ci95"], float)
    by_hand = []
    for t in episodes.tasks():
        fast = scored.adapt(params, t.support_x, t.support_y)
        by_hand.append(metric(scored.forward(fast, t.query_x), t.query_y).item())
    assert result["share_right_of_tasks"] == pytest.approx(by_hand)


def test_metric_none_leaves_the_loss_and_mistakes_are_named():
    algorithm = MAML(Small(), 0.1, 1, metric=None)
    _, metrics = algorithm.meta_gradient(algorithm.init_params(), random_episodes())
    assert set(metrics) == {"loss"}
    with pytest.raises(UserError, match="metric must be"):
        MAML(Small(), metric="f1")
    wrong = MAML(Small(), 0.1, 1, metric=lambda o, t: o.argmax(-1) == t, execution="loop")
    with pytest.raises(UserError, match="metric must return a number"):
        wrong.meta_gradient(wrong.init_params(), random_episodes())
    wrong = MAML(Small(), 0.1, 1, loss=lambda o, t: F.cross_entropy(o, t, reduction="none"))
    with pytest.raises(UserError, match="must return a scalar"):
        wrong.meta_gradient(wrong.init_params(), random_episodes())


@pytest.mark.parametrize("way", ["auto", "stacked", "vmap", "loop"])
@pytest.mark.parametrize("head", ["random", "shared"])
def test_rows_without_a_label_do_not_count(way, head):
    """-100, which PyTorch's losses leave out, in any way of computing."""
    model = Conv4(3, width=4, image_size=16, head=head).double()
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    sx, sy, qx, qy = random_episodes(k_query=3)
    qy = qy.clone()
    qy[:, ::4] = -100
    episodes = Episodes(sx, sy, qx, qy)
    algorithm = MAML(model, 0.1, 1, execution=way)
    params = algorithm.init_params()
    _, metrics = algorithm.meta_gradient(params, episodes)
    losses, right = [], []
    for task in episodes.tasks():
        fast = algorithm.adapt(params, task.support_x, task.support_y)
        outputs = algorithm.forward(fast, task.query_x)
        counted = task.query_y != -100
        losses.append(F.cross_entropy(outputs[counted], task.query_y[counted]))
        right.append((outputs.argmax(1) == task.query_y)[counted].double().mean())
    assert metrics["loss"].item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-9)
    assert metrics["accuracy"].item() == pytest.approx(torch.stack(right).mean().item())


def test_a_metric_cannot_take_the_name_of_something_else():
    def ci95(outputs, targets):
        return 0.0

    with pytest.raises(UserError, match="cannot be called 'ci95'"):
        MAML(Small(), metric=ci95)


def test_a_metric_may_count_in_whole_numbers():
    def hits(outputs, targets):
        return (outputs.argmax(1) == targets).sum()

    algorithm = MAML(Small(), 0.1, 1, metric=hits)
    _, metrics = algorithm.meta_gradient(algorithm.init_params(), random_episodes())
    assert 0 <= metrics["hits"] <= 6


def test_a_sampler_that_has_fewer_tasks_is_not_taken_for_more():
    network, loss, task, _ = TARGETS["one logit"]
    algorithm = MAML(network(), 0.1, 1, loss=loss)
    sampler = Fixed(tasks_of(task, 3))
    with pytest.raises(UserError, match="asked for 6 tasks from 0 on and gave tensors of 3"):
        evaluate(algorithm, algorithm.init_params(), sampler, tasks=6)


def test_a_loss_that_exec_made_has_no_module():
    """In a notebook of some kinds a function's `__module__` is None."""
    names = {"F": F}
    exec("def loss(outputs, targets): return F.cross_entropy(outputs['logits'], targets)", names)
    names["loss"].__module__ = None
    outputs = {"logits": torch.zeros(4, 3)}
    assert loss_of(names["loss"], outputs, torch.zeros(4, dtype=torch.long)).item() > 1


@pytest.mark.parametrize("targets", [normal(1, 12, 3), normal(1, 12, 1), torch.ones(12, 3)])
def test_numbers_that_are_no_shares_are_refused_by_cross_entropy(targets):
    maml = MAML(nn.Linear(5, targets.shape[1]), 0.1)
    x = normal(0, 12, 5)
    with pytest.raises(UserError, match=r"shares of the classes.*for regression give loss="):
        maml.meta_gradient(maml.init_params(), Episodes(*(t[None] for t in (x, targets) * 2)))


def test_shares_of_classes_are_taken_by_cross_entropy():
    x, soft = normal(0, 12, 5), normal(1, 12, 3).softmax(1)
    hard = torch.eye(3)[torch.arange(12) % 3]
    for shares in (soft, soft.half(), hard, hard * (torch.arange(12) > 5)[:, None]):
        episodes = Episodes(*(t[None] for t in (x, shares.float()) * 2))
        found = []
        for execution in ("auto", "loop", "vmap"):
            torch.manual_seed(0)
            maml = MAML(nn.Linear(5, 3), 0.1, execution=execution)
            found.append(maml.meta_gradient(maml.init_params(), episodes)[0])
        for name, gradient in found[0].items():
            assert gradient.any()
            assert all(torch.allclose(f[name], gradient, atol=1e-6) for f in found)


def test_targets_that_are_no_labels_have_no_ways_to_multiply_by():
    x, y = normal(0, 12, 5), normal(1, 12, 3)
    found = []
    for reduction in ("mean", "per_shot"):
        torch.manual_seed(0)
        maml = MAML(nn.Linear(5, 3), 0.1, loss=F.mse_loss, inner_reduction=reduction)
        episodes = Episodes(*(t[None] for t in (x, y) * 2))
        found.append(maml.meta_gradient(maml.init_params(), episodes)[0])
    assert all(torch.equal(found[0][n], found[1][n]) for n in found[0])


class Holds(nn.Module):
    """A loss with a buffer and a layer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("shares", torch.ones(3, dtype=torch.float64))

    def forward(self, outputs, targets):
        return F.cross_entropy(outputs, targets, weight=self.shares)


DOUBLES = torch.ones(3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (nn.CrossEntropyLoss(DOUBLES), r"CrossEntropyLoss, computes with weight of torch.float64"),
        (Holds(), r"Holds, computes with shares of torch.float64 .* by loss.to\(torch.float32\)"),
        (functools.partial(F.cross_entropy, weight=DOUBLES), "computes with argument weight of"),
        (
            lambda outputs, targets: F.cross_entropy(outputs, targets, weight=DOUBLES),
            r"<lambda>, computes with tensors of another type .* by tensor.to\(outputs\)",
        ),
    ],
)
@pytest.mark.parametrize("call", ["meta_gradient", "score_steps"])
def test_a_loss_of_another_type_is_named(loss, message, call):
    algorithm = MAML(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), 0.1, loss=loss)
    x, y = torch.randn(2, 3, 4), torch.arange(3).expand(2, 3)
    with pytest.raises(UserError, match=message):
        getattr(algorithm, call)(algorithm.init_params(), Episodes(x, y, x, y))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda o, t: (o.argmax(1) != t).sum(), "scalar tensor, .* not one of torch.int64"),
        (lambda o, t: o.sum() * 1j, "scalar tensor, .* not one of torch.complex64"),
    ],
)
def test_a_loss_is_a_real_number(loss, message):
    algorithm = MAML(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), 0.1, loss=loss)
    x, y = torch.randn(2, 3, 4), torch.arange(3).expand(2, 3)
    with pytest.raises(UserError, match=message):
        algorithm.meta_gradient(algorithm.init_params(), Episodes(x, y, x, y))


def margin(outputs, targets):
    """Writes to the logits that it is given, as losses with a margin do."""
    outputs[torch.arange(len(outputs)), targets] -= 100
    return F.cross_entropy(outputs, targets)


@pytest.mark.parametrize("execution", ["auto", "loop"])
@pytest.mark.parametrize("metric", ["auto", lambda outputs, targets: outputs[0, 0] > -50])
@pytest.mark.falls_back
def test_a_metric_sees_the_outputs_as_they_were_before_the_loss(metric, execution):
    network = nn.Linear(3, 3, bias=False).double()
    nn.init.eye_(network.weight)
    x, y = 5 * torch.eye(3).double().expand(2, 3, 3), torch.arange(3).expand(2, 3)
    algorithm = MAML(network, 1e-9, loss=margin, metric=metric, execution=execution)
    params = algorithm.init_params()
    _, metrics = algorithm.meta_gradient(params, Episodes(x, y, x, y))
    scores = algorithm.score_steps(params, Episodes(x, y, x, y))
    (name,) = metrics.keys() - {"loss"}
    assert metrics[name] == 1
    assert (scores[name] == 1).all()


@pytest.mark.parametrize("call", ["meta_gradient", "score_steps", "inner_loop_each", "adapt"])
@pytest.mark.parametrize("execution", ["auto", "loop"])
@pytest.mark.falls_back
def test_a_loss_that_writes_to_targets_is_refused(call, execution):
    """The next step, and the next iteration, would have seen others."""

    def rewriting(outputs, targets):
        targets[targets == 2] = 0
        return F.cross_entropy(outputs, targets)

    algorithm = MAML(nn.Linear(4, 3), 0.1, 2, loss=rewriting, execution=execution)
    params, x = algorithm.init_params(), torch.randn(2, 3, 4)
    y, z = (torch.arange(3).repeat(2, 1) for _ in range(2))
    calls = {
        "inner_loop_each": lambda: algorithm.inner_loop_each(params, x, y),
        "adapt": lambda: algorithm.adapt(params, x[0], y[0]),
    }
    found = calls.get(call, lambda: getattr(algorithm, call)(params, Episodes(x, y, x, z)))
    with pytest.raises(UserError, match="changed the meta-parameters or the examples"):
        found()


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64, torch.int8])
def test_labels_of_any_whole_type_are_labels(dtype):
    x, y = torch.randn(2, 3, 4), torch.arange(3).expand(2, 3)
    found = []
    for targets, loss in (
        (y, F.cross_entropy),
        (y.to(dtype), F.cross_entropy),
        (y.to(dtype), lambda outputs, targets: F.cross_entropy(outputs, targets.long())),
    ):
        torch.manual_seed(0)
        algorithm = MAML(nn.Linear(4, 3), 0.1, loss=loss)
        episodes = Episodes(x, targets, x, targets, n_way=3)
        found.append(algorithm.meta_gradient(algorithm.init_params(), episodes)[1])
    for other in found[1:]:
        assert other["accuracy"] == found[0]["accuracy"]
        assert torch.isclose(other["loss"], found[0]["loss"])


def test_complex_outputs_have_no_accuracy():
    algorithm = MAML(
        nn.Linear(4, 3, dtype=torch.complex64),
        0.1,
        loss=lambda outputs, targets: F.cross_entropy(outputs.abs(), targets),
    )
    x, y = torch.randn(2, 3, 4).to(torch.complex64), torch.arange(3).expand(2, 3)
    _, metrics = algorithm.meta_gradient(algorithm.init_params(), Episodes(x, y, x, y))
    assert metrics.keys() == {"loss"}
