"""Training, validation and test tasks from one data set."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from innerloop import UserError, split_tasks
from innerloop.data import augment, from_arrays, random_images


def test_parts_share_no_class_and_training_alone_is_augmented():
    data = random_images(40, 8, 6)
    change = augment.RandomHorizontalFlip()
    parts = split_tasks(
        data, n_way=3, k_query=2, train_n_way=5, train_k_query=4, rotate=True, augment=change
    )
    names = [set(part.class_names) for part in parts]
    assert set.union(*names) == set(data.names)
    assert sum(map(len, names)) == 40
    assert [part.split for part in parts] == ["train", "val", "test"]
    assert [part.n_way for part in parts] == [5, 3, 3]
    assert [part.k_query for part in parts] == [4, 2, 2]
    assert [part.augment for part in parts] == [change, None, None]
    assert [part.rotate for part in parts] == [True, False, False]
    assert {part.protocol()["split"] for part in parts} == {"random"}


def test_a_split_without_validation():
    y = np.arange(60) % 6
    data = from_arrays(np.zeros((60, 3)), y, split={"train": [0, 1, 2], "test": [3, 4, 5]})
    train, val, test = split_tasks(data, n_way=3, k_query=4)
    assert val is None
    assert train.class_names == ["0", "1", "2"]
    assert test.class_names == ["3", "4", "5"]


def test_meta_batches_of_varying_tasks_have_one_shape():
    train, _, test = split_tasks(
        random_images(40, 8, 6), n_way=(2, 5), k_shot=(1, 3), k_query=2, meta_batch_size=4
    )
    assert len(train.batch(8, 4).support_x) == 4
    assert (train.block, test.block) == (4, 1)


def test_episodes_of_the_parts_are_those_of_their_samplers():
    train, _, _ = split_tasks(random_images(40, 8, 6), n_way=3, k_query=2, seed=5)
    again, _, _ = split_tasks(random_images(40, 8, 6), n_way=3, k_query=2, seed=5)
    assert torch.equal(train.batch(3, 2).query_x, again.batch(3, 2).query_x)
    with pytest.raises(UserError, match="no split named"):
        split_tasks(random_images(40, 8, 6), split="none")
