"""Trained networks set up for new tasks: how many steps they take, and classes of unequal size."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import innerloop
from innerloop import FewShotClassifier
from innerloop.in_use import (
    PARTS,
    SHARPER,
    class_mean_cross_entropy,
    ways_in_use,
    with_classes_alike,
)
from innerloop.learners import AdaptedNetwork


def focal(outputs, labels):
    p = outputs.log_softmax(-1).gather(-1, labels[:, None])
    return (-((1 - p.exp()) ** 2) * p).mean()


class Smooth(innerloop.MAML):
    def support_loss(self, outputs, targets):
        return F.cross_entropy(outputs, targets, label_smoothing=0.1)


def network():
    # Without batch norm, whose statistics change with every picture.
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 24), nn.Tanh(), nn.Linear(24, 3))


KINDS = {
    "maml": lambda: innerloop.MAML(network(), 0.3, inner_steps=3),
    "per_shot": lambda: innerloop.MAML(network(), 0.1, 3, inner_reduction="per_shot"),
    "focal": lambda: innerloop.MAML(network(), 0.3, 3, loss=focal),
    "own": lambda: Smooth(network(), 0.3, 3),
    "adam": lambda: innerloop.MAML(network(), 0.1, 3, inner_optimizer=innerloop.inner.Adam()),
    "meta-sgd": lambda: innerloop.MetaSGD(network(), 0.3, inner_steps=3),
    "maml++": lambda: innerloop.MAMLPlusPlus(network(), 0.3, inner_steps=3),
    "imaml": lambda: innerloop.IMAML(network(), 0.3, inner_steps=3),
    "reptile": lambda: innerloop.Reptile(network(), 0.3, inner_steps=3),
    "fine-tune": lambda: innerloop.FineTune(network(), 0.3, inner_steps=3),
    "protonet": lambda: innerloop.ProtoNet(network()),
}


def learnt(algorithm, x, labels):
    return AdaptedNetwork(algorithm, algorithm.init_params(), x, labels, 3, 1.0)


@pytest.mark.parametrize("kind", list(KINDS))
def test_pictures_that_are_given_again_change_nothing(kind):
    """Of one class three times, of another twice: with equally many, all weigh the same anyway."""
    torch.manual_seed(1)
    algorithm = KINDS[kind]()
    before = dict(vars(algorithm))
    x, queries = torch.rand(6, 1, 6, 6), torch.rand(5, 1, 6, 6)
    labels = np.array([0, 0, 1, 1, 2, 2])
    again = np.array([0, 1, 0, 1, 0, 1, 2, 3, 4, 5, 4, 5])
    once = learnt(algorithm, x, labels).stages(queries)
    more = learnt(algorithm, x[again], labels[again]).stages(queries)
    np.testing.assert_allclose(more, once, atol=1e-5)
    # And what users hold is as it was.
    assert vars(algorithm) == before


def test_a_step_minimises_the_mean_over_the_classes():
    algorithm = KINDS["maml"]()
    params = {name: p.double() for name, p in algorithm.init_params().items()}
    x, labels = torch.rand(8, 1, 6, 6, dtype=torch.float64), torch.tensor([0, 1, 1, 1, 1, 1, 2, 2])
    fast = with_classes_alike(algorithm).adapt(params, x, labels, inner_steps=1)
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    outputs = torch.func.functional_call(algorithm.model, leaves, (x,))
    each = [F.cross_entropy(outputs[labels == c], labels[labels == c]) for c in range(3)]
    slope = torch.autograd.grad(sum(each) / 3, list(leaves.values()))
    for (name, p), s in zip(leaves.items(), slope, strict=True):
        torch.testing.assert_close(fast[name], p - 0.3 * s)


def test_the_loss_of_equally_many_is_the_usual_one():
    outputs, labels = torch.randn(6, 3), torch.tensor([2, 0, 1, 1, 0, 2])
    torch.testing.assert_close(
        class_mean_cross_entropy(outputs, labels), F.cross_entropy(outputs, labels)
    )


@pytest.mark.parametrize("name", innerloop.pretrained_names())
def test_one_picture_stands_beside_classes_of_five(name):
    """No class is given up; the mean over all pictures lost most of the single ones."""
    data = innerloop.data.glyphs(300)
    rows = innerloop.data.split_classes(data)["test"]
    rng = np.random.default_rng(0)
    right: dict[bool, list[bool]] = {True: [], False: []}
    for _ in range(10):
        classes = rng.choice(rows, 6, replace=False)
        pictures = [rng.permutation(data.class_images(c)[:, 0]) for c in classes]
        support = [own[: 5 if i % 2 else 1] for i, own in enumerate(pictures)]
        labels = np.repeat(range(6), [len(own) for own in support])
        classifier = FewShotClassifier(name).fit(np.concatenate(support), labels)
        classifier = pickle.loads(pickle.dumps(classifier))
        asked = np.concatenate([own[5:10] for own in pictures])
        found = classifier.predict(asked) == np.repeat(range(6), 5)
        for i in range(6):
            right[bool(i % 2)] += found[5 * i : 5 * i + 5].tolist()
    five, single = np.mean(right[True]), np.mean(right[False])
    assert five > 0.8
    assert single > 0.7


def test_the_one_step_of_training_is_taken_in_smaller_ones(episode):
    support, labels, _, _ = episode
    assert len(FewShotClassifier().fit(support, labels).support_loss_) == 1 + PARTS
    assert len(FewShotClassifier().fit(support[::2], labels[::2]).support_loss_) == 2
    assert len(FewShotClassifier(inner_steps=3).fit(support, labels).support_loss_) == 4
    # Four quarters of a step begin as the whole one does, and end about as far.
    whole = FewShotClassifier(inner_steps=1).fit(support, labels).support_loss_
    parts = FewShotClassifier().fit(support, labels).support_loss_
    assert parts[0] == pytest.approx(whole[0], rel=1e-5)
    assert whole[1] < parts[1] < parts[0]


def conv(head="shared", unit=True):
    return innerloop.models.Conv4(width=8, head=head, unit_features=unit)


def test_steps_that_have_more_to_them_than_a_rate_stay_whole():
    class Own(innerloop.MAML):
        def rates(self, params, step):
            return 0.4

    set_on_it = innerloop.MAML(conv())
    set_on_it.rates = lambda params, step: 0.4
    for algorithm in (
        Own(conv()),
        set_on_it,
        innerloop.ANIL(conv("linear")),
        innerloop.ANIL(conv(), inner_steps=2),
        innerloop.MAMLPlusPlus(conv(), inner_steps=3),
        # All weights move, in these from the second step on.
        innerloop.MAML(conv("linear")),
        innerloop.MAML(conv(), inner_steps=3),
    ):
        trained = algorithm.inner_steps
        for several in (False, True):
            most = trained if several else 5
            assert ways_in_use(algorithm, 5, several=several) == [(algorithm, most, 1)]
            assert ways_in_use(algorithm, 1, several=several) == [(algorithm, 1, 1)]
            assert ways_in_use(algorithm, None, several=several) == [(algorithm, None, 1)]


@pytest.mark.parametrize("kind", [innerloop.MAML, innerloop.MetaSGD, innerloop.ANIL])
@pytest.mark.parametrize("rates", [0.4, {"head.*": 0.2, "*": 0.4}])
def test_small_steps_have_shares_of_every_rate_and_move_the_head_alone(kind, rates):
    algorithm = kind(conv(), rates, inner_steps=1)
    before = {name: algorithm.inner_lr_of(name) for name in algorithm.adapted_names}
    [(small, steps, sharper), whole] = ways_in_use(algorithm, 3, several=True)
    assert (steps, sharper) == (PARTS, SHARPER)
    assert whole[1:] == (1, 1)
    (alone,) = ways_in_use(algorithm, 3, several=False)
    assert alone[1:] == (1, 1)
    assert alone.algorithm._rates == whole.algorithm._rates
    # Other features may be so long that no share of a step is safe.
    other = kind(conv(unit=False), rates, inner_steps=1)
    assert [way[1:] for way in ways_in_use(other, 3, several=True)] == [(1, 1)]
    assert type(small) is kind
    for name, rate in before.items():
        assert algorithm.inner_lr_of(name) == rate
        if name.startswith("head."):
            assert small.inner_lr_of(name) == pytest.approx(rate / PARTS)
    params = algorithm.init_params()
    x, y = torch.randn(10, 1, 28, 28), torch.arange(5).repeat(2)
    fast = small.adapt(params, x, y, inner_steps=steps, n_way=5)
    moved = {
        name for name in fast if not torch.equal(fast[name], params[name].expand_as(fast[name]))
    }
    assert moved == {name for name in before if name.startswith("head.")}


@pytest.mark.parametrize(("rate", "steps"), [(0.02, PARTS), (1.0, 1)])
def test_small_steps_that_overshoot_give_way_to_the_step_of_training(rate, steps):
    """At a high rate even quarters of a step are too long where pictures look alike."""
    torch.manual_seed(0)
    model = conv()
    loaded = innerloop.load("omniglot-conv4")
    own = loaded._replace(
        model=model,
        params=innerloop.MAML(model, rate, inner_steps=1).init_params(),
        config=dataclasses.replace(loaded.config, inner_lr=rate),
    )
    images = np.random.default_rng(0).integers(0, 256, (10, 28, 28), dtype=np.uint8)
    images[:, :24] = images[0, :24]
    classifier = FewShotClassifier(own, prepare="none").fit(images, [0, 1, 2, 3, 4] * 2)
    assert len(classifier.support_loss_) == 1 + steps
    assert np.all(np.diff(classifier.support_loss_) < 0)
