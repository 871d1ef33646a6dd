"""Tasks of varying ways and shots."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from innerloop import EpisodeSampler, ProtoNet, UserError, evaluate
from innerloop.data import from_arrays, split_classes
from tests.algorithms.networks import Small

COUNTS = np.array([30, 12, 9, 25, 14, 40, 11, 20, 17, 9, 33, 10])


def numbered(pictures: bool = False):
    """Every example holds its own number, in classes of different sizes."""
    y = np.repeat(np.arange(len(COUNTS)), COUNTS)
    number = np.arange(len(y))
    if pictures:
        return from_arrays((number[:, None, None] % 256 * np.ones((1, 4, 4))).astype(np.uint8), y)
    return from_arrays(np.repeat(number[:, None], 2, axis=1), y)


def sampler(**changes) -> EpisodeSampler:
    varying = {"n_way": (2, 6), "k_shot": (1, 4), "k_query": 5, "block": 4}
    return EpisodeSampler(numbered(), **{**varying, **changes})


fixed = settings(derandomize=True, deadline=None, max_examples=40)


@fixed
@given(
    st.integers(2, 5), st.integers(0, 4), st.integers(1, 3), st.integers(0, 3), st.integers(1, 6),
    st.booleans(), st.integers(0, 10**6), st.integers(0, 2**31),
)  # fmt: skip
def test_what_holds_for_every_task(low, more, shots, more_shots, block, imbalanced, at, seed):
    s = sampler(
        n_way=(low, low + more), k_shot=(shots, min(4, shots + more_shots)), block=block,
        imbalanced=imbalanced, seed=seed,
    )  # fmt: skip
    start = at - at % block
    whole = s.batch(start, block)
    for i in range(block):
        alone = s.batch(start + i, 1)
        assert all(torch.equal(a[0], b[i]) for a, b in zip(alone, whole, strict=True))
        task = whole.task(i)
        assert low <= task.n_way <= low + more
        x = torch.cat([task.support_x, task.query_x])[:, 0]
        y = torch.cat([task.support_y, task.query_y])
        assert len(x.unique()) == len(x), "an example occurs twice"
        classes = np.searchsorted(np.cumsum(COUNTS), x.numpy(), side="right")
        pairs = set(zip(classes.tolist(), y.tolist(), strict=True))
        assert sorted(label for _, label in pairs) == list(range(task.n_way))
        assert len({c for c, _ in pairs}) == task.n_way
        assert task.query_y.bincount().tolist() == [5] * task.n_way
        each = task.support_y.bincount(minlength=task.n_way)
        assert each.min() >= 1
        if not imbalanced:
            assert each.min() == each.max()
            assert shots <= each[0] <= min(4, shots + more_shots)


def test_every_number_of_ways_and_shots_occurs_equally_often():
    s = sampler(block=1)
    found = [s.batch(i, 1) for i in range(1000)]
    ways = np.bincount([e.n_way for e in found], minlength=7)[2:]
    shots = np.bincount([e.support_x.shape[1] // e.n_way for e in found], minlength=5)[1:]
    assert ways.min() > 150
    assert shots.min() > 200


def test_uneven_support_sets_favour_large_classes_as_far_as_they_have_examples():
    s = sampler(n_way=12, k_shot=8, imbalanced=True)
    batch = s.batch(0, 40)
    # 12 * 8, but classes of 9 to 12 have only 4 to 7 beside their queries.
    assert batch.support_x.shape[1] == int(np.minimum(COUNTS - 5, 8).sum())
    found = np.zeros(12)
    for task in batch.tasks():
        which = np.searchsorted(np.cumsum(COUNTS), task.support_x[:, 0].numpy(), side="right")
        each = np.bincount(which, minlength=12)
        assert (each <= COUNTS - 5).all()
        found += each / 40
    assert found[5] > found[7] > found[1]


def test_a_limit_on_the_support_set():
    s = sampler(n_way=(2, 6), k_shot=(1, 4), max_support=8, block=1)
    batches = [s.batch(i, 1) for i in range(200)]
    assert all(b.support_x.shape[1] <= 8 for b in batches)
    assert any(b.support_x.shape[1] // b.n_way == 4 for b in batches)


def test_images_and_other_examples_have_the_same_tasks():
    settings = {"n_way": (2, 6), "k_shot": (1, 3), "k_query": 5, "block": 2, "inputs": "raw"}
    pictures = EpisodeSampler(numbered(pictures=True), **settings)
    others = EpisodeSampler(numbered(), **settings)
    for i in range(0, 20, 2):
        one, other = pictures.batch(i, 2), others.batch(i, 2)
        assert torch.equal(one.support_x[..., 0, 0, 0].long(), other.support_x[..., 0] % 256)
        assert torch.equal(one.query_y, other.query_y)


def test_tasks_that_do_not_fit_into_one_tensor_are_refused():
    s = sampler()
    assert s.stackable(0, 100) == 4
    assert s.stackable(5, 100) == 3
    assert sampler(n_way=3, k_shot=2).stackable(5, 100) == 100
    with pytest.raises(UserError, match=r"set block .meta_batch_size.* to as many"):
        s.batch(0, 60)
    with pytest.raises(UserError, match="one shape"):
        s.indices(0, 1)


def test_evaluation_takes_tasks_that_vary():
    data = from_arrays(np.random.default_rng(0).random((120, 1, 8, 8)), np.arange(120) % 12)
    s = EpisodeSampler(data, n_way=(2, 6), k_shot=(1, 4), k_query=3, block=3, imbalanced=True)
    algorithm = ProtoNet(Small().float())
    result = evaluate(algorithm, algorithm.init_params(), s, tasks=20)
    assert len(result["accuracies"]) == 20
    assert result["protocol"]["n_way"] == [2, 6]
    assert result["protocol"]["imbalanced"] is True
    one = evaluate(algorithm, algorithm.init_params(), s, tasks=20, chunk_size=1)
    assert one["accuracies"] == pytest.approx(result["accuracies"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_way": (5, 2)}, "from the least to the greatest"),
        ({"n_way": (1, 2)}, "n_way must be at least 2"),
        ({"k_shot": (1, 2, 3)}, "k_shot must be a whole number or"),
        ({"k_shot": 1.5}, "k_shot must be a whole number or"),
        ({"n_way": (2, 13)}, "13-way tasks need 13 classes"),
        ({"k_shot": (1, 5)}, "need 10 examples a class"),
        ({"k_query": 9, "imbalanced": True}, "need 10 examples a class"),
        ({"block": 0}, "block must be at least 1"),
    ],
)
def test_impossible_tasks_are_refused_with_the_reason(changes, message):
    with pytest.raises(UserError, match=message):
        sampler(**changes)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_samplers_can_be_copied_and_pickled(again):
    for s in (sampler(imbalanced=True), EpisodeSampler(numbered(pictures=True), k_query=3)):
        one, other = s.batch(4, 2), again(s).batch(4, 2)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        assert again(s).protocol() == s.protocol()


def test_classes_never_leak_between_the_parts_of_a_split():
    data = numbered()
    parts = split_classes(data)
    seen = {}
    for part, classes in parts.items():
        s = EpisodeSampler(data, classes, n_way=2, k_query=5, split=part)
        x = s.batch(0, 200).support_x[..., 0].numpy()
        seen[part] = set(np.searchsorted(np.cumsum(COUNTS), x.ravel(), side="right").tolist())
    assert set.union(*seen.values()) == set(range(12))
    assert sum(map(len, seen.values())) == 12
