"""Few-shot learning of time series: a data set of your own, from arrays to a result.

    python examples/own_data.py

Each class is a melody of three waves; each series is the melody from another moment on, with
noise.  MAML learns from 38 melodies how to tell five new ones apart, given one series of each.
Replace `melodies` by your own data: an array `[examples, ...]` and one label for each.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import innerloop


def melodies(
    classes: int = 60, per_class: int = 12, length: int = 64, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Series `[classes * per_class, 3, length]`, and the class of each."""
    generator = np.random.default_rng(seed)
    waves = generator.integers(1, 9, (classes, 1, 3, 1)) * np.linspace(0, 2 * np.pi, length)
    start = generator.uniform(0, 2 * np.pi, (classes, per_class, 3, 1))
    noise = 0.3 * generator.standard_normal((classes, per_class, 3, length))
    X = np.sin(waves + start) + noise
    return X.reshape(-1, 3, length), np.repeat(np.arange(classes), per_class)


def network(n_way: int = 5) -> nn.Module:
    """A small convolutional network for series of three channels."""
    return nn.Sequential(
        nn.Conv1d(3, 16, 9, padding=4),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(16, n_way),
    )


def noisy(series: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A little more noise, another in each training task."""
    return series + 0.1 * torch.randn(series.shape, generator=generator, device=series.device)


def main(iterations: int = 300, tasks: int = 200) -> tuple[float, float]:
    """Accuracy on new melodies before and after meta-training."""
    torch.manual_seed(0)
    data = innerloop.data.from_arrays(*melodies())
    train, _, test = innerloop.split_tasks(data, n_way=5, k_shot=1, k_query=5, augment=noisy)
    maml = innerloop.MAML(network(), inner_lr=0.3, inner_steps=2)
    params = maml.init_params()
    before = innerloop.evaluate(maml, params, test, tasks=tasks)["accuracy"]
    optimizer = torch.optim.Adam(params.values(), lr=0.01)
    for i in range(iterations):
        grads, _ = maml.meta_gradient(params, train.batch(8 * i, 8))
        for name, p in params.items():
            p.grad = grads[name]
        optimizer.step()
    return before, innerloop.evaluate(maml, params, test, tasks=tasks)["accuracy"]


if __name__ == "__main__":
    print("accuracy on five new melodies, before and after: {:.3f}, {:.3f}".format(*main()))
