"""None of these: the share of pictures of the classes that is refused, and who is told apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from innerloop import UserError
from innerloop.heads import fit_head
from innerloop.rejection import Familiarity, contrast, threshold


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
        (np.zeros(0), 0.05, "needs classes with two pictures or more"),
    ],
)
def test_what_cannot_be_asked(left_out, reject, message):
    with pytest.raises(UserError, match=message):
        threshold(left_out, reject)


def tasks(count, ways=5, shots=5, width=30, spread=1.1):
    """`(support, labels, queries, others, background)` of classes drawn anew."""
    generator = np.random.default_rng(1)
    for _ in range(count):
        centres = generator.normal(size=(ways + 30, width)) + 2
        labels = np.repeat(np.arange(ways), shots)

        def near(rows, centres=centres):
            return centres[rows] + spread * generator.normal(size=(len(rows), width))

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
    assert np.mean(passed) < 0.4
    assert np.mean(areas) > 0.95
    assert np.mean(helped) > np.mean(areas)


def test_familiarity_by_hand():
    x, y = np.eye(3)[[0, 1]], np.array([0, 1])
    assert Familiarity(x, y, 2)(x[:1]) == pytest.approx([1])
    np.testing.assert_allclose(contrast(np.array([[1.0, 0.4, 0.2], [3, 5, 1]])), [0.85, 4])
    assert stats.rankdata(Familiarity(x, y, 2)(np.eye(3))).tolist() == [2.5, 2.5, 1]
