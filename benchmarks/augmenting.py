"""The cost of augmentation, compared with a step: `python -m benchmarks.augmenting`.

For two workloads the time of a batch without augmentation and with each of
`innerloop.data.augment`, and that of a first-order meta-gradient of Conv4, the shortest step there
is.  Writes `benchmarks/results/augmenting.json`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

import innerloop
from benchmarks.reports import write_report
from innerloop.data import augment
from innerloop.models import Conv4

ROUNDS = 30
KINDS: dict[str, augment.Augmentation | None] = {
    "none": None,
    "crop": augment.RandomCrop(4),
    "flip": augment.RandomHorizontalFlip(),
    "color": augment.ColorJitter(),
    "erasing": augment.RandomErasing(),
    "affine": augment.RandomAffine(),
    "crop, flip, color": augment.Compose(
        augment.RandomCrop(4), augment.RandomHorizontalFlip(), augment.ColorJitter()
    ),
}


class Setting(NamedTuple):
    """The shape of images, tasks in a step, and queries of each class."""

    shape: tuple[int, int, int]
    tasks: int
    k_query: int


SETTINGS = {
    "B: 28 x 28, 32 tasks, 1 query": Setting((1, 28, 28), 32, 1),
    "D: 84 x 84 colour, 4 tasks, 15 queries": Setting((3, 84, 84), 4, 15),
}


def measure(setting: Setting) -> dict[str, Any]:
    """Milliseconds of a batch of each kind, and of a meta-gradient; medians."""
    channels, side, _ = setting.shape
    images = np.random.default_rng(0).integers(0, 256, (20, 40, *setting.shape), dtype=np.uint8)
    data = innerloop.data.from_arrays(images.reshape(-1, *setting.shape), np.repeat(range(20), 40))
    maml = innerloop.MAML(
        Conv4(5, channels=channels, image_size=side, head="random"), 0.01, 1, first_order=True
    )
    params = maml.init_params()
    calls: dict[str, Callable[[int], Any]] = {}
    for name, kind in KINDS.items():
        tasks = innerloop.EpisodeSampler(
            data, n_way=5, k_shot=1, k_query=setting.k_query, inputs="unit", augment=kind
        )
        calls[name] = lambda i, tasks=tasks: tasks.batch(setting.tasks * i, setting.tasks)
    episodes = calls["none"](0)
    calls["meta-gradient"] = lambda i: maml.meta_gradient(params, episodes)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call(i)
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: float(np.median(found[3:])) for name, found in times.items()}


def main() -> None:
    """Run the command line."""
    torch.set_num_threads(2)
    runs = {name: measure(setting) for name, setting in SETTINGS.items()}
    for name, found in runs.items():
        print(name)
        for kind in KINDS:
            extra = found[kind] - found["none"]
            share = extra / found["meta-gradient"]
            print(f"  {kind}: {found[kind]:.2f} ms, {share:.1%} of a step more")
    write_report("augmenting", runs, "python -m benchmarks.augmenting")


if __name__ == "__main__":
    main()
