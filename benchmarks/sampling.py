"""Episodes drawn per second beside other ways to draw them: `python -m benchmarks.sampling`.

Our sampler, with and without rotated classes; a cache like the tutorial's, ten meta-batches ahead;
and a PyTorch `DataLoader` that fetches image by image, without and with worker processes.  All end
with a meta-batch of float32 tensors, and take turns, a few meta-batches each; the one with
workers comes last.  For scale, a finished meta-batch is copied: four bytes a pixel both ways.
Then the time of sampling is compared with that of the training step.
Writes `benchmarks/results/sampling.json`; with names of settings, only these are measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import innerloop
from benchmarks.reports import RESULTS, check_names, machine
from innerloop import EpisodeSampler
from innerloop.build import build_algorithm, build_model, build_samplers
from innerloop.config import TrainConfig
from innerloop.data.base import ImageClasses
from innerloop.data.splits import split_classes
from innerloop.ops.allocator import keep_memory
from innerloop.runs.folder import new_state
from innerloop.training.loop import apply_gradient

ROUNDS = 10
# Of each contestant in a round: the tutorial's cache is filled for every ten of them.
META_BATCHES = 64
TUTORIAL, WORKERS = "the tutorial's cache", "DataLoader, 2 workers"
COPY = "a mere copy"
# Training steps that sampling feeds.
STEPS = ("tutorial", "finn2017-5way-1shot", "finn2017-20way-1shot", "quick")


@dataclass(frozen=True)
class Setting:
    """`tasks` of N-way K-shot with Q queries a class, and from which data."""

    data: str
    tasks: int
    n_way: int
    k_shot: int
    k_query: int


SETTINGS = {
    "5-way 1-shot": Setting("omniglot", 8, 5, 1, 15),
    "20-way 1-shot": Setting("omniglot", 16, 20, 1, 1),
    "84 x 84 RGB, 5-way 5-shot": Setting("rgb", 4, 5, 5, 15),
}
MetaBatches = Callable[[int], Iterator[tuple[Tensor, ...]]]


def make_data(name: str, omniglot_source: str | None) -> tuple[ImageClasses, np.ndarray]:
    """Images, and the classes to draw from."""
    if name == "omniglot":
        omniglot = innerloop.data.omniglot(omniglot_source)
        return omniglot, split_classes(omniglot, "tutorial")["train"]
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (64, 100, 3, 84, 84), dtype=np.uint8)
    return ImageClasses.from_square(noise), np.arange(64)


def ours(setting: Setting, data: ImageClasses, classes: np.ndarray, rotate: bool) -> MetaBatches:
    sampler = EpisodeSampler(
        data,
        classes,
        n_way=setting.n_way,
        k_shot=setting.k_shot,
        k_query=setting.k_query,
        rotate=rotate,
    )
    position = 0

    def meta_batches(count: int) -> Iterator[tuple[Tensor, ...]]:
        nonlocal position
        for _ in range(count):
            yield sampler.batch(position, setting.tasks)
            position += setting.tasks

    return meta_batches


def tutorial(
    setting: Setting, data: ImageClasses, classes: np.ndarray, seed: int = 0
) -> MetaBatches:
    """Ten meta-batches made ahead, one task after the other, as the tutorial describes it."""
    array = np.stack([data.class_images(int(c)) for c in classes])
    random = np.random.RandomState(seed)
    n, k, q = setting.n_way, setting.k_shot, setting.k_query
    labels = [np.repeat(np.arange(n), times) for times in (k, q)]

    def task() -> list[np.ndarray]:
        support, query = [], []
        for c in random.choice(len(array), n, replace=False):
            drawings = random.choice(array.shape[1], k + q, replace=False)
            support.append(array[c][drawings[:k]])
            query.append(array[c][drawings[k:]])
        parts = []
        for x, y in zip((support, query), labels, strict=True):
            order = random.permutation(len(y))
            parts += [np.concatenate(x)[order], y[order]]
        return parts

    def meta_batch() -> tuple[np.ndarray, ...]:
        tasks = [task() for _ in range(setting.tasks)]
        sx, sy, qx, qy = (np.stack(parts) for parts in zip(*tasks, strict=True))
        return sx.astype(np.float32), sy, qx.astype(np.float32), qy

    ahead: list[tuple[np.ndarray, ...]] = []

    def meta_batches(count: int) -> Iterator[tuple[Tensor, ...]]:
        for _ in range(count):
            if not ahead:
                ahead.extend(meta_batch() for _ in range(10))
            yield tuple(torch.from_numpy(part) for part in ahead.pop(0))

    return meta_batches


class Images(Dataset):
    """Single images as float32, 0 to 1."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.images[index].astype(np.float32) / 255)


class EpisodeIndices:
    """A batch sampler: the images of one task after the other, support first."""

    def __init__(self, setting: Setting, data: ImageClasses, classes: np.ndarray) -> None:
        self.setting, self.data, self.classes = setting, data, classes
        self.generator, self.count = np.random.default_rng(0), 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[int]]:
        s, data, generator = self.setting, self.data, self.generator
        for _ in range(self.count):
            chosen = generator.choice(self.classes, s.n_way, replace=False)
            drawn = [
                data.starts[c]
                + generator.choice(data.counts[c], s.k_shot + s.k_query, replace=False)
                for c in chosen
            ]
            # [N, K + Q] -> K for each class, then Q for each class
            images = np.stack(drawn).T
            yield images.ravel().tolist()


def loader(setting: Setting, data: ImageClasses, classes: np.ndarray, workers: int) -> MetaBatches:
    """A `DataLoader` whose batches are tasks, stacked to a meta-batch."""
    indices = EpisodeIndices(setting, data, classes)
    batches = DataLoader(Images(data.images), batch_sampler=indices, num_workers=workers)
    support = setting.n_way * setting.k_shot
    labels = torch.arange(setting.n_way).repeat(setting.tasks, setting.k_shot + setting.k_query)

    def meta_batches(count: int) -> Iterator[tuple[Tensor, ...]]:
        # Ends with its workers, so that they do not work while others are measured.
        indices.count = count * setting.tasks
        tasks = iter(batches)
        for _ in range(count):
            x = torch.stack([next(tasks) for _ in range(setting.tasks)])
            yield x[:, :support], labels[:, :support], x[:, support:], labels[:, support:]
        if next(tasks, None) is not None:
            raise AssertionError("the loader went on")

    return meta_batches


def copied(setting: Setting, data: ImageClasses, classes: np.ndarray) -> MetaBatches:
    """The same meta-batch over and over: nothing is drawn, only memory is written."""
    (ready,) = ours(setting, data, classes, rotate=False)(1)

    def meta_batches(count: int) -> Iterator[tuple[Tensor, ...]]:
        for _ in range(count):
            yield tuple(part.clone() for part in ready)

    return meta_batches


def contestants(
    setting: Setting, data: ImageClasses, classes: np.ndarray
) -> dict[str, MetaBatches]:
    return {
        "innerloop": ours(setting, data, classes, rotate=False),
        "innerloop, turned classes": ours(setting, data, classes, rotate=True),
        TUTORIAL: tutorial(setting, data, classes),
        COPY: copied(setting, data, classes),
        "DataLoader, no workers": loader(setting, data, classes, 0),
        WORKERS: loader(setting, data, classes, 2),
    }


def seconds_each(meta_batches: MetaBatches, count: int) -> float:
    """Mean seconds of a meta-batch; the first, which starts workers, is not counted."""
    batches = meta_batches(count + 1)
    next(batches)
    started = time.perf_counter()
    for _ in range(count):
        next(batches)
    seconds = (time.perf_counter() - started) / count
    next(batches, None)  # Read to the end, where workers stop.
    return seconds


def check(setting: Setting, batch: tuple[Tensor, ...]) -> None:
    """Every contestant delivers the same: shapes, types."""
    s = setting
    for x, y, each in ((*batch[:2], s.k_shot), (*batch[2:], s.k_query)):
        assert x.shape[:2] == y.shape == (s.tasks, s.n_way * each), (x.shape, y.shape)
        assert x.dtype == torch.float32, x.dtype
        assert all(t.bincount().tolist() == [each] * s.n_way for t in y)


def measure(name: str, omniglot_source: str | None, rounds: int) -> dict[str, Any]:
    """Episodes per second of every contestant, interleaved."""
    setting = SETTINGS[name]
    made = contestants(setting, *make_data(setting.data, omniglot_source))
    for meta_batches in made.values():
        (batch,) = meta_batches(1)
        check(setting, batch)
    seconds: dict[str, list[float]] = {contestant: [] for contestant in made}
    # Starting processes makes the memory of this one slow for a while, so those are not mixed in.
    together = [contestant for contestant in made if contestant != WORKERS]
    for group in (together, [WORKERS]):
        for _ in range(rounds):
            for contestant in group:
                seconds[contestant].append(seconds_each(made[contestant], META_BATCHES))
    median = {contestant: float(np.median(all_)) for contestant, all_ in seconds.items()}
    return {
        "tasks": setting.tasks,
        "contestants": {
            contestant: {
                "episodes_per_second": round(setting.tasks / median[contestant]),
                "median_ms": round(1000 * median[contestant], 4),
                "seconds": [round(s, 6) for s in seconds[contestant]],
            }
            for contestant in made
        },
        "times_the_tutorial": round(median[TUTORIAL] / median["innerloop"], 2),
        "times_the_tutorial_turned": round(
            median[TUTORIAL] / median["innerloop, turned classes"], 2
        ),
    }


def measure_steps(omniglot_source: str | None, rounds: int) -> dict[str, Any]:
    """Sampling beside the whole training step, for some presets."""
    found = {}
    for preset in STEPS:
        config = TrainConfig.from_dict(
            TrainConfig.preset(preset).to_dict()
            | {"data": "omniglot", "omniglot_source": omniglot_source}
        )
        config, samplers = build_samplers(config)
        sampler, tasks = samplers["train"], config.meta_batch_size
        algorithm = build_algorithm(config, build_model(config, sampler.input_shape))
        state = new_state(config, algorithm)
        sampling, steps = [], []
        for i in range(rounds + 2):
            started = time.perf_counter()
            episodes = sampler.batch(i * tasks, tasks)
            sampled = time.perf_counter()
            gradient, _ = algorithm.meta_gradient(state.params, episodes)
            apply_gradient(config, algorithm, state, gradient)
            ended = time.perf_counter()
            sampling.append(sampled - started)
            steps.append(ended - started)
        # The first calls allocate memory.
        sample_ms, step_ms = (1000 * float(np.median(all_[2:])) for all_ in (sampling, steps))
        found[preset] = {
            "sampling_ms": round(sample_ms, 3),
            "step_ms": round(step_ms, 2),
            "share": round(float(np.mean(sampling[2:]) / np.mean(steps[2:])), 4),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="*", help=f"of {', '.join(SETTINGS)}; all by default")
    parser.add_argument("--omniglot-source", default=os.environ.get("INNERLOOP_OMNIGLOT"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="three rounds, nothing is written")
    arguments = parser.parse_args()
    check_names(parser, "setting", arguments.settings, SETTINGS)
    torch.set_num_threads(arguments.threads)
    # The same for all contestants.
    keep_memory()
    path = RESULTS / "sampling.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else {}
    for name in arguments.settings or SETTINGS:
        runs[name] = measure(name, arguments.omniglot_source, 3 if arguments.quick else ROUNDS)
        print(f"{name}: {runs[name]['times_the_tutorial']} times the tutorial's cache")
        for contestant, row in runs[name]["contestants"].items():
            print(f"  {contestant:28}{row['episodes_per_second']:9,} episodes a second")
    runs["steps"] = measure_steps(arguments.omniglot_source, 5 if arguments.quick else 30)
    for preset, row in runs["steps"].items():
        print(
            f"{preset:24}{row['sampling_ms']:8.2f} of {row['step_ms']:7.1f} ms a step, "
            f"{100 * row['share']:.2f}%"
        )
    if not arguments.quick:
        report = {"command": "python -m benchmarks.sampling", "machine": machine(), "runs": runs}
        path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
