"""The inner update of every algorithm: optimisers, one's own among them, and rates by pattern."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import ANIL, BOIL, IMAML, MAML, FineTune, MAMLPlusPlus, MetaSGD, Reptile, UserError
from innerloop.functional import descend
from innerloop.inner import SGD, Adam
from innerloop.models import MLP, Conv4
from tests.algorithms.networks import Small, stackable
from tests.helpers import NormNet, directional_derivative, random_episodes, relative_error

STEPS = 3
OPTIMIZERS = {
    "momentum": SGD(0.9, 0.1),
    "nesterov": SGD(0.9, nesterov=True),
    "adam": Adam(eps=1e-3, weight_decay=0.01),
    "adamw": Adam(eps=1e-3, weight_decay=0.1, decoupled_weight_decay=True),
}


class Own:
    """A user's own, which looks at all numbers of a weight: a step of fixed length, averaged.

    Its state grows a tensor at the first step, and counts.
    """

    def init(self, weights):
        return {"anchor": dict(weights), "count": 0}

    def update(self, weights, gradient, state, rates):
        state = dict(state, count=state["count"] + 1)
        old = state.get("length", dict.fromkeys(weights, 0.0))
        state["length"] = {
            n: 0.5 * old[n] + (g.square().sum() + 1e-6).sqrt() for n, g in gradient.items()
        }
        slope = {n: g / state["length"][n] / state["count"] for n, g in gradient.items()}
        pulled = {n: p + 0.1 * (state["anchor"][n] - p) for n, p in weights.items()}
        return descend(pulled, slope, rates), state


class Stateless:
    """One without a state that looks at all numbers of a weight: a step of fixed length."""

    def init(self, weights):
        return None

    def update(self, weights, gradient, state, rates):
        assert state is None
        slope = {n: g / (g.square().sum() + 1e-6).sqrt() for n, g in gradient.items()}
        return descend(weights, slope, rates), None


ALL = {**OPTIMIZERS, "own": Own(), "stateless": Stateless()}


def naive(model, params, episodes, optimizer, *, rates=0.05, steps=STEPS, first_order=False):
    """One task after the other by plain autograd."""
    leaves = {n: p.detach().clone().requires_grad_() for n, p in params.items()}
    total = 0
    for i in range(episodes.num_tasks):
        task = episodes.task(i)
        fast = {n: p + 0 for n, p in leaves.items()}
        state = optimizer.init(fast)
        for _ in range(steps):
            out = torch.func.functional_call(model, fast, (task.support_x,))
            slope = torch.autograd.grad(
                F.cross_entropy(out, task.support_y),
                [*fast.values()],
                create_graph=not first_order,
                materialize_grads=True,
            )
            fast, state = optimizer.update(fast, dict(zip(fast, slope, strict=True)), state, rates)
        out = torch.func.functional_call(model, fast, (task.query_x,))
        total = total + F.cross_entropy(out, task.query_y) / episodes.num_tasks
    return dict(
        zip(
            leaves,
            torch.autograd.grad(total, [*leaves.values()], materialize_grads=True),
            strict=True,
        )
    )


@pytest.mark.parametrize("optimizer", ALL.values(), ids=ALL)
@pytest.mark.parametrize("derivative", ["first", "reverse", "mixed"])
@pytest.mark.parametrize("execution", ["stacked", "vmap", "loop"])
def test_every_way_gives_the_numbers_of_a_naive_loop(optimizer, derivative, execution):
    model, episodes = stackable(), random_episodes()
    options = {"first_order": True} if derivative == "first" else {"derivative": derivative}
    maml = MAML(model, 0.05, STEPS, inner_optimizer=optimizer, execution=execution, **options)
    params = maml.init_params()
    found, _ = maml.meta_gradient(params, episodes)
    expected = naive(model, params, episodes, optimizer, first_order=derivative == "first")
    assert relative_error(found, expected) < 1e-8


@pytest.mark.parametrize("optimizer", ALL.values(), ids=ALL)
def test_meta_gradient_equals_finite_differences(optimizer):
    model, episodes = NormNet("batch").double(), random_episodes()
    maml = MAML(model, 0.05, STEPS, inner_optimizer=optimizer, inner_max_norm=0.5)
    params = maml.init_params()
    generator = torch.Generator().manual_seed(5)
    along = {n: torch.randn(p.shape, generator=generator, dtype=p.dtype) for n, p in params.items()}
    numeric = directional_derivative(
        lambda p: maml.meta_gradient(p, episodes)[1]["loss"], params, along
    )
    grads, _ = maml.meta_gradient(params, episodes)
    assert sum((grads[n] * along[n]).sum() for n in grads).item() == pytest.approx(
        numeric, rel=1e-5
    )


@pytest.mark.parametrize("derivative", ["reverse", "mixed"])
@pytest.mark.parametrize("make", [MAML, ANIL, BOIL, MetaSGD, MAMLPlusPlus, Reptile, IMAML])
def test_every_algorithm_gives_the_same_numbers_in_every_way(make, derivative):
    options = {} if make in (Reptile, IMAML) else {"derivative": derivative}
    found = {}
    for way in ("auto", "vmap", "loop"):
        algorithm = make(
            stackable(),
            {"head.*": 0.1, "*": 0.02},
            STEPS,
            inner_optimizer=Adam(eps=1e-3),
            execution=way,
            **options,
        )
        params, episodes = algorithm.init_params(), random_episodes()
        found[way], _ = algorithm.meta_gradient(params, episodes)
        plain = make(stackable(), {"head.*": 0.1, "*": 0.02}, STEPS, **options)
        assert relative_error(found[way], plain.meta_gradient(params, episodes)[0]) > 1e-3
        scores = algorithm.score_steps(params, episodes, inner_steps=STEPS + 2)["loss"]
        assert scores.shape == (episodes.num_tasks, STEPS + 3)
    assert relative_error(found["auto"], found["loop"]) < 1e-8
    assert relative_error(found["vmap"], found["loop"]) < 1e-8


def test_fine_tuning_adapts_with_it():
    model, task = Small(), random_episodes(tasks=1).task(0)
    plain, adam = (FineTune(model, 0.01, num_classes=3, inner_optimizer=o) for o in (None, Adam()))
    ends = [a.adapt(a.init_params(), task.support_x, task.support_y) for a in (plain, adam)]
    assert not torch.equal(ends[0]["head.weight"], ends[1]["head.weight"])


@pytest.mark.parametrize("make", [MAML, ANIL, BOIL, MetaSGD, MAMLPlusPlus, Reptile, IMAML])
def test_plain_sgd_changes_no_bit(make):
    episodes = random_episodes()
    for way in ("auto", "vmap"):
        found = []
        for optimizer in (None, SGD()):
            algorithm = make(stackable(), 0.05, 2, inner_optimizer=optimizer, execution=way)
            found.append(algorithm.meta_gradient(algorithm.init_params(), episodes)[0])
        assert all(torch.equal(found[0][n], found[1][n]) for n in found[0])


def test_a_shared_head_and_one_step_are_no_short_cut_any_more():
    """With weight decay the body moves, although its gradient is zero."""
    model = Conv4(3, width=4, image_size=16, head="shared").double()
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    maml = MAML(model, 0.1, 1, inner_optimizer=SGD(weight_decay=0.5))
    params, episodes = maml.init_params(), random_episodes()
    found, _ = maml.meta_gradient(params, episodes)
    maml.execution = "loop"
    assert relative_error(found, maml.meta_gradient(params, episodes)[0]) < 1e-10
    task = episodes.task(0)
    adapted = maml.adapt(params, task.support_x, task.support_y)
    torch.testing.assert_close(adapted["convs.0.weight"], params["convs.0.weight"] * 0.95)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_rate_is_a_finite_number_above_0(rate):
    for rates in (rate, {"*": rate}):
        with pytest.raises(UserError, match="inner_lr"):
            MAML(Small(), rates)


def test_rates_by_pattern_first_match_counts():
    model = MLP(4, 3)
    x, y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(3).repeat(2)
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    names = [n for n, _ in model.named_parameters()]
    steps = {}
    for rates in (1.0, {"head.bias": 0.25, "head.*": 0.5, "*": 2.0}):
        maml = MAML(model, rates)
        params = maml.init_params()
        adapted = maml.adapt(params, x, y)
        steps[str(rates)] = {n: adapted[n] - params[n] for n in names}
    one, other = steps.values()
    for name in names:
        rate = {"head.bias": 0.25, "head.weight": 0.5}.get(name, 2.0)
        torch.testing.assert_close(other[name], rate * one[name], rtol=1e-4, atol=1e-6)


def test_learnt_rates_are_multiples_of_the_patterns():
    maml = MetaSGD(MLP(4, 3), {"head.*": 0.4, "*": 0.01})
    rates = maml.rates(maml.init_params(), 0)
    assert {n: r.unique().item() for n, r in rates.items() if n.startswith("head")} == {
        "head.weight": pytest.approx(0.4),
        "head.bias": pytest.approx(0.4),
    }


class Mutates(Own):
    """Changes the dict of its state, which is a copy."""

    def update(self, weights, gradient, state, rates):
        state["count"] += 1
        slope = {n: g / state["count"] for n, g in gradient.items()}
        return descend(weights, slope, rates), state


class Writes(Own):
    """Changes a tensor of its state, which may be asked for again."""

    def update(self, weights, gradient, state, rates):
        for p in state["anchor"].values():
            p.mul_(0.9)
        return dict(weights), state


@pytest.mark.parametrize("elementwise", [False, True])
def test_a_state_that_is_changed_in_place(elementwise):
    mutates, writes = Mutates(), Writes()
    mutates.elementwise = writes.elementwise = elementwise
    episodes, found = random_episodes(), []
    for derivative in ("reverse", "mixed"):
        maml = MAML(stackable(), 0.05, 12, inner_optimizer=mutates, derivative=derivative)
        found.append(maml.meta_gradient(maml.init_params(), episodes)[0])
    assert relative_error(found[1], found[0]) < 1e-10
    maml = MAML(stackable(), 0.05, 12, inner_optimizer=writes)
    task = episodes.task(0)
    with pytest.raises(UserError, match=r"^Writes\.update writes into the tensors"):
        maml.adapt(maml.init_params(), task.support_x, task.support_y)


class Forgets(Own):
    def update(self, weights, gradient, state, rates):
        return {"other": next(iter(weights.values()))}, state


class Opaque(Own):
    def init(self, weights):
        return {"anchor": object()}


class Differs(Own):
    def update(self, weights, gradient, state, rates):
        return dict(weights), float(next(iter(gradient.values())).sum())


class Overrides(MAML):
    def update(self, params, fast, gradient, step):
        return fast


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: MAML(m, {"head.*": 0.4}), r"no rate for .*add a pattern, for instance '\*'"),
        (lambda m: MAML(m, {"tail.*": 0.4, "*": 1}), r"'tail.\*' matches none of"),
        (lambda m: MAML(m, {"*": 0.4, "head.*": 1}), r"'head.\*' comes after"),
        (lambda m: MAML(m, {"*": 0.0}), r"inner_lr\['\*'\] must be greater than 0"),
        (lambda m: MAML(m, {"*": "much"}), r"inner_lr\['\*'\] must be a number"),
        (lambda m: MAML(m, {}), "inner_lr is empty"),
        (lambda m: MAML(m, inner_optimizer=SGD), "must be an object with init"),
        (
            lambda m: MAML(m, inner_optimizer=torch.optim.SGD(m.parameters(), lr=0.1)),
            r"not torch.optim.sgd.SGD: innerloop.inner.SGD\(\)",
        ),
        (lambda m: Overrides(m, inner_optimizer=SGD()), "Overrides overrides update"),
        (lambda m: IMAML(m, inner_optimizer=SGD(weight_decay=0.1)), "put the decay into the loss"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make(MLP(4, 3))


@pytest.mark.parametrize("execution", ["stacked", "loop"])
@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (Forgets(), "with the names and shapes"),
        (Opaque(), "this one holds a object"),
        (Differs(), "keep as a tensor what depends on the task"),
    ],
)
def test_mistakes_of_ones_own_are_named(optimizer, message, execution):
    if isinstance(optimizer, Differs) and execution == "loop":
        return  # where a number may depend on the task
    maml = MAML(stackable(), 0.1, 2, True, inner_optimizer=optimizer, execution=execution)
    with pytest.raises(UserError, match=message):
        maml.meta_gradient(maml.init_params(), random_episodes())


# ---- Beside other libraries

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
        import higher
    except ImportError:
        higher = None
    try:
        import torchopt
    except ImportError:
        torchopt = None

PEERS = {
    "momentum": (SGD(0.9, 0.1), torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    # TorchOpt takes powers of the betas in float32, exact for these; higher adds eps before the
    # bias is corrected.
    "adam": (
        Adam((0.5, 0.75), 1e-15),
        torch.optim.Adam,
        {"betas": (0.5, 0.75), "eps": 1e-15},
    ),
}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.skipif(higher is None, reason="higher is not installed")
@pytest.mark.filterwarnings("ignore::UserWarning:higher")
def test_meta_gradient_equals_that_of_higher(name):
    ours, kind, options = PEERS[name]
    model, episodes = NormNet("layer").double(), random_episodes()
    algorithm = MAML(model, 0.05, STEPS, inner_optimizer=ours)
    grads, _ = algorithm.meta_gradient(algorithm.init_params(), episodes)
    total = 0
    for i in range(episodes.num_tasks):
        task = episodes.task(i)
        inner = kind(model.parameters(), lr=0.05, **options)
        with higher.innerloop_ctx(model, inner, copy_initial_weights=False) as (fast, steps):
            for _ in range(STEPS):
                steps.step(F.cross_entropy(fast(task.support_x), task.support_y))
            total = total + F.cross_entropy(fast(task.query_x), task.query_y)
    found = torch.autograd.grad(total / episodes.num_tasks, [*model.parameters()])
    expected = dict(zip((n for n, _ in model.named_parameters()), found, strict=True))
    assert relative_error(grads, expected) < 1e-8


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.skipif(torchopt is None, reason="TorchOpt is not installed")
def test_meta_gradient_equals_that_of_torchopt(name):
    ours, kind, options = PEERS[name]
    model, episodes = NormNet("layer").double(), random_episodes(tasks=1)
    algorithm = MAML(model, 0.05, STEPS, inner_optimizer=ours)
    grads, _ = algorithm.meta_gradient(algorithm.init_params(), episodes)
    task = episodes.task(0)
    make = {torch.optim.SGD: torchopt.sgd, torch.optim.Adam: torchopt.adam}[kind]
    inner = make(lr=0.05, **options)
    leaves = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}
    fast, state = dict(leaves), inner.init(leaves)
    for _ in range(STEPS):
        out = torch.func.functional_call(model, fast, (task.support_x,))
        slope = torch.autograd.grad(
            F.cross_entropy(out, task.support_y), [*fast.values()], create_graph=True
        )
        slope = dict(zip(fast, slope, strict=True))
        moves, state = inner.update(slope, state, params=fast, inplace=False)
        fast = torchopt.apply_updates(fast, moves, inplace=False)
    out = torch.func.functional_call(model, fast, (task.query_x,))
    found = torch.autograd.grad(F.cross_entropy(out, task.query_y), [*leaves.values()])
    assert relative_error(grads, dict(zip(leaves, found, strict=True))) < 1e-8
