"""Time series: exercises recognised from a watch, after one look at each by a new person.

Ten people did seven shoulder exercises with either arm, wearing a watch that measures acceleration
and rotation 50 times a second (Burns et al. 2018, arXiv:1802.01489).  The package seglearn, under
the BSD licence, has the recordings.  Of six people the network learns how to tell exercises of one
person apart; two others choose the best weights; the last two test it.

    pip install seglearn
    python examples/time_series.py
"""

from __future__ import annotations

import tempfile
from importlib.metadata import distribution

import numpy as np
import torch
from torch import nn

import innerloop

EXERCISES = 7


def windows(length: int = 100) -> tuple[np.ndarray, list[str], list[str]]:
    """Pieces of two seconds, `[M, 6, length]`; the exercise of a person; the person."""
    # The file alone: to import seglearn takes pandas.  NumPy unpickles it, as seglearn does.
    path = distribution("seglearn").locate_file("seglearn/data/watch_dataset.npy")
    watch = np.load(str(path), allow_pickle=True).item()
    pieces, exercises, people = [], [], []
    for series, exercise, number in zip(watch["X"], watch["y"], watch["subject"], strict=True):
        count, person = len(series) // length, f"person {number:02}"
        pieces.append(series[: count * length].reshape(count, length, 6).swapaxes(1, 2))
        exercises += [f"{person} {watch['y_labels'][exercise]}"] * count
        people += [person] * count
    X = np.concatenate(pieces).astype(np.float32)
    mean, deviation = (part(axis=(0, 2), keepdims=True) for part in (X.mean, X.std))
    return (X - mean) / deviation, exercises, people


def body(width: int = 32) -> nn.Sequential:
    """A convolutional network from series `[B, 6, time]` to features `[B, 2 * width]`."""
    return nn.Sequential(
        nn.Conv1d(6, width, 9, stride=2, padding=4),
        nn.GroupNorm(4, width),
        nn.ReLU(),
        nn.Conv1d(width, width, 9, stride=2, padding=4),
        nn.GroupNorm(4, width),
        nn.ReLU(),
        nn.Conv1d(width, 2 * width, 5, padding=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
    )


def nearest_spectrum(tasks: innerloop.EpisodeSampler, number: int) -> float:
    """Accuracy without any learning: the support example with the most similar spectrum."""
    right = []
    for task in tasks.batch(0, number).tasks():
        support, query = (
            torch.fft.rfft(x).abs().flatten(1) for x in (task.support_x, task.query_x)
        )
        found = task.support_y[torch.cdist(query, support).argmin(dim=1)]
        right.append((found == task.query_y).float().mean().item())
    return sum(right) / number


def main(iterations: int = 300, tasks: int = 200, split_seed: int = 0) -> dict[str, float]:
    """Accuracy on the people of the test, from one window of each exercise."""
    X, exercises, people = windows()
    data = innerloop.data.from_arrays(X, exercises, groups=people)
    train, val, test = innerloop.split_tasks(
        data, n_way=EXERCISES, k_query=8, within_group=True, split_seed=split_seed
    )
    torch.manual_seed(0)
    with_head = nn.Sequential(body(), nn.Linear(64, EXERCISES))
    found = {"nearest spectrum": nearest_spectrum(test, tasks)}
    for algorithm in (
        innerloop.MAML(with_head, inner_lr=0.5, inner_steps=3),
        innerloop.ProtoNet(body()),
    ):
        run = innerloop.fit(
            algorithm,
            train,
            val=val,
            test=test,
            out=tempfile.mkdtemp(),
            iterations=iterations,
            meta_batch_size=4,
            meta_lr=5e-3,
            val_every=50,
            val_tasks=50,
            test_tasks=tasks,
        )
        found[type(algorithm).__name__] = run.results["accuracy"]
    return found


if __name__ == "__main__":
    splits = [main(split_seed=seed) for seed in range(5)]
    for name in splits[0]:
        print(f"{name}: " + ", ".join(f"{found[name]:.3f}" for found in splits))
