"""Heads on features: what each of them must satisfy, and how one is chosen."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

import innerloop
from innerloop import UserError
from innerloop.heads.choice import HEADS, Trial, clear_gain, fit_head, try_heads
from innerloop.heads.inner_loop import SCALE, rate
from innerloop.heads.left_out import folds
from innerloop.heads.linear import LOGISTIC_C, LOGISTIC_SCALE
from innerloop.heads.prepared import Prepared, unit

ALL = ("auto", *HEADS)


def blobs(seed=0, ways=5, shots=3, width=40, spread=0.5, queries=4):
    """Features about a centre for each class: `(support, labels, queries, truth)`."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(ways, width))
    labels, truth = np.repeat(np.arange(ways), shots), np.repeat(np.arange(ways), queries)
    support, rest = (
        centres[y] + spread * generator.normal(size=(len(y), width)) for y in (labels, truth)
    )
    return support, labels, rest, truth


@pytest.mark.parametrize("head", ALL)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(1, 3))
@settings(max_examples=8, deadline=None)
def test_names_and_order_of_classes_and_the_scale_of_features_do_not_matter(
    head, seed, ways, shots
):
    x, y, q, _ = blobs(seed, ways, shots)
    expected = fit_head(x, y, head).probabilities(q)
    np.testing.assert_allclose(expected.sum(axis=1), 1)
    order = np.random.default_rng(seed).permutation(ways)
    found = fit_head(x, order[y], head).probabilities(q)
    np.testing.assert_allclose(found[:, order], expected, atol=2e-3)
    scaled = fit_head(1000 * x, y, head).probabilities(0.001 * q)
    np.testing.assert_allclose(scaled, expected, atol=2e-3)
    rows = np.random.default_rng(seed + 1).permutation(len(x))
    if shots == 1:  # folds follow the order within a class
        found = fit_head(x[rows], y[rows], head).probabilities(q)
        np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("head", ALL)
@pytest.mark.parametrize("ways", [2, 5, 20])
def test_classes_that_lie_apart_are_told_from_one_picture_each(head, ways):
    x, y, q, truth = blobs(ways=ways, shots=1, spread=0.2)
    fitted = fit_head(x, y, head)
    assert fitted.probabilities(q).shape == (4 * ways, ways)
    assert (fitted.probabilities(q).argmax(axis=1) == truth).all()
    assert fitted.name == ("ridge" if head == "auto" else head)
    assert fitted.temperature == {"cosine": 1, "inner_loop": 1}.get(head, 0.7)
    assert fitted.compared == {}


@pytest.mark.parametrize("head", ALL)
def test_a_class_with_many_pictures_does_not_swallow_the_others(head):
    """With unequal shots, and with one picture many times, whose copies are left out together."""
    x, y, q, truth = blobs(shots=8, spread=1.2, queries=40)
    keep = np.concatenate([np.flatnonzero(y == c)[: 8 if c == 0 else 2] for c in range(5)])
    told = fit_head(x[keep], y[keep], head).probabilities(q).argmax(axis=1)
    assert np.mean(told == 0) < 0.4
    assert (told == truth).mean() > 0.8
    again = np.concatenate([keep, np.repeat(keep[:1], 20)])
    twice = fit_head(x[again], y[again], head)
    assert (twice.probabilities(q).argmax(axis=1) == truth).mean() > 0.6


@pytest.mark.parametrize("head", ALL)
@pytest.mark.parametrize("shots", [1, 3])
def test_features_that_tell_nothing_give_equal_probabilities(head, shots):
    y = np.repeat(np.arange(3), shots)
    for x in (np.ones((len(y), 7)), np.zeros((len(y), 7)), np.ones((len(y), 1))):
        fitted = fit_head(x, y, head)
        np.testing.assert_allclose(fitted.probabilities(x), 1 / 3, atol=1e-6)
        assert np.isfinite(fitted.familiarity(x)).all()


@pytest.mark.parametrize("head", HEADS)
def test_one_number_a_picture(head):
    x = np.array([[-1.0], [-2.0], [3.0], [1.0]])
    assert (fit_head(x, [0, 0, 1, 1], head).probabilities(x).argmax(1) == [0, 0, 1, 1]).all()


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.full((4, 3), np.nan), [0, 0, 1, 1], "features of picture 0 are not finite"),
        (np.ones((4, 3)) * [[1], [1], [np.inf], [1]], [0, 0, 1, 1], "picture 2 are not finite"),
        (np.ones(4), [0, 0, 1, 1], r"must be \[n, F\]"),
        (np.ones((4, 0)), [0, 0, 1, 1], r"must be \[n, F\]"),
        (np.ones((4, 3)), [0, 0, 2, 2], "without a gap"),
        (np.ones((4, 3)), [0, 0, 0, 0], "two classes or more"),
        (np.ones((4, 3)), [0, 1], "one whole number from 0 a picture"),
        (np.ones((4, 3)), list("abab"), "one whole number from 0 a picture"),
    ],
)
def test_bad_input_is_one_clear_error(features, labels, message):
    with pytest.raises(UserError, match=message):
        fit_head(features, labels)


def test_bad_queries_and_no_such_head():
    fitted = fit_head(np.eye(4), [0, 0, 1, 1])
    with pytest.raises(UserError, match="have 3 numbers, but those of the support set have 4"):
        fitted.probabilities(np.ones((2, 3)))
    with pytest.raises(UserError, match="not finite"):
        fitted.familiarity(np.full((2, 4), np.nan))
    with pytest.raises(UserError, match="head must be one of auto, ridge"):
        fit_head(np.eye(4), [0, 0, 1, 1], "svm")


def test_the_span_of_the_support_set_is_enough():
    """The answers of logistic regression on all numbers."""
    x, y, q, _ = blobs(width=300)
    found = fit_head(x, y, "logistic").stages(q)[-1] / LOGISTIC_SCALE
    whole = LogisticRegression(C=LOGISTIC_C, tol=1e-6, max_iter=5000).fit(unit(x), y)
    np.testing.assert_allclose(found, whole.decision_function(unit(q)), atol=0.2)


def test_features_without_negative_numbers_are_rooted():
    x = np.random.default_rng(0).random((6, 9))
    np.testing.assert_allclose(Prepared(x).support, unit(np.sqrt(x)))
    np.testing.assert_allclose(Prepared(x - 0.5).support, unit(x - 0.5))


def test_the_inner_loop_is_the_one_of_anil():
    """By hand: softmax regression from zero, gradient steps on the mean."""
    x, y, q, _ = blobs(shots=2)
    stages = fit_head(x, y, "inner_loop", inner_steps=3).stages(q)
    assert len(stages) == 4
    centre = unit(x).mean(axis=0)
    a, b = (torch.from_numpy(unit(z) - centre) for z in (x, q))
    weight = torch.zeros(5, 40, dtype=torch.float64)
    for stage in stages:
        np.testing.assert_allclose(stage, SCALE * b @ weight.T, atol=1e-8)
        gap = (a @ weight.T).softmax(1) - torch.eye(5, dtype=torch.float64)[y]
        weight = weight - rate(a.numpy(), np.ones(len(a))) * gap.T @ a / len(y)


def test_the_inner_loop_weighs_classes_not_pictures():
    """Pictures that are given again, of one class alone, change nothing."""
    x, y, q, _ = blobs(shots=2)
    again = np.concatenate([np.arange(len(y)), *[np.flatnonzero(y == 0)] * 9])
    few, many = (fit_head(x[i], y[i], "inner_loop").stages(q) for i in (slice(None), again))
    np.testing.assert_allclose(many, few, atol=1e-6)


def test_auto_takes_another_head_where_it_is_clearly_better(monkeypatch):
    """A ridge head that has learnt nothing is not chosen."""
    x, y, _, _ = blobs(shots=4, spread=0.9)
    assert set(fit_head(x, y).compared) == {"ridge", "cosine", "logistic"}
    monkeypatch.setitem(HEADS, "ridge", lambda x, y, n: lambda q: [np.zeros((len(q), n))])
    assert fit_head(x, y).name in ("cosine", "logistic")


def test_probabilities_are_fitted_on_what_was_left_out():
    """Classes that cannot be told apart get no confident probabilities."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(30, 50)), np.arange(30) % 3
    unsure, sure = fit_head(x, y, "ridge"), fit_head(*blobs(shots=10, ways=3)[:2], "ridge")
    assert unsure.temperature > 1.2 > 1.01 > sure.temperature
    assert unsure.probabilities(generator.normal(size=(50, 50))).max(1).mean() < 0.75


def test_it_is_among_the_modules_of_the_package():
    assert innerloop.heads.fit_head is fit_head


@pytest.mark.parametrize("head", ALL)
def test_a_fitted_head_can_be_pickled(head):
    x, y, q, _ = blobs()
    fitted = fit_head(x, y, head)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.probabilities(q), fitted.probabilities(q))
    np.testing.assert_array_equal(again.familiarity(q), fitted.familiarity(q))


@pytest.mark.parametrize("head", ALL)
@pytest.mark.parametrize("behind", [False, True])
def test_trials_of_the_folds_are_the_folds(head, behind):
    x, y, q, _ = blobs(shots=4)
    background = blobs(seed=1)[0] if behind else None
    parts = [(np.setdiff1d(np.arange(len(y)), part), part) for part in folds(x, y)]
    trials = [Trial(x[a], y[a], x[b], y[b], background) for a, b in parts]
    expected = fit_head(x, y, head, background=background)
    found = fit_head(x, y, head, background=background, trials=trials)
    assert (found.name, found.compared) == (expected.name, pytest.approx(expected.compared))
    np.testing.assert_allclose(found.probabilities(q), expected.probabilities(q), rtol=1e-6)
    np.testing.assert_allclose(found.left_out_familiarity(), expected.left_out_familiarity())


def test_trials_decide_and_calibrate_whatever_the_support_set_says():
    """Of a body that tells what is left out by chance, though its support set well."""
    x, y, *_ = blobs(spread=0.1)
    noise = np.random.default_rng(2).normal(size=x.shape)
    trials = [Trial(x, y, noise, y)]
    found = fit_head(x, y, "ridge", trials=trials)
    assert found.temperature > 1.5 * fit_head(x, y, "ridge").temperature
    assert found.left_out_familiarity().max() < fit_head(x, y, "ridge").left_out_familiarity().min()
    tried = try_heads(trials, 5, "ridge")
    assert (tried.name, tried.temperatures["ridge"]) == ("ridge", found.temperature)
    assert tried.losses["ridge"].shape == (len(y),)


def test_only_a_clear_gain_counts():
    before = np.linspace(0.5, 1.5, 20)
    assert clear_gain(before, before - 0.3) == pytest.approx(0.3)
    assert clear_gain(before, before - 0.04) == 0  # too little
    assert clear_gain(before, before[::-1] - 0.1) == 0  # by chance
    assert clear_gain(before, before + 0.3) == clear_gain(before, before) == 0
    assert clear_gain(before[:1], before[:1] - 1) == 0
