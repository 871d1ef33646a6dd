"""The answer "none of these": how many pictures are refused, and what is recognised."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from innerloop import FewShotClassifier, UserError
from innerloop.data import glyphs, split_classes
from innerloop.heads import fit_head
from innerloop.heads.choice import HEADS
from innerloop.heads.prepared import unit
from innerloop.rejection import Familiarity, contrast, margin, threshold


@pytest.mark.parametrize("reject", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("draw", ["normal", "exponential", "standard_cauchy"])
def test_of_any_distribution_at_most_the_share_is_refused(reject, draw):
    generator = np.random.default_rng(0)
    shares = []
    for _ in range(3000):
        numbers = getattr(generator, draw)(size=60)
        limit = threshold(numbers[:20], reject)
        assert limit.promised
        shares.append((numbers[20:] < limit.value).mean())
    k = np.floor(reject * 21)
    assert np.mean(shares) == pytest.approx(k / 21, abs=0.006)
    assert np.mean(shares) <= reject + 0.003


def test_with_too_few_it_says_so_and_holds_for_a_normal_distribution():
    generator, shares = np.random.default_rng(0), []
    for _ in range(4000):
        numbers = generator.normal(size=58)
        limit = threshold(numbers[:8], 0.05)
        assert (limit.promised, limit.needed, limit.pictures) == (False, 19, 8)
        shares.append((numbers[8:] < limit.value).mean())
    assert np.mean(shares) == pytest.approx(0.05, abs=0.005)
    assert threshold(np.arange(19.0), 0.05).promised
    assert not threshold(np.arange(18.0), 0.05).promised


@pytest.mark.parametrize(
    ("left_out", "reject", "message"),
    [
        (np.arange(30), 0.0, "reject is a share above 0 and below 1"),
        (np.arange(30), 1.0, "reject is a share above 0 and below 1"),
        (np.arange(30), "0.05", "reject must be a number, not '0.05'"),
        (np.arange(30), [0.05], "reject must be a number, not a list"),
        (np.zeros(0), 0.05, "needs classes with two different pictures or more"),
    ],
)
def test_what_cannot_be_asked(left_out, reject, message):
    with pytest.raises(UserError, match=message):
        threshold(left_out, reject)


def tasks(count, ways=5, shots=5, width=30, spread=1.1):
    """`(support, labels, queries, others, background)` of classes drawn anew.

    As in features of pictures, there are directions in which pictures of every class differ much.
    """
    generator = np.random.default_rng(1)
    scales = spread * np.where(np.arange(width) < 3, 2, 1)
    for _ in range(count):
        centres = generator.normal(size=(ways + 30, width)) + 2
        labels = np.repeat(np.arange(ways), shots)

        def near(rows, centres=centres):
            return centres[rows] + scales * generator.normal(size=(len(rows), width))

        others = near(np.arange(ways, ways + 10))
        yield near(labels), labels, near(labels), others, near(np.arange(ways + 10, ways + 30))


@pytest.mark.parametrize("reject", [0.05, 0.2])
def test_pictures_of_the_classes_pass_and_others_do_not(reject):
    """The threshold of a whole support set, on further pictures of its classes and of none."""
    refused, passed, areas, helped = [], [], [], []
    for x, y, queries, others, background in tasks(150):
        fitted = fit_head(x, y, "cosine")
        assert len(fitted.left_out_familiarity()) == 25
        limit = threshold(fitted.left_out_familiarity(), reject)
        a, b = fitted.familiarity(queries), fitted.familiarity(others)
        refused.append((a < limit.value).mean())
        passed.append((b >= limit.value).mean())
        labels = np.repeat([1, 0], [len(a), len(b)])
        areas.append(roc_auc_score(labels, np.concatenate([a, b])))
        with_it = fit_head(x, y, "cosine", background=background)
        both = np.concatenate([with_it.familiarity(queries), with_it.familiarity(others)])
        helped.append(roc_auc_score(labels, both))
    assert reject / 3 < np.mean(refused) <= reject
    assert np.mean(passed) < 0.6
    assert np.mean(areas) > 0.9
    assert np.mean(helped) > np.mean(areas)


@pytest.mark.parametrize("head", HEADS)
def test_a_background_helps_to_tell_the_classes_apart(head):
    """In a few directions pictures differ much, whatever they show; these count less."""
    generator, right = np.random.default_rng(1), {True: [], False: []}
    scales = np.where(np.arange(30) < 3, 3.0, 0.7)
    labels, truth = np.arange(5), np.repeat(np.arange(5), 4)
    for _ in range(25):
        centres = generator.normal(size=(35, 30))
        support, queries, background = (
            centres[rows] + scales * generator.normal(size=(len(rows), 30))
            for rows in (labels, truth, np.arange(5, 35))
        )
        for helped, given in ((True, background), (False, None)):
            fitted = fit_head(support, labels, head, background=given)
            right[helped].append((fitted.probabilities(queries).argmax(axis=1) == truth).mean())
    assert np.mean(right[True]) > np.mean(right[False]) + 0.1


def test_one_background_picture_and_one_in_all_directions():
    """One: cosines of centred features, not whitened.  Many: a common direction counts less."""
    x, y = np.eye(4)[[0, 1]] - 0.1, np.array([0, 1])
    single = fit_head(x, y, "cosine", background=np.full((1, 4), -0.25))
    centred = unit(np.eye(4) - 0.1) + 0.5
    expected = unit(centred) @ unit(centred[:2]).T
    np.testing.assert_allclose(single.familiarity(np.eye(4) - 0.1), expected.max(axis=1))
    generator = np.random.default_rng(0)
    spread = np.eye(4)[3] * generator.normal(size=(40, 1)) + 0.01 * generator.normal(size=(40, 4))
    pictures = unit(x[:1] + np.array([0, 0, 0, 0.8]))
    helped = fit_head(x, y, "cosine", background=spread)
    assert helped.familiarity(pictures) > fit_head(x, y, "cosine").familiarity(pictures)


@pytest.mark.parametrize("name", ["omniglot-conv4", "glyphs-conv4", "omniglot-protonet"])
def test_our_weights_know_drawings_that_are_none_of_these(name):
    """Adapted logits did not: AUROC 0.6 on Omniglot."""
    data = glyphs(200)
    classes = split_classes(data)["test"][:10]
    images = [data.class_images(c)[:, 0] for c in classes]
    support = np.concatenate([x[:5] for x in images[:5]])
    classifier = FewShotClassifier(name).fit(support, np.repeat(np.arange(5), 5))
    inside, outside = (
        classifier.familiarity(np.concatenate([x[5:15] for x in part]))
        for part in (images[:5], images[5:])
    )
    labels = np.repeat([1, 0], [len(inside), len(outside)])
    assert roc_auc_score(labels, np.concatenate([inside, outside])) > 0.9


def test_a_network_without_a_head_of_its_own_goes_by_its_logits():
    logits = np.array([[1.0, 0.4, 0.2], [3, 5, 1]])
    np.testing.assert_allclose(margin(logits), [0.6, 2])


def test_familiarity_by_hand():
    x, y = np.eye(3)[[0, 1]], np.array([0, 1])
    assert Familiarity(x, y, 2)(x[:1]) == pytest.approx([1])
    np.testing.assert_allclose(contrast(np.array([[1.0, 0.4, 0.2], [3, 5, 1]])), [0.85, 4])
    assert stats.rankdata(Familiarity(x, y, 2)(np.eye(3))).tolist() == [2.5, 2.5, 1]
