"""With `views="flips"` a network learns mirror images, too, and averages four answers."""

from __future__ import annotations

import numpy as np
import pytest

import innerloop
from innerloop import EpisodeSampler, FewShotClassifier, UserError
from innerloop.training.report import format_result
from tests.test_evaluation_in_use import TASKS, by_the_classifier

DATA = innerloop.data.glyphs(40)
SETTINGS = {"prepare": "none", "ink": "dark"}


@pytest.mark.parametrize("name", ["omniglot-conv4", "omniglot-5steps", "omniglot-protonet"])
@pytest.mark.parametrize("k_shot", [1, 2])
def test_four_answers_are_averaged(name, k_shot, episode):
    support, labels, query, _ = episode
    kept = np.concatenate([np.flatnonzero(np.array(labels) == c)[:k_shot] for c in "abcde"])
    support, labels = np.asarray(support)[kept], np.array(labels)[kept]
    query = np.asarray(query)
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
    parts = fitted._both[0].folds()
    first = parts[0]
    ((pictures, plain), *_), ((mirrored, mirror), *_) = (
        list(of.left_out_by(parts)) for of in fitted._both
    )
    np.testing.assert_array_equal(pictures, both._inputs(support[first]))
    np.testing.assert_array_equal(mirrored, pictures.flip(-1))
    by_hand = [
        of.familiarity(seen) for of in (plain, mirror) for seen in (pictures, pictures.flip(-1))
    ]
    left_out = fitted.left_out_familiarity()
    assert len(left_out) == len(labels)
    np.testing.assert_allclose(left_out[: len(first)], np.mean(by_hand, axis=0), rtol=1e-5)


def test_evaluation_in_use_sees_the_same():
    loaded = innerloop.load("omniglot-conv4")
    sampler = EpisodeSampler(DATA, n_way=5, k_shot=2, k_query=3, split="test")
    found = innerloop.evaluate_in_use(loaded, sampler, tasks=TASKS, views="flips")
    accuracies, loss, _ = by_the_classifier(loaded, sampler, views="flips")
    assert found["accuracies"] == pytest.approx(accuracies)
    assert found["loss"] == pytest.approx(loss, abs=1e-4)
    assert found["protocol"]["views"] == "flips"
    assert "pictures as in training and mirrored" in format_result(found)


def test_mistakes_are_named(episode, tmp_path):
    support, labels, *_ = episode
    with pytest.raises(UserError, match="views must be one of whole, flips, not 'middle'"):
        FewShotClassifier(views="middle").fit(support, labels)
    both = FewShotClassifier(views="flips", prepare="none").fit(support, labels)
    with pytest.raises(UserError, match="fit without views='flips'"):
        both.export(tmp_path / "both.onnx")
    vectors = innerloop.data.from_arrays(np.eye(40).repeat(20, axis=0), np.arange(40).repeat(20))
    few = {"iterations": 1, "val_tasks": 2, "test_tasks": 2, "rotate": False}
    sampler = EpisodeSampler(vectors, k_query=3)
    run = innerloop.train(data=vectors, model="mlp", **few)
    with pytest.raises(UserError, match="flips' is for pictures, and these examples"):
        innerloop.evaluate_in_use(innerloop.load(run.folder), sampler, tasks=2, views="flips")
