"""Folds of the support set."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from innerloop.heads.left_out import MOST, folds


@given(st.lists(st.integers(1, 25), min_size=2, max_size=5), st.integers(0, 1000))
def test_each_picture_of_a_class_with_several_is_left_out_once(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.random.default_rng(seed).permutation(labels)
    found = folds(np.arange(len(labels))[:, None], labels)
    several = [i for i, label in enumerate(labels) if counts[label] > 1]
    assert sorted(np.concatenate([np.zeros(0), *found]).tolist()) == several
    assert len(found) == min(MOST, max(counts)) * (max(counts) > 1)
    for part in found:  # a picture of each class stays
        assert set(np.delete(labels, part)) == set(range(len(counts)))


def test_the_same_picture_twice_is_left_out_together():
    pictures = np.array([1, 1, 2, 3, 3, 3])[:, None, None]
    found = folds(pictures, np.array([0, 0, 0, 1, 1, 1]))
    assert [part.tolist() for part in found] == [[0, 1], [2]]


@given(seed=st.integers(0, 10**6))
def test_the_order_of_the_pictures_makes_no_difference(seed):
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), [4, 1, 6])
    pictures = generator.integers(0, 3, (len(labels), 4)).astype(np.float32)
    order = generator.permutation(len(labels))

    def contents(pictures, labels):
        return [
            sorted(zip(labels[part].tolist(), pictures[part].tolist(), strict=True))
            for part in folds(pictures, labels)
        ]

    assert contents(pictures, labels) == contents(pictures[order], labels[order])
