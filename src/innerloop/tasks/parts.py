"""Training, validation and test tasks from one data set."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from innerloop.data.augment import Augment
from innerloop.data.base import ClassIndexed, check_data
from innerloop.data.splits import automatic_split, split_classes
from innerloop.keywords import keywords_checked
from innerloop.tasks.sampler import EpisodeSampler


class TaskParts(NamedTuple):
    """Samplers of the three parts of a split.

    Attributes:
        train: of the meta-training classes.
        val: of the meta-validation classes; None where the split has none.
        test: of the meta-test classes.
    """

    train: EpisodeSampler
    val: EpisodeSampler | None
    test: EpisodeSampler


@keywords_checked
def split_tasks(
    data: ClassIndexed,
    *,
    n_way: int | tuple[int, int] = 5,
    k_shot: int | tuple[int, int] = 1,
    k_query: int = 15,
    split: str = "auto",
    split_seed: int = 0,
    seed: int = 0,
    train_n_way: int | tuple[int, int] | None = None,
    train_k_query: int | None = None,
    rotate: bool = False,
    augment: Augment | None = None,
    within_group: bool = False,
    inputs: str = "ink",
    imbalanced: bool = False,
    max_support: int | None = None,
    meta_batch_size: int = 1,
    device: str | torch.device = "cpu",
) -> TaskParts:
    """Training, validation and test tasks from one data set, whose parts share no class.

    Args:
        data: the data set, for instance of `innerloop.data.from_arrays`.
        n_way, k_shot, k_query, within_group, inputs, imbalanced, max_support, device: see
            `EpisodeSampler`.
        split: which classes are for what, see `innerloop.data.split_classes`.
        split_seed: which draw random splits take; keep it, or test classes become training
            classes.
        seed: of the episodes.
        train_n_way: other ways in training; None for `n_way`.
        train_k_query: another number of queries in training; None for `k_query`.
        rotate: in training count classes turned by 90, 180 and 270 degrees as further ones.
        augment: changes the examples of training tasks, see `EpisodeSampler`.
        meta_batch_size: so many consecutive training tasks have one shape, where ways or shots
            vary; those of validation and test vary one by one.

    Returns:
        `(train, val, test)`.

    Raises:
        UserError: as `split_classes` and `EpisodeSampler`.

    Example:
        >>> from innerloop.data import from_arrays
        >>> data = from_arrays(np.zeros((300, 4)), np.arange(300) % 15)
        >>> train, val, test = split_tasks(data, n_way=2, k_shot=5)
        >>> [len(part.classes) for part in (train, val, test)]
        [10, 2, 3]
    """
    check_data(data)
    name = automatic_split(data) if split == "auto" else split
    parts = split_classes(data, name, split_seed)

    def sampler(part: str, classes: np.ndarray) -> EpisodeSampler:
        training = part == "train"
        return EpisodeSampler(
            data,
            classes,
            n_way=train_n_way if training and train_n_way is not None else n_way,
            k_shot=k_shot,
            k_query=train_k_query if training and train_k_query is not None else k_query,
            seed=seed,
            split=part,
            split_name=name,
            rotate=rotate and training,
            within_group=within_group,
            inputs=inputs,
            augment=augment if training else None,
            imbalanced=imbalanced,
            max_support=max_support,
            block=meta_batch_size if training else 1,
            device=device,
        )

    return TaskParts(
        sampler("train", parts["train"]),
        sampler("val", parts["val"]) if len(parts["val"]) else None,
        sampler("test", parts["test"]),
    )
