"""Objects that go to other processes, are copied, and are used from threads."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.model_selection import cross_val_score

import innerloop
from innerloop.algorithms import ALGORITHMS
from innerloop.models import MLP

WAYS = {"pickled": lambda x: pickle.loads(pickle.dumps(x)), "copied": copy.deepcopy}


@pytest.fixture(scope="module")
def pictures():
    data = innerloop.data.glyphs(300)
    rows = innerloop.data.split_classes(data)["test"][:3]
    X = np.stack([data.class_images(c)[k, 0] for c in rows for k in range(6)])
    return X, np.repeat(list("abc"), 6)


@pytest.fixture(scope="module")
def classifier(pictures):
    return innerloop.FewShotClassifier().fit(*pictures)


@pytest.mark.parametrize("way", WAYS)
def test_a_sampler_gives_the_same_episodes(way):
    data = innerloop.data.random_images(classes=30)
    sampler = innerloop.EpisodeSampler(data, n_way=5, k_query=2)
    sampler.batch(0, 2)
    again = WAYS[way](sampler)
    for a, b in zip(sampler.batch(2, 2), again.batch(2, 2), strict=True):
        assert a is None or not isinstance(a, torch.Tensor) or torch.equal(a, b)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["maml", "anil", "reptile", "meta-sgd", "imaml", "protonet"])
def test_an_algorithm_gives_the_same_gradient_before_and_after_use(way, name):
    options = {} if name == "protonet" else {"inner_lr": 0.1}
    algorithm = ALGORITHMS[name](MLP(4, 2), **options)
    x, y = torch.randn(3, 6, 4), torch.arange(6).repeat(3, 1) % 2
    episodes = innerloop.Episodes(x, y, x, y)
    params = algorithm.init_params()
    before = WAYS[way](algorithm)
    expected, _ = algorithm.meta_gradient(params, episodes)
    for again in (before, WAYS[way](algorithm)):
        found, _ = again.meta_gradient(params, episodes)
        assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("way", WAYS)
def test_a_fitted_classifier(way, classifier, pictures):
    again = WAYS[way](classifier)
    np.testing.assert_array_equal(
        again.predict_proba(pictures[0]), classifier.predict_proba(pictures[0])
    )


def test_a_classifier_in_threads_and_in_a_new_process(classifier, pictures):
    expected = classifier.predict_proba(pictures[0])
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: classifier.predict_proba(pictures[0]), range(20)):
            np.testing.assert_allclose(found, expected, atol=1e-12)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(classifier.predict_proba, pictures[0]).result(120)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_cross_validation_in_two_processes(pictures):
    scores = [
        cross_val_score(innerloop.FewShotClassifier(), *pictures, cv=2, n_jobs=jobs)
        for jobs in (1, 2)
    ]
    np.testing.assert_allclose(*scores)


@pytest.mark.parametrize("way", WAYS)
def test_a_run(way, tmp_path):
    run = innerloop.train(
        data="random",
        iterations=1,
        val_every=1,
        val_tasks=2,
        test_tasks=2,
        width=4,
        threads=1,
        n_way=3,
        train_n_way=3,
        out=tmp_path / "run",
    )
    again = WAYS[way](run)
    assert again.folder == run.folder
    assert again.results == run.results
    assert all(torch.equal(again.params[name], p) for name, p in run.params.items())
