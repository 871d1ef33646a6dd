"""Runs whose process is killed and that are taken up again end as if nothing had happened."""

from __future__ import annotations

import random

import pytest
import torch
from trials.kills import Count, Trial, differences

from innerloop.algorithms import ALGORITHMS
from innerloop.runs.checkpoint import read_tensors, write_tensors


@pytest.mark.long
def test_killed_before_every_single_file_operation(tmp_path):
    count = Count()
    # A picture is drawn from files that are compared, and takes longer than the run.  Of more
    # iterations between two validations nothing else is written.
    short = {"iterations": 4, "val_every": 2, "inner_steps": 1, "val_tasks": 4, "test_tasks": 4}
    trial = Trial(tmp_path / "maml", "maml", drawn=False, typed=False, **short)
    trial.kill_at_every_write(count)
    assert count.unequal == []
    # Config, two validations with metrics, weights and checkpoint, results, picture, tidying up.
    assert count.kills >= 30


@pytest.mark.long
@pytest.mark.parametrize("name", ALGORITHMS)
def test_killed_at_random_moments(tmp_path, name):
    # Of one algorithm, kills hit the drawing, too.
    trial, count = Trial(tmp_path / "trial", name, drawn=name == "maml"), Count()
    draw = random.Random(name)
    for _ in range(20):
        if count.kills < 2:
            trial.kill_at_random(count, draw, kills=2)
    assert count.unequal == []
    assert count.kills >= 2


def test_the_comparison_sees_what_differs(tmp_path):
    trial = Trial(tmp_path / "trial", "protonet")
    run = trial.new_run()
    trial._finish(run)
    assert list(differences(trial.whole, run)) == []
    checkpoint = next((run / "checkpoints").iterdir())
    tensors, counters = read_tensors(checkpoint)
    name = next(name for name in tensors if name.startswith("optimizer/exp_avg/"))
    tensors[name] = torch.nextafter(tensors[name], torch.ones(()))
    write_tensors(checkpoint, tensors, counters | {"seconds": 1e6})
    metrics = run / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"iteration": 6', '"iteration": 7'))
    assert list(differences(trial.whole, run)) == [
        "checkpoints/iteration-000012.safetensors",
        "metrics.jsonl",
    ]
    (run / "model.safetensors").unlink()
    assert list(differences(trial.whole, run)) == ["files model.safetensors"]
