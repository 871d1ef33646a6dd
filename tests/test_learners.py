"""By `views`, a network learns mirror images or turned pictures, too, and averages the answers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

import innerloop
from innerloop import EpisodeSampler, FewShotClassifier, UserError
from innerloop.exporting.network import Pixels, learner
from innerloop.learners import AdaptedNetwork
from innerloop.training.report import format_result
from tests.test_evaluation_in_use import TASKS, by_the_classifier

DATA = innerloop.data.glyphs(40)
SETTINGS = {"prepare": "none", "ink": "dark"}


def of_shots(episode, k_shot):
    """The support set with so many pictures a class, its labels, and the queries."""
    support, labels, query, _ = map(np.asarray, episode)
    kept = np.concatenate([np.flatnonzero(labels == c)[:k_shot] for c in "abcde"])
    return support[kept], labels[kept], query


@pytest.mark.parametrize("name", ["omniglot-conv4", "omniglot-5steps", "omniglot-protonet"])
@pytest.mark.parametrize("k_shot", [1, 2])
def test_four_answers_are_averaged(name, k_shot, episode):
    support, labels, query = of_shots(episode, k_shot)
    logs = []
    for images in (support, support[..., ::-1]):
        alone = FewShotClassifier(name, **SETTINGS).fit(images, labels)
        logs += [np.log(alone.predict_proba(x)) for x in (query, query[..., ::-1])]
    expected = np.exp(np.mean(logs, axis=0))
    expected /= expected.sum(axis=1, keepdims=True)
    both = FewShotClassifier(name, views="flips", **SETTINGS).fit(support, labels)
    np.testing.assert_allclose(both.predict_proba(query), expected, atol=1e-5)
    # Whichever way round anything is seen.
    np.testing.assert_allclose(both.predict_proba(query[..., ::-1]), expected, atol=1e-5)
    turned = FewShotClassifier(name, views="flips", **SETTINGS).fit(support[..., ::-1], labels)
    np.testing.assert_allclose(turned.predict_proba(query), expected, atol=1e-5)
    # The temperature is that of the network, and another takes its place.
    given = FewShotClassifier(name, views="flips", temperature=both.temperature_, **SETTINGS)
    assert both.temperature_ == pytest.approx(alone.temperature_)
    np.testing.assert_allclose(
        given.fit(support, labels).predict_proba(query), both.predict_proba(query), atol=1e-9
    )
    whole = FewShotClassifier(name, views="whole", **SETTINGS).fit(support, labels)
    assert np.abs(whole.predict_proba(query) - expected).max() > 1e-3


def test_what_is_refused_is_compared_with_the_same_average(episode):
    """The threshold comes from pictures told by what learnt without them, in all four ways."""
    support, labels, query, _ = episode
    support, labels = np.asarray(support), np.array(labels)
    both = FewShotClassifier(views="flips", **SETTINGS).fit(support, labels)
    found = both.predict(query, reject=0.2)
    limit = both.threshold(0.2).value
    assert [f is None for f in found] == (both.familiarity(query) < limit).tolist()
    fitted = both._fitted
    # Of two pictures a class, the first fold leaves out one.
    first = fitted._networks[0].folds()[0]
    pictures = both._inputs(support[first])
    plain, mirror = (of.without(first) for of in fitted._networks)
    by_hand = [
        of.familiarity(seen) for of in (plain, mirror) for seen in (pictures, pictures.flip(-1))
    ]
    left_out = fitted.left_out_familiarity()
    assert len(left_out) == len(labels)
    np.testing.assert_allclose(left_out[: len(first)], np.mean(by_hand, axis=0), rtol=1e-5)


@pytest.mark.parametrize("name", ["omniglot-conv4", "omniglot-5steps", "omniglot-protonet"])
@pytest.mark.parametrize("k_shot", [1, 2])
def test_each_turn_is_told_by_what_has_learnt_it(name, k_shot, episode):
    """Nothing is taken for the same when it is turned: a quarter turn can be another character."""
    support, labels, query = of_shots(episode, k_shot)
    logs, familiarities = [], []
    for turns in range(4):
        alone = FewShotClassifier(name, **SETTINGS)
        alone.fit(np.rot90(support, turns, axes=(-2, -1)), labels)
        seen = np.rot90(query, turns, axes=(-2, -1))
        logs.append(np.log(alone.predict_proba(seen)))
        familiarities.append(alone.familiarity(seen))
    expected = np.exp(np.mean(logs, axis=0))
    expected /= expected.sum(axis=1, keepdims=True)
    together = FewShotClassifier(name, views="turns", **SETTINGS).fit(support, labels)
    np.testing.assert_allclose(together.predict_proba(query), expected, atol=1e-5)
    np.testing.assert_allclose(together.familiarity(query), np.mean(familiarities, 0), rtol=1e-4)
    # What was learnt counts in the loss of the support set as it does in the answers.
    sharp = FewShotClassifier(name, views="turns", temperature=1.0, **SETTINGS)
    told = sharp.fit(support, labels).predict_proba(support)
    right = told[np.arange(len(labels)), np.searchsorted(sharp.classes_, labels)]
    assert together.support_loss_[-1] == pytest.approx(-np.log(right).mean(), rel=1e-3)
    again = pickle.loads(pickle.dumps(together))
    np.testing.assert_array_equal(again.predict_proba(query), together.predict_proba(query))


def test_refusal_by_turns_leaves_pictures_out_in_every_turn(episode):
    support, labels, query, _ = episode
    support, labels = np.asarray(support), np.array(labels)
    together = FewShotClassifier(views="turns", **SETTINGS).fit(support, labels)
    fitted = together._fitted
    first = fitted._networks[0].folds()[0]
    pictures = together._inputs(support[first])
    by_hand = [
        of.without(first).familiarity(torch.rot90(pictures, turns, (-2, -1)))
        for turns, of in enumerate(fitted._networks)
    ]
    left_out = fitted.left_out_familiarity()
    assert len(left_out) == len(labels)
    np.testing.assert_allclose(left_out[: len(first)], np.mean(by_hand, axis=0), rtol=1e-5)
    found = together.predict(query, reject=0.2)
    limit = together.threshold(0.2).value
    assert [f is None for f in found] == (together.familiarity(query) < limit).tolist()


@pytest.mark.parametrize(("views", "said"), [("flips", "mirrored"), ("turns", "turned")])
def test_evaluation_in_use_sees_the_same(views, said):
    loaded = innerloop.load("omniglot-conv4")
    sampler = EpisodeSampler(DATA, n_way=5, k_shot=2, k_query=3, split="test")
    found = innerloop.evaluate_in_use(loaded, sampler, tasks=TASKS, views=views)
    accuracies, loss, _ = by_the_classifier(loaded, sampler, views=views)
    assert found["accuracies"] == pytest.approx(accuracies)
    assert found["loss"] == pytest.approx(loss, abs=1e-4)
    assert found["protocol"]["views"] == views
    assert f"pictures as in training and {said}" in format_result(found)


def test_mistakes_are_named(episode, tmp_path):
    support, labels, *_ = episode
    with pytest.raises(UserError, match="views must be one of whole, flips, turns, not 'middle'"):
        FewShotClassifier(views="middle").fit(support, labels)
    both = FewShotClassifier(views="flips", prepare="none").fit(support, labels)
    with pytest.raises(UserError, match="fit without views="):
        both.export(tmp_path / "both.onnx")
    vectors = innerloop.data.from_arrays(np.eye(40).repeat(20, axis=0), np.arange(40).repeat(20))
    few = {"iterations": 1, "val_tasks": 2, "test_tasks": 2, "rotate": False}
    sampler = EpisodeSampler(vectors, k_query=3)
    run = innerloop.train(data=vectors, model="mlp", out=tmp_path / "vectors", **few)
    with pytest.raises(UserError, match="flips' is for pictures, and these examples"):
        innerloop.evaluate_in_use(innerloop.load(run.folder), sampler, tasks=2, views="flips")
    wide = innerloop.data.from_arrays(np.full((800, 6, 8), 200, np.uint8), np.arange(40).repeat(20))
    run = innerloop.train(data=wide, model="mlp", out=tmp_path / "wide", **few)
    with pytest.raises(UserError, match="for square pictures, and the network sees 6 x 8 pixels"):
        innerloop.evaluate_in_use(
            innerloop.load(run.folder), EpisodeSampler(wide, k_query=3), tasks=2, views="turns"
        )


class Several(torch.nn.Module):
    """Returns more than its logits."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.out = kind, torch.nn.Linear(64, 3)

    def forward(self, x):
        return self.kind(self.out(x.flatten(1)))


def _named(outputs):
    return outputs["logits"] if isinstance(outputs, dict) else outputs.abs()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (lambda y: {"logits": y}, "returns a dict, and a classifier takes logits"),
        (lambda y: torch.complex(y, y), "returns complex numbers, and a classifier takes"),
    ],
)
def test_a_network_that_returns_no_logits_is_refused(kind, said):
    def loss(outputs, targets):
        return torch.nn.functional.cross_entropy(_named(outputs), targets)

    algorithm = innerloop.MAML(Several(kind), 0.1, 1, loss=loss)
    x, labels = torch.rand(6, 1, 8, 8), np.arange(6) % 3
    with pytest.raises(UserError, match=said):
        AdaptedNetwork(algorithm, algorithm.init_params(), x, labels, 1, 1.0)
    with pytest.raises(UserError, match=said):
        learner(
            algorithm,
            algorithm.init_params(),
            (1, 8, 8),
            Pixels(raw=False, inverted=False),
            inner_steps=1,
            n_way=3,
            temperature=1.0,
        )
