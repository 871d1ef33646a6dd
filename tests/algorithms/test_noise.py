"""The random numbers of a forward pass follow from the key of the task and the inner step."""

from __future__ import annotations

import random
import threading
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from innerloop import MAML, Episodes, EpisodeSampler, UserError, evaluate
from innerloop.algorithms.noise import calls, drawing, episode_keys, training, watching
from innerloop.data import from_arrays
from tests.algorithms.users import EPISODES, USERS, make
from tests.helpers import relative_error

falls_back = pytest.mark.falls_back


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
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is unchanged
    assert relative_error(one, again) < 1e-12
    assert relative_error(one, other) > 1e-3


def test_keys_and_masks_stay_the_same_from_release_to_release():
    """Or a run that is resumed with another version would be another run."""
    assert episode_keys(4, 6, 2) == (1731005065409640617, 4914139311343382844)
    x = torch.ones(16)
    with calls(training=True, keys=[7]), drawing(False, x):
        mask, nothing = nn.Dropout(0.5)(x), nn.AlphaDropout(1.0)(x)
    assert not nothing.any()
    assert "".join(str(int(m)) for m in mask) == "0000222202002220"


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


def attend(q, mask, dropout=0.0, causal=False):
    with watching():
        return F.scaled_dot_product_attention(
            q, q, q, attn_mask=mask, dropout_p=dropout, is_causal=causal
        )


@pytest.mark.parametrize("kind", ["none", "causal", "boolean", "numbers", "a row of nothing"])
def test_attention_is_that_of_pytorch_whatever_its_mask(kind):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    boolean = torch.rand(4, 4, generator=generator) > 0.3
    boolean.fill_diagonal_(True)
    masks = {"boolean": boolean, "numbers": torch.randn(4, 4, dtype=torch.float64)}
    masks["a row of nothing"] = boolean.clone()
    masks["a row of nothing"][1] = False
    mask, causal = masks.get(kind), kind == "causal"
    expected = F.scaled_dot_product_attention(q, q, q, attn_mask=mask, is_causal=causal)
    torch.testing.assert_close(attend(q, mask, causal=causal), expected)
    # With almost no dropout, the other branch gives the same result.
    torch.testing.assert_close(attend(q, mask, 1e-12, causal), expected)
    with pytest.raises(RuntimeError, match="not both"):
        attend(q, boolean, causal=True)


class Twice(nn.Module):
    """Draws in one branch alone; a part may be computed again in the backward pass."""

    def __init__(self, again=False):
        super().__init__()
        self.a, self.b = nn.Linear(12, 8), nn.Linear(8, 3)
        self.drop, self.again = nn.Dropout(0.5), again

    def hidden(self, x):
        return self.drop(torch.tanh(self.a(x)))

    def forward(self, x):
        x = x.flatten(1)
        if self.again:
            return self.b(checkpoint(self.hidden, x, use_reentrant=False))
        return self.b(self.hidden(x))


@falls_back
def test_what_is_computed_again_in_the_backward_pass_has_the_same_masks():
    torch.manual_seed(0)
    algorithm = MAML(Twice(again=True).double(), 0.1, 1, first_order=True)
    params, found = algorithm.init_params(), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(algorithm.meta_gradient(params, EPISODES, keys=[4, 5, 6])[0])
    assert relative_error(*found) == 0
    # The query gradient at the adapted weights, by finite differences with the masks held.
    loss = partial(algorithm.meta_gradient, episodes=EPISODES, keys=[4, 5, 6])
    last = {n: p.clone() for n, p in params.items()}
    grads, _ = loss(last)
    step = {n: 1e-6 * g for n, g in grads.items() if n == "b.bias"}
    ends = [
        loss({n: p + sign * step.get(n, 0) for n, p in last.items()})[1]["loss"].item()
        for sign in (1, -1)
    ]
    assert (ends[0] - ends[1]) > 0


def test_masks_change_from_step_to_step_and_from_call_to_call():
    """Without keys; a forward pass of the user's own, the network called twice in it."""

    class RDrop(MAML):
        def forward(self, params, x):
            one, other = super().forward(params, x), super().forward(params, x)
            if training():
                assert not torch.equal(one, other)
            return (one + other) / 2

    torch.manual_seed(0)
    algorithm = RDrop(Twice().double(), 0.1, 1, execution="loop")
    params = algorithm.init_params()
    losses = {algorithm.meta_gradient(params, EPISODES)[1]["loss"].item() for _ in range(4)}
    assert len(losses) == 4


@pytest.mark.parametrize("keys", [[1, 2], [1, 2, 3, 4]])
def test_keys_have_to_be_one_a_task(keys):
    algorithm = MAML(make("dropout"), 0.1, 1)
    with pytest.raises(UserError, match="one integer a task"):
        algorithm.meta_gradient(algorithm.init_params(), EPISODES, keys=keys)


def test_a_network_that_draws_nothing_leaves_the_global_generator_alone():
    algorithm = MAML(make("attention"), 0.1, 1)
    params = algorithm.init_params()
    before = torch.get_rng_state()
    algorithm.meta_gradient(params, EPISODES)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_another_thread_draws_meanwhile_is_not_taken_for_the_networks_own():
    """Keys of tasks come from the global generator, too, while a network is looked at."""
    x, y = torch.randn(2, 6, 4), torch.arange(3).repeat(2, 2)
    episodes = Episodes(x, y, x, y)
    drawn, ended = threading.Event(), threading.Event()

    def loss(outputs, targets):
        drawn.set()
        ended.wait(20)
        return F.cross_entropy(outputs, targets)

    other = MAML(nn.Sequential(nn.Linear(4, 3)), loss=loss)
    arguments = other.init_params(), episodes
    # While a loss is tried, before its first use, other threads draw nothing.
    ended.set()
    other.meta_gradient(*arguments)
    ended.clear()
    drawn.clear()
    beside = threading.Thread(target=other.meta_gradient, args=arguments)

    class Watched(nn.Linear):
        """A forward pass in which another thread has time to draw its keys."""

        def forward(self, x):
            if training() and beside.ident is None:
                beside.start()
                drawn.wait(1)
            return super().forward(x)

    maml = MAML(Watched(4, 3))
    maml.meta_gradient(maml.init_params(), episodes)
    ended.set()
    beside.join()
    assert drawn.is_set()
    assert not maml.network.draws


class Noisy(nn.Module):
    """Draws from each global generator, in training and at test time."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x):
        return self.linear(x + torch.randn_like(x)) * (1 + random.random() + np.random.rand())  # noqa: NPY002


@falls_back
def test_noise_of_a_networks_own_is_the_same_in_every_evaluation():
    maml = MAML(Noisy(), 0.1)
    tasks = EpisodeSampler(
        from_arrays(np.random.default_rng(0).normal(size=(80, 6)), np.arange(80) % 8),
        n_way=3,
        k_query=2,
    )
    params = maml.init_params()
    found, state = [], torch.get_rng_state()
    for chunk_size in (8, 3, 8):
        result = evaluate(maml, params, tasks, tasks=10, chunk_size=chunk_size)
        found.append([*result["loss_per_step"], *result["accuracies"]])
        np.random.rand()  # noqa: NPY002
        random.random()
    assert found[0] == found[1] == found[2]
    assert torch.equal(state, torch.get_rng_state())
    task = Episodes(*(t[0] for t in tasks.batch(0, 1)))
    outputs = [maml.adapt(params, task.support_x, task.support_y) for _ in range(2)]
    for name, p in outputs[0].items():
        assert torch.equal(p, outputs[1][name])


@falls_back
def test_a_network_that_draws_in_training_alone_is_not_seeded_in_use():
    class Own(Noisy):
        def forward(self, x):
            return self.linear(x + torch.randn_like(x)) if self.training else self.linear(x)

    maml = MAML(Own(), 0.1)
    maml.network.look(torch.randn(4, 6))
    assert maml.network._draws_globally == {True: True, False: False}


class Generators(nn.Module):
    """Noise from a generator of Python's or NumPy's own."""

    def __init__(self, draw):
        super().__init__()
        self.draw, self.out = draw, nn.Linear(12, 3)

    def forward(self, x):
        return self.out(x.flatten(1)) + (self.draw() if self.training else 0)


@falls_back
@pytest.mark.parametrize("draw", [random.random, np.random.rand], ids=["Python", "NumPy"])
def test_random_numbers_of_python_and_numpy_follow_from_the_keys(draw):
    found = []
    for derivative in ("reverse", "mixed", "reverse"):
        model = Generators(draw).double()
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.linspace(-1, 1, p.numel()).view_as(p))
        maml = MAML(
            model,
            0.1,
            2,
            derivative=derivative,
            # Not cross-entropy: softmax cancels what is added to all outputs.
            loss=lambda o, t: (o.gather(1, t[:, None]) ** 2).mean(),
        )
        draw()
        before = random.getstate(), np.random.get_state()[2]  # noqa: NPY002
        found.append(maml.meta_gradient(maml.init_params(), EPISODES, keys=(4, 5, 6))[0])
        assert (random.getstate(), np.random.get_state()[2]) == before  # noqa: NPY002
    for other in found[1:]:
        for name, g in found[0].items():
            torch.testing.assert_close(other[name], g)


HELD = {
    "torch": (lambda: torch.Generator().manual_seed(3), lambda g: torch.rand(1, generator=g)),
    "NumPy": (lambda: np.random.default_rng(3), lambda g: g.random()),
    "NumPy, legacy": (lambda: np.random.RandomState(3), lambda g: g.rand()),
    "Python": (lambda: random.Random(3), lambda g: g.random()),
}


class Holds(nn.Module):
    """Noise from two generators of its own, which nobody else may draw from."""

    def __init__(self, kind):
        super().__init__()
        make_one, self.draw = HELD[kind]
        self.first, self.others, self.out = make_one(), {"second": make_one()}, nn.Linear(12, 3)

    def forward(self, x):
        drawn = self.draw(self.first), self.draw(self.others["second"])
        assert drawn[0] != drawn[1]
        return self.out(x.flatten(1)).tanh() * (0.5 + drawn[0])


@falls_back
@pytest.mark.parametrize("kind", HELD)
def test_generators_that_a_network_holds_are_copied_and_follow_from_the_keys(kind):
    torch.manual_seed(0)
    model = Holds(kind).double()
    found = {}
    for derivative in ("reverse", "mixed"):
        maml = MAML(model, 0.1, 3, derivative=derivative)
        for keys in ((4, 5, 6), (4, 5, 6), (5, 4, 6)):
            grads, _ = maml.meta_gradient(maml.init_params(), EPISODES, keys=keys)
            known = found.setdefault(keys, grads)
            assert relative_error(grads, known) < 1e-10
    assert relative_error(found[4, 5, 6], found[5, 4, 6]) > 1e-4
    fresh = HELD[kind][0]()
    assert model.draw(model.first) == model.draw(fresh)
    maml = MAML(model, 0.1, 3, execution="stacked")
    with pytest.raises(UserError, match="draws random numbers"):
        maml.meta_gradient(maml.init_params(), EPISODES)


@falls_back
def test_numbers_of_the_system_follow_from_the_keys_too():
    """Python's `SystemRandom` has no state that could be seen or set."""

    class Drawn(nn.Module):
        def __init__(self):
            super().__init__()
            self.draw, self.out = random.SystemRandom(), nn.Linear(12, 3)

        def forward(self, x):
            return self.out(x.flatten(1)) * (0.5 + self.draw.random())

    maml = MAML(Drawn().double(), 0.1, 2)
    once, again = (
        maml.meta_gradient(maml.init_params(), EPISODES, keys=(4, 5, 6))[0] for _ in range(2)
    )
    assert relative_error(once, again) == 0


def test_what_a_network_counts_in_an_array_is_dropped_after_each_call():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls, self.out = np.zeros(1), nn.Linear(12, 3)

        def forward(self, x):
            self.calls += 1
            return self.out(x.flatten(1)) * float(self.calls[0])

    model = Counts().double()
    maml = MAML(model, 0.1, 2)
    once, again = (maml.meta_gradient(maml.init_params(), EPISODES)[0] for _ in range(2))
    assert relative_error(once, again) == 0
    assert not model.calls.any()
