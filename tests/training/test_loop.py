"""The outer loop: steps, learning rate, validation, checkpoints by the clock, divergence."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import innerloop
from innerloop import TrainConfig, UserError
from innerloop.build import build_samplers
from innerloop.data.base import ImageClasses
from innerloop.evaluation import Diverged
from innerloop.runs.checkpoint import read_tensors
from innerloop.runs.folder import checkpoints, new_state
from innerloop.training import loop
from innerloop.training.loop import ASK_AFTER, progress, set_learning_rate
from innerloop.training.report import SilentReport
from tests.small_runs import StopAt, assert_same_runs, settings


def test_running_averages_go_a_tenth_of_the_way_unclipped(array, tmp_path):
    run = innerloop.train(
        out=tmp_path / "run",
        **settings(array, algorithm="maml++", iterations=1, val_every=1, clip_norm=1e-6),
    )
    start = run.algorithm.init_params()
    config = TrainConfig.from_file(run.folder / "config.yaml")
    episodes = build_samplers(config)[1]["train"].batch(0, config.meta_batch_size)
    grads, _ = run.algorithm.meta_gradient(start, episodes, 0.0)
    for name in run.algorithm.moving_averages:
        torch.testing.assert_close(run.params[name], start[name] - 0.1 * grads[name])


def test_plain_descent_with_reptile_goes_to_the_mean_of_the_adapted_weights(array, tmp_path):
    """Its paper's outer step, with a linear schedule that begins at the full rate."""
    changes = {"meta_optimizer": "sgd", "meta_lr": 1.0, "schedule": "linear", "clip_norm": None}
    run = innerloop.train(
        out=tmp_path / "run",
        **settings(array, algorithm="reptile", iterations=1, val_every=1, **changes),
    )
    start = run.algorithm.init_params()
    config = TrainConfig.from_file(run.folder / "config.yaml")
    episodes = build_samplers(config)[1]["train"].batch(0, config.meta_batch_size)
    grads, _ = run.algorithm.meta_gradient(start, episodes)
    for name, p in start.items():
        torch.testing.assert_close(run.params[name], p - grads[name])


def test_algorithms_are_told_how_far_training_is(array, tmp_path, monkeypatch):
    from innerloop import MAML

    real, seen = MAML.meta_gradient, []

    def watch(self, params, episodes, progress):
        seen.append(progress)
        return real(self, params, episodes, progress)

    monkeypatch.setattr(MAML, "meta_gradient", watch)
    innerloop.train(out=tmp_path / "run", **settings(array, iterations=4))
    assert seen == [0, 0.25, 0.5, 0.75]


def test_divergence_stops_with_advice_and_keeps_the_last_checkpoint(array, tmp_path, monkeypatch):
    from innerloop import MAML

    real, calls = MAML.meta_gradient, []

    def diverge(self, params, episodes, progress):
        grads, metrics = real(self, params, episodes, progress)
        calls.append(1)
        if len(calls) == 7:
            metrics["loss"] = metrics["loss"] * float("nan")
        return grads, metrics

    monkeypatch.setattr(MAML, "meta_gradient", diverge)
    with pytest.raises(UserError, match=r"loss of iteration 6 is nan.*meta_lr"):
        innerloop.train(out=tmp_path / "run", **settings(array))
    tensors, counters = read_tensors(checkpoints(tmp_path / "run")[0])
    assert counters["iteration"] == 4
    assert all(t.isfinite().all() for t in tensors.values())


def test_time_budget_ends_cleanly(array, tmp_path):
    run = innerloop.train(
        out=tmp_path / "run", **settings(array, iterations=10**6, max_seconds=0.3)
    )
    assert not run.interrupted
    assert 1 <= run.results["iterations"] < 10**6
    assert (run.folder / "results.json").exists()


def test_without_validation_classes_the_last_weights_count(array, tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (1623, 8, 1, 16, 16), dtype=np.uint8)
    data = ImageClasses.from_square(images, name="noise")
    changes = settings(array, split="tutorial-no-validation") | {"data": data}
    run = innerloop.train(out=tmp_path / "run", **changes)
    assert run.results["best_iteration"] == 12
    assert "val_accuracy" not in (run.folder / "metrics.jsonl").read_text()


def test_schedule_and_progress():
    config = TrainConfig(iterations=100, meta_lr=1.0)
    algorithm = innerloop.MAML(innerloop.models.MLP(4))
    state = new_state(config, algorithm)

    def rate(iteration, **changes):
        state.iteration = iteration
        settings = TrainConfig(iterations=100, meta_lr=1.0, **changes)
        set_learning_rate(settings, state, progress(settings, state))
        return state.optimizer.param_groups[0]["lr"]

    rates = [rate(i) for i in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[5]
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[100] == pytest.approx(0.01)
    assert rate(50, schedule="constant") == 1.0
    assert [rate(i, schedule="linear") for i in (0, 25, 100)] == [1.0, 0.75, 0.0]
    state.iteration, state.seconds = 10, 30.0
    assert progress(TrainConfig(iterations=100, max_seconds=60), state) == 0.5


def test_between_far_validations_checkpoints_follow_the_clock(array, tmp_path, monkeypatch):
    monkeypatch.setattr("innerloop.training.loop.SAVE_AFTER", 0.0)
    changes = settings(array, val_every=12)
    whole = innerloop.train(out=tmp_path / "whole", **changes).folder
    folder = innerloop.train(out=tmp_path / "s", report=StopAt(6), **changes).folder
    assert [path.name[10:16] for path in checkpoints(folder)] == ["000007", "000006", "000005"]
    innerloop.resume(folder)
    assert_same_runs(whole, folder)


def test_a_clock_that_goes_backwards_does_not_take_the_run_back(array, tmp_path, monkeypatch):
    times = iter(range(10**6, 0, -1))
    monkeypatch.setattr("innerloop.training.loop.time.monotonic", lambda: float(next(times)))
    monkeypatch.setattr("time.time", lambda: float(next(times)))
    folder = innerloop.train(out=tmp_path / "s", report=StopAt(5), **settings(array)).folder
    innerloop.resume(folder)
    monkeypatch.undo()
    assert_same_runs(innerloop.train(out=tmp_path / "w", **settings(array)).folder, folder)
    lines = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(line["seconds"] >= 0 for line in lines)


def test_weights_that_are_no_numbers_never_become_a_checkpoint(array, tmp_path):
    """Plain descent with an absurd rate: loss and gradient are finite, the weights are not."""
    changes = {"meta_optimizer": "sgd", "meta_lr": 1e38, "clip_norm": None, "val_every": 1}
    changes |= {"schedule": "constant"}
    with pytest.raises(UserError, match=r"(not|no longer a) finite.*Lower (meta|inner)_lr"):
        innerloop.train(out=tmp_path / "run", **settings(array, **changes))
    for path in checkpoints(tmp_path / "run"):
        assert all(t.isfinite().all() for t in read_tensors(path)[0].values())


def test_a_validation_that_diverges_keeps_earlier_weights(array, tmp_path, monkeypatch):
    """On a single unlucky task gradient descent may diverge though training is sound."""
    real, calls = loop.evaluate, []

    def diverge(*arguments, **options):
        calls.append(options)
        if len(calls) in bad:
            raise Diverged("adaptation diverged")
        return real(*arguments, **options)

    monkeypatch.setattr(loop, "evaluate", diverge)
    warnings: list[str] = []
    report = SilentReport()
    monkeypatch.setattr(report, "warning", warnings.append, raising=False)
    bad = {2}
    run = innerloop.train(
        out=tmp_path / "run", report=report, **settings(array, iterations=3, val_every=1)
    )
    lines = [json.loads(x) for x in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert ["val_accuracy" in line for line in lines] == [True, False, True]
    assert run.results["best_iteration"] != 2
    assert (run.folder / "run.png").exists()
    assert "validation after iteration 2" in warnings[0]
    calls.clear()
    bad = {1}
    with pytest.raises(UserError, match="validation after iteration 1"):
        innerloop.train(out=tmp_path / "none", **settings(array, iterations=3, val_every=1))


def test_divergence_names_the_gradient(array, tmp_path, monkeypatch):
    from innerloop import MAML

    real = MAML.meta_gradient

    def diverge(self, params, episodes, progress):
        grads, metrics = real(self, params, episodes, progress)
        return grads | {"convs.1.weight": grads["convs.1.weight"] * float("inf")}, metrics

    monkeypatch.setattr(MAML, "meta_gradient", diverge)
    with pytest.raises(UserError, match=r"meta-gradient of convs\.1\.weight in iteration 0 is not"):
        innerloop.train(out=tmp_path / "run", **settings(array))


def test_losses_that_are_asked_for_late(array, tmp_path, monkeypatch):
    """As on a GPU; nothing else may depend on when losses are read."""
    steps = []

    class Told(SilentReport):
        def step(self, iteration, loss, share):
            steps.append(iteration)

    expected = innerloop.train(out=tmp_path / "at once", **settings(array))
    monkeypatch.setitem(ASK_AFTER, "cpu", 3)
    run = innerloop.train(out=tmp_path / "late", report=Told(), **settings(array))
    assert all(torch.equal(p, run.params[n]) for n, p in expected.params.items())
    lines = [
        [json.loads(line)["loss"] for line in (r.folder / "metrics.jsonl").read_text().splitlines()]
        for r in (expected, run)
    ]
    assert lines[0] == lines[1]
    assert steps == list(range(1, 13))


def test_divergence_is_said_late_but_before_anything_is_saved(array, tmp_path, monkeypatch):
    from innerloop import MAML

    monkeypatch.setitem(ASK_AFTER, "cpu", 50)
    real, calls = MAML.meta_gradient, []

    def diverge(self, params, episodes, progress):
        calls.append(1)
        grads, metrics = real(self, params, episodes, progress)
        if len(calls) == 6:
            metrics["loss"] = metrics["loss"] * float("nan")
        return grads, metrics

    monkeypatch.setattr(MAML, "meta_gradient", diverge)
    with pytest.raises(UserError, match="the loss of iteration 5 is nan"):
        innerloop.train(out=tmp_path / "run", **settings(array))
    assert len(calls) == 8
    assert [p.name for p in checkpoints(tmp_path / "run")] == ["iteration-000004.safetensors"]


def test_the_best_weights_survive_a_divergence(array, tmp_path, monkeypatch):
    from innerloop import MAML

    real, calls = MAML.meta_gradient, []

    def diverge(self, params, episodes, progress):
        calls.append(1)
        grads, metrics = real(self, params, episodes, progress)
        return grads, metrics | {"loss": metrics["loss"] / (len(calls) < 6)}

    monkeypatch.setattr(MAML, "meta_gradient", diverge)
    with pytest.raises(UserError, match="loss of iteration 5 is inf"):
        innerloop.train(out=tmp_path / "run", **settings(array))
    assert innerloop.load(tmp_path / "run").params.keys()


@pytest.mark.parametrize("clipping", [{"clip_norm": 1.0}, {"clip_value": 1.0, "clip_norm": None}])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_divergence_names_the_gradient_whatever_is_clipped(
    array, tmp_path, monkeypatch, clipping, value
):
    from innerloop import MAML

    real = MAML.meta_gradient

    def diverge(self, params, episodes, progress):
        grads, metrics = real(self, params, episodes, progress)
        return grads | {"convs.2.weight": grads["convs.2.weight"] * value}, metrics

    monkeypatch.setattr(MAML, "meta_gradient", diverge)
    with pytest.raises(UserError, match=r"meta-gradient of convs\.2\.weight in iteration 0 is not"):
        innerloop.train(out=tmp_path / "run", **settings(array, **clipping))
