"""Trained networks set up for new tasks: classes with unequal numbers of pictures."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import innerloop
from innerloop import FewShotClassifier
from innerloop.in_use import class_mean_cross_entropy, with_classes_alike
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
