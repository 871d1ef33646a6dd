"""Every way of computing tasks gives the same numbers, for what users bring as for what we ship."""

from __future__ import annotations

import copy
import logging
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from innerloop import IMAML, MAML, Episodes, MetaSGD, ProtoNet, Reptile, UserError, evaluate
from innerloop.algorithms import Algorithm
from innerloop.algorithms.execution import WAYS, candidates, fastest, why_not
from innerloop.models import MLP, Conv4
from tests.algorithms import naive
from tests.algorithms.contracts import CONTRACTS
from tests.algorithms.networks import Small
from tests.algorithms.users import USERS, make
from tests.helpers import random_episodes, relative_error

names = pytest.mark.parametrize("name", CONTRACTS)
users = pytest.mark.parametrize("user", USERS)
falls_back = pytest.mark.falls_back
EPISODES = random_episodes(shape=(3, 4))


def stackable(seed=0):
    """A network that goes every way, with rows of the head that differ."""
    model = Conv4(3, width=4, image_size=16, head="random", unit_features=True).double()
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(seed))
    return model


# ---- Every algorithm under every forced execution


@names
@pytest.mark.parametrize("bn", ["transductive", "support"])
@pytest.mark.parametrize("way", WAYS)
def test_every_algorithm_gives_the_same_numbers_in_every_way(name, way, bn):
    model, episodes = stackable(), random_episodes()
    loop = CONTRACTS[name].make(model, bn=bn, execution="loop")
    other = CONTRACTS[name].make(model, bn=bn, execution=way)
    params = loop.init_params()
    reason = why_not(other, way, 1.0, training=True)
    if reason:
        with pytest.raises(UserError, match=f"execution='{way}' is not possible here"):
            other.meta_gradient(params, episodes)
        return
    expected, metrics = loop.meta_gradient(params, episodes)
    found, same = other.meta_gradient(params, episodes)
    assert relative_error(found, expected) < 1e-10
    assert metrics.keys() == same.keys()
    for key, value in metrics.items():
        assert same[key].item() == pytest.approx(value.item(), rel=1e-10)


@names
@pytest.mark.parametrize("bn", ["transductive", "support"])
@pytest.mark.parametrize("way", WAYS)
def test_every_algorithm_scores_the_same_in_every_way(name, way, bn):
    model, episodes = stackable(), random_episodes()
    loop = CONTRACTS[name].make(model, bn=bn, execution="loop")
    other = CONTRACTS[name].make(model, bn=bn, execution=way)
    params = loop.init_params()
    if why_not(other, way, 1.0, training=False):
        return
    expected = loop.score_steps(params, episodes)
    found = other.score_steps(params, episodes)
    steps = loop.inner_steps + 1
    assert expected["loss"].shape == (3, steps)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-10, atol=1e-12)


def test_the_ways_that_are_possible_are_many():
    """The two tests above must not pass because everything is refused."""
    possible = {
        (name, way)
        for name, contract in CONTRACTS.items()
        for way in WAYS
        if why_not(contract.make(stackable()), way, 1.0, training=True) is None
    }
    assert {way for name, way in possible if name == "maml"} == {"stacked", "vmap", "loop"}
    assert {way for name, way in possible if name == "anil"} == set(WAYS)
    assert all((name, way) in possible for name in CONTRACTS for way in ("stacked", "vmap", "loop"))


@names
@pytest.mark.parametrize("way", ["stacked", "loop"])
def test_mixed_and_clipped_in_every_way(name, way):
    """Without torch.func: second derivatives by reverse over reverse, clipping task by task."""
    if name in ("protonet", "fine-tune", "reptile", "imaml"):
        return
    model, episodes = stackable(), random_episodes()
    options = {"inner_max_norm": 0.05}
    reverse = CONTRACTS[name].make(model, execution="vmap", **options)
    mixed = CONTRACTS[name].make(model, execution=way, derivative="mixed", **options)
    params = reverse.init_params()
    expected, _ = reverse.meta_gradient(params, episodes)
    assert relative_error(mixed.meta_gradient(params, episodes)[0], expected) < 1e-10


# ---- What users bring


@falls_back
@users
@pytest.mark.parametrize("first_order", [False, True])
def test_the_meta_gradient_of_any_network_is_that_of_a_naive_loop(user, first_order):
    if USERS[user].draws:
        pytest.skip("the naive loop draws other numbers")
    algorithm = MAML(make(user), naive.LR, naive.STEPS, first_order, loss=USERS[user].loss)
    params = algorithm.init_params()
    found, metrics = algorithm.meta_gradient(params, EPISODES)
    expected = naive.maml(
        None,
        params,
        EPISODES,
        first_order=first_order,
        call=lambda _, weights, x: fresh(user, weights, x),
        loss=USERS[user].loss,
    )
    assert relative_error(found, expected) < 1e-10
    assert torch.isfinite(metrics["loss"])


def fresh(name, weights, x):
    """The outputs of a network that was made for this call."""
    if USERS[name].outputs is not None:
        return USERS[name].outputs(weights, x)
    model = make(name)
    with sdpa_kernel(SDPBackend.MATH):
        return torch.func.functional_call(getattr(model, "_orig_mod", model), weights, (x,))


@falls_back
@users
@pytest.mark.parametrize("cls", [Reptile, IMAML, MetaSGD])
def test_other_algorithms_take_any_network_in_a_loop_as_in_their_own_way(user, cls):
    options = {"inner_lr": 0.1, "inner_steps": 2, "loss": USERS[user].loss}
    own, loop = cls(make(user), **options), cls(make(user), execution="loop", **options)
    params, keys = own.init_params(), [5, 6, 7]
    found, _ = own.meta_gradient(params, EPISODES, keys=keys)
    expected, _ = loop.meta_gradient(params, EPISODES, keys=keys)
    assert relative_error(found, expected) < 1e-10


@falls_back
@users
def test_mixed_derivatives_of_any_network_are_those_of_reverse(user):
    keys, found = [5, 6, 7], {}
    for derivative in ("reverse", "mixed"):
        algorithm = MAML(make(user), 0.1, 3, loss=USERS[user].loss, derivative=derivative)
        params = algorithm.init_params()
        found[derivative], _ = algorithm.meta_gradient(params, EPISODES, keys=keys)
    assert relative_error(found["mixed"], found["reverse"]) < 1e-10


@falls_back
@users
def test_adapting_and_scoring_any_network_is_without_dropout(user):
    algorithm = MAML(make(user), 0.1, 2, loss=USERS[user].loss)
    params, task = algorithm.init_params(), EPISODES.task(0)
    quiet = make(user).eval()
    quiet = getattr(quiet, "_orig_mod", quiet)
    scores = algorithm.score_steps(params, EPISODES)
    assert scores["loss"].shape == (3, 3)
    again = algorithm.score_steps(params, EPISODES)
    assert all(torch.equal(scores[name], again[name]) for name in scores)
    loss = USERS[user].loss(quiet(task.query_x), task.query_y)
    assert scores["loss"][0, 0].item() == pytest.approx(loss.item(), rel=1e-6)
    adapted = algorithm.adapt(params, task.support_x, task.support_y)
    assert algorithm.query_loss(adapted, task)[0].item() == pytest.approx(
        scores["loss"][0, -1].item(), rel=1e-10
    )


@falls_back
@users
def test_a_users_network_is_never_written_to(user):
    model = make(user)
    algorithm = MAML(model, 0.1, 2, loss=USERS[user].loss)
    plain = algorithm.model
    before = {n: t.clone() for n, t in plain.state_dict().items()}
    tensors = {n: id(t) for n, t in plain.state_dict(keep_vars=True).items()}
    attributes = {
        (name, key): copy.copy(value) if isinstance(value, list | dict | set) else value
        for name, module in plain.named_modules()
        for key, value in vars(module).items()
    }
    held = {
        (name, key): value.clone()
        for name, module in plain.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, torch.Tensor)
    }
    params = algorithm.init_params()
    algorithm.meta_gradient(params, EPISODES)
    algorithm.score_steps(params, EPISODES)
    task = EPISODES.task(0)
    algorithm.adapt(params, task.support_x, task.support_y)
    with pytest.raises(Exception):  # noqa: B017, PT011
        algorithm.adapt(params, task.support_x[:, :, :1, None], task.support_y)
    after = plain.state_dict(keep_vars=True)
    assert {n: id(t) for n, t in after.items()} == tensors
    assert all(torch.equal(after[n], t) for n, t in before.items())
    for name, module in plain.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, held[name, key])
            elif isinstance(value, list | dict | set):
                assert len(value) == len(attributes[name, key]), (name, key)
            else:
                assert value is attributes[name, key]


@falls_back
@users
def test_eight_threads_get_the_answers_of_one(user):
    algorithm = MAML(make(user), 0.1, 2, loss=USERS[user].loss)
    params = algorithm.init_params()
    tasks = EPISODES.tasks()

    def work(i):
        task = tasks[i % 3]
        fast = algorithm.adapt(params, task.support_x, task.support_y)
        grads, _ = algorithm.meta_gradient(params, EPISODES, keys=[1, 2, 3])
        return algorithm.query_loss(fast, task)[0].item(), grads

    alone, found = [work(i) for i in range(3)], {}

    def run(i):
        found[i] = work(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for i, (loss, grads) in found.items():
        assert loss == alone[i % 3][0]
        assert relative_error(grads, alone[0][1]) == 0


# ---- Dropout


@falls_back
@pytest.mark.parametrize("user", [name for name, u in USERS.items() if u.draws])
def test_random_numbers_follow_from_the_keys_alone(user):
    algorithm = MAML(make(user), 0.1, 2)
    loop = MAML(make(user), 0.1, 2, execution="loop")
    params = algorithm.init_params()
    torch.manual_seed(1)
    one, _ = algorithm.meta_gradient(params, EPISODES, keys=[4, 5, 6])
    state = torch.get_rng_state()
    torch.manual_seed(2)
    again, _ = loop.meta_gradient(params, EPISODES, keys=[4, 5, 6])
    other, _ = algorithm.meta_gradient(params, EPISODES, keys=[4, 5, 7])
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)  # the global generator was left alone
    assert relative_error(one, again) < 1e-12
    assert relative_error(one, other) > 1e-3


@falls_back
def test_without_keys_they_come_from_the_global_generator():
    algorithm = MAML(make("dropout"), 0.1, 2)
    params, found = algorithm.init_params(), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(algorithm.meta_gradient(params, EPISODES)[0])
    assert relative_error(found[0], found[1]) == 0
    assert relative_error(found[0], found[2]) > 1e-3


def test_chunks_and_slices_of_a_meta_batch_have_the_same_masks():
    whole, chunked = (MAML(make("dropout"), 0.1, 2, chunk_size=size) for size in (None, 2))
    params = whole.init_params()
    expected, _ = whole.meta_gradient(params, EPISODES, keys=[4, 5, 6])
    found, _ = chunked.meta_gradient(params, EPISODES, keys=[4, 5, 6])
    assert relative_error(found, expected) < 1e-12
    last = Episodes(*(t[2:] for t in EPISODES))
    first = Episodes(*(t[:2] for t in EPISODES))
    parts = [
        (2, whole.meta_gradient(params, first, keys=[4, 5])[0]),
        (1, whole.meta_gradient(params, last, keys=[6])[0]),
    ]
    mean = {n: sum(count * g[n] for count, g in parts) / 3 for n in params}
    assert relative_error(mean, expected) < 1e-12


def test_masks_drop_the_share_that_was_asked_for():
    """The mean meta-gradient over many masks is the one that can be written down."""
    torch.manual_seed(0)

    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones((), dtype=torch.float64))
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return self.drop(x) * self.w

    x, y = (f(2000, 1, 1, dtype=torch.float64) for f in (torch.ones, torch.zeros))
    for derivative in ("reverse", "mixed"):
        # w' = w (1 - 2 a m^2) is +w or -w; the query loss (q w')^2: E[2 q^2] E[(...)^2] = 4.
        maml = MAML(Dropped(), 0.25, 1, loss=F.mse_loss, derivative=derivative)
        grads, _ = maml.meta_gradient(maml.init_params(), Episodes(x, y, x, y), keys=range(2000))
        assert grads["w"].item() == pytest.approx(4, abs=0.3)


# ---- Overridden hooks are never passed by


class Tenfold:
    def query_loss(self, params, task):
        loss, metrics = super().query_loss(params, task)
        return 10 * loss, metrics


class Penalty:
    def inner_loss(self, params, fast, support, step):
        x, y = support.batch(step)
        assert x.shape == (len(y), 1, 16, 16)
        loss = super().inner_loss(params, fast, support, step)
        return loss + 0.3 * sum(p.square().sum() for p in fast.values())


class Smoothed:
    def support_loss(self, outputs, targets):
        return F.cross_entropy(outputs, targets, label_smoothing=0.4)


class Shrinking:
    def update(self, params, fast, gradient, step):
        moved = super().update(params, fast, gradient, step)
        return {name: 0.9 * p for name, p in moved.items()}


class Halved:
    def forward(self, params, x):
        return super().forward(params, x) / 2


class Doubled:
    def task_gradient(self, params, task, n_way, progress):
        grads, metrics = super().task_gradient(params, task, n_way, progress)
        return {n: 2 * g for n, g in grads.items()}, metrics


class Squared:
    def loss_after_adaptation(self, params, task, n_way, progress):
        loss, metrics = super().loss_after_adaptation(params, task, n_way, progress)
        return loss**2, metrics


class Flipped:
    def query_outputs(self, params, support_x, query_x):
        return -super().query_outputs(params, support_x, query_x)


class Rescored:
    def score(self, outputs, targets):
        loss, metrics = super().score(outputs, targets)
        return loss + outputs.square().mean(), metrics


class Frozen:
    def inner_loop(self, params, support_x, support_y, *, inner_steps=None, n_way=None):
        steps = super().inner_loop(
            params, support_x, support_y, inner_steps=inner_steps, n_way=n_way
        )
        first, *rest = steps
        yield first
        for weights in rest:
            yield {n: p if n.startswith("head") else first[n] for n, p in weights.items()}


HOOKS = [Tenfold, Penalty, Smoothed, Shrinking, Halved, Doubled, Squared, Flipped, Rescored, Frozen]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("name", ["maml", "anil", "meta-sgd", "maml++", "imaml", "reptile"])
@pytest.mark.parametrize("head", ["random", "shared"])
def test_what_a_subclass_overrides_counts_in_every_way(hook, name, head):
    """By the way that auto takes, as in a loop that goes through every method; and it matters."""
    model = Conv4(3, width=16, image_size=16, head=head, unit_features=True).double()
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    base = CONTRACTS[name].make
    cls = type(hook.__name__, (hook, base.func), {})
    options = base.keywords | {"inner_steps": 1 if head == "shared" else 2}
    if name == "reptile" and head == "shared":
        pytest.skip("one step from a shared head moves nothing on average")
    episodes = random_episodes()
    auto, loop = cls(model, **options), cls(model, execution="loop", **options)
    params = auto.init_params()
    found, _ = auto.meta_gradient(params, episodes)
    expected, _ = loop.meta_gradient(params, episodes)
    assert relative_error(found, expected) < 1e-7
    plain, _ = base.func(model, **options).meta_gradient(params, episodes)
    ignores = {
        "reptile": (Tenfold, Squared, Flipped, Rescored),
        "imaml": (Squared,),
    }
    learnt = [n for n in plain if n not in auto.moving_averages]
    # From a shared head one step moves the head alone, and some changes cancel.
    ignored = hook in ignores.get(name, ()) or (hook is Frozen and name == "anil")
    if head == "random" and not ignored:
        difference = relative_error({n: found[n] for n in learnt}, {n: plain[n] for n in learnt})
        assert difference > 1e-3
    scores = [a.score_steps(params, episodes)["loss"] for a in (auto, loop)]
    torch.testing.assert_close(*scores, rtol=1e-10, atol=1e-12)


def test_a_method_set_on_the_object_counts_as_well():
    model, episodes = stackable(), random_episodes()
    plain, own = MAML(model, 0.1, 1), MAML(model, 0.1, 1)
    one = own.query_loss

    def tenfold(params, task):
        loss, metrics = one(params, task)
        return 10 * loss, metrics

    own.query_loss = tenfold
    params = plain.init_params()
    expected, _ = plain.meta_gradient(params, episodes)
    found, _ = own.meta_gradient(params, episodes)
    assert relative_error({n: g / 10 for n, g in found.items()}, expected) < 1e-10


class MoreThanHead(Conv4):
    """A headed model whose forward does more than `head(features(x))`."""

    def forward(self, x):
        return 3 * super().forward(x)


@pytest.mark.parametrize("kind", ["forward", "hook", "head hook", "on the object"])
@pytest.mark.parametrize("cls", ["anil", "maml", "protonet"])
def test_a_network_that_does_more_than_head_of_features_gets_no_short_cut(kind, cls):
    options = {"width": 16, "image_size": 16, "head": "random", "unit_features": True}
    model = (MoreThanHead if kind == "forward" else Conv4)(3, **options).double()
    if kind == "hook":
        model.register_forward_hook(lambda module, x, out: 3 * out)
    elif kind == "head hook":
        model.head.register_forward_hook(lambda module, x, out: 3 * out)
    elif kind == "on the object":
        before = model.forward
        model.forward = lambda x: 3 * before(x)
    auto = CONTRACTS[cls].make(model)
    loop = CONTRACTS[cls].make(model, execution="loop")
    params, episodes = auto.init_params(), random_episodes()
    assert candidates(auto, 1.0, training=True)[0] not in ("stacked", "shared_body")
    found, _ = auto.meta_gradient(params, episodes)
    expected, _ = loop.meta_gradient(params, episodes)
    assert relative_error(found, expected) < 1e-10
    if cls != "protonet":  # which takes the features
        plain = Conv4(3, **options).double()
        plain.load_state_dict(model.state_dict())
        other, _ = CONTRACTS[cls].make(plain).meta_gradient(params, episodes)
        assert relative_error(found, other) > 1e-2


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


# ---- Falling back, forcing, explaining


@falls_back
def test_one_line_of_log_says_that_tasks_go_one_by_one_and_why(caplog):
    algorithm = MAML(make("branch"), 0.1, 2)
    params = algorithm.init_params()
    with caplog.at_level(logging.WARNING, logger="innerloop"):
        for _ in range(3):
            algorithm.meta_gradient(params, EPISODES)
            algorithm.score_steps(params, EPISODES)
    (line,) = [r.getMessage() for r in caplog.records]
    assert "Branch cannot be computed by vmap, so its tasks go one by one (" in line
    assert "data-dependent" in line


@users
def test_what_is_known_to_loop_does(user):
    """The table of users' networks says truly which of them vmap cannot carry."""
    algorithm = MAML(make(user), 0.1, 2, loss=USERS[user].loss, execution="vmap")
    params = algorithm.init_params()
    if USERS[user].loops:
        with pytest.raises(Exception):  # noqa: B017, PT011
            algorithm.meta_gradient(params, EPISODES, keys=[1, 2, 3])


def test_an_error_of_the_network_is_raised_as_it_is_in_a_loop():
    algorithm = MAML(nn.Sequential(nn.Flatten(), nn.Linear(11, 3)).double(), 0.1, 1)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        algorithm.meta_gradient(algorithm.init_params(), EPISODES)


def test_a_way_that_is_not_exact_is_refused_with_the_reason():
    with pytest.raises(UserError, match="execution must be one of auto, stacked"):
        MAML(MLP(4, 3), execution="fast")
    algorithm = MAML(make("LSTM"), execution="stacked")
    with pytest.raises(UserError, match=r"'stacked' is not possible here: .*axis of tasks"):
        algorithm.meta_gradient(algorithm.init_params(), EPISODES)
    cls = type("Halved", (Halved, MAML), {})
    algorithm = cls(stackable(), execution="stacked")
    with pytest.raises(UserError, match="Halved overrides forward, which is about one task"):
        algorithm.meta_gradient(algorithm.init_params(), random_episodes())


def test_explain_says_the_way_and_why_not_another():
    assert MAML(Conv4(3, width=16)).explain().startswith("stacked: all tasks together")
    text = MAML(make("attention")).explain()
    assert text.startswith("vmap: ")
    assert "not stacked: a layer of Attention does not take an axis of tasks" in text
    assert ProtoNet(Conv4(3)).explain().startswith("shared_body: ")
    assert MAML(make("LSTM")).explain().startswith("loop: ")


def test_the_fastest_way_is_one_that_works():
    algorithm = MAML(make("attention"), 0.1, 2)
    assert fastest(algorithm, algorithm.init_params(), EPISODES) in ("vmap", "loop")
    assert algorithm.execution == "auto"
    algorithm = MAML(make("branch"), 0.1, 2)
    assert fastest(algorithm, algorithm.init_params(), EPISODES) == "loop"


# ---- Arguments


def test_a_network_that_reaches_past_itself_is_refused():
    outer = nn.Linear(12, 3).double()

    class Reaching(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = outer

        def forward(self, x):
            return outer(x.flatten(1))

    algorithm = MAML(Reaching(), 0.1, 1)
    params, task = algorithm.init_params(), EPISODES.task(0)
    for use in (
        lambda: algorithm.meta_gradient(params, EPISODES),
        lambda: algorithm.score_steps(params, EPISODES),
        lambda: algorithm.adapt(params, task.support_x, task.support_y),
    ):
        with pytest.raises(UserError, match=r"its parameter a\.(weight|bias) past the module"):
            use()


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


# ---- Frozen batch norm


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


# ---- Losses, targets, metrics


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
    with pytest.raises(UserError, match="loss must return a scalar"):
        wrong.meta_gradient(wrong.init_params(), random_episodes())


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
