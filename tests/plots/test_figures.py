"""The picture of a run, for any network outputs and any kind of examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import innerloop
from innerloop.data import from_arrays
from innerloop.plots.comparison import plot_runs
from innerloop.plots.figures import _learning_curve
from innerloop.plots.words import ENGLISH
from innerloop.tasks.protocol import setting_of
from innerloop.training.report import format_result

LABELS = np.repeat(np.arange(20), 8)


class Named(nn.Module):
    """Returns a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(64, 3)

    def forward(self, x):
        return {"logits": self.out(x.flatten(1))}


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(9, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.embed(x).mean(1))


def named_loss(outputs, targets):
    return nn.functional.cross_entropy(outputs["logits"], targets)


def named_metric(outputs, targets):
    return (outputs["logits"].argmax(-1) == targets).float().mean()


def flat(size):
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 3))


NAMED = {"loss": named_loss, "metric": named_metric}
# Network, shape of an example, options of the algorithm and of the tasks.
KINDS = {
    "outputs that are a dict": (Named, (1, 8, 8), NAMED, {}),
    "feature vectors": (lambda: flat(6), (6,), {}, {}),
    "token ids": (Words, None, {}, {}),
    "five channels": (lambda: flat(320), (5, 8, 8), {}, {}),
    "images": (lambda: flat(64), (1, 8, 8), {}, {}),
    "ways and shots that vary": (
        lambda: innerloop.models.Conv4(3, head="shared", image_size=16, width=16),
        (1, 16, 16),
        {},
        {"n_way": (2, 3), "k_shot": (1, 3), "meta_batch_size": 2},
    ),
}


@pytest.mark.usefixtures("rendered")
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_ends_with_a_picture(kind, tmp_path):
    make, shape, options, tasks = KINDS[kind]
    numbers = np.random.default_rng(0)
    if shape is None:
        x = numbers.integers(0, 9, (len(LABELS), 7))
    else:
        x = numbers.random((len(LABELS), *shape), dtype=np.float32)
    torch.manual_seed(0)
    settings = {"n_way": 3, "k_query": 4, **tasks}
    train, val, test = innerloop.split_tasks(from_arrays(x, LABELS), **settings)
    run = innerloop.fit(
        innerloop.MAML(make(), 0.1, 2, **options),
        train,
        val=val,
        test=test,
        out=tmp_path / "run",
        **{"iterations": 2, "val_every": 1, "val_tasks": 4, "test_tasks": 4},
        meta_batch_size=2,
    )
    assert (run.folder / "run.png").stat().st_size > 10_000
    assert "tasks" in format_result(run.results)
    picture = plot_runs([run.folder], tmp_path / "all.png", episodes=0)
    assert picture.stat().st_size > 10_000


def test_ways_and_shots_as_people_write_them():
    assert setting_of({"n_way": 5, "k_shot": 1}) == "5-way 1-shot"
    assert setting_of({"n_way": [2, 5], "k_shot": [1, 3]}) == "2-5-way 1-3-shot"
    assert setting_of({"n_way": None, "k_shot": 10}) == "10-shot"
    assert setting_of({}) == ""


def test_iterations_are_whole_numbers_on_the_axis():
    """With one validation the span is a unit or so, which Matplotlib cuts into quarters."""
    axes = Figure().subplots()
    line = {"iteration": 20, "loss": 1.0, "val_accuracy": 0.5, "val_ci95": 0.1}
    _learning_curve(axes, [line], ENGLISH)
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert 20 in ticks
    assert all(tick == round(tick) for tick in ticks)
