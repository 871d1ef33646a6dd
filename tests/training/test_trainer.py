"""Training runs: what they leave behind, that they resume exactly, that they fail well."""

from __future__ import annotations

import json
import os
import signal
import threading

import numpy as np
import pytest
import torch
import yaml

import innerloop
from innerloop import TrainConfig, UserError
from innerloop.algorithms import ALGORITHMS
from innerloop.build import build_samplers
from innerloop.data.base import ImageClasses
from innerloop.files import held
from innerloop.runs.checkpoint import read_tensors, write_tensors
from innerloop.runs.folder import checkpoints, new_state
from innerloop.runs.loading import load_for
from innerloop.training.loop import ASK_AFTER, progress, set_learning_rate
from innerloop.training.report import SilentReport


@pytest.fixture(scope="module")
def array(tmp_path_factory):
    """A tiny learnable data set as a file: blobs in class-dependent places."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 60, (40, 8, 1, 16, 16), dtype=np.uint8)
    for c in range(40):
        y, x = generator.integers(0, 11, 2)
        images[c, :, 0, y : y + 5, x : x + 5] += 180
    path = tmp_path_factory.mktemp("data") / "blobs.npy"
    np.save(path, images)
    return path


def settings(array, **changes):
    return {
        "data": str(array),
        "split": "random",
        "n_way": 3,
        "train_n_way": None,
        "k_query": 3,
        "eval_k_query": 3,
        "width": 8,
        "meta_batch_size": 4,
        "iterations": 12,
        "val_every": 4,
        "val_tasks": 10,
        "test_tasks": 20,
        "threads": 1,
        **changes,
    }


def folder_state(folder):
    """All that must not depend on interruptions; seconds are left out."""
    tensors, counters = read_tensors(checkpoints(folder)[0])
    model, _ = read_tensors(folder / "model.safetensors")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    results = json.loads((folder / "results.json").read_text())
    for timed in (*lines, results, counters):
        for name in ("seconds", "step_seconds", "ms_per_iteration"):
            timed.pop(name, None)
    return tensors, model, {"lines": lines, "results": results, "counters": counters}


def assert_same_runs(a, b):
    for x, y in zip(folder_state(a)[:2], folder_state(b)[:2], strict=True):
        assert x.keys() == y.keys()
        assert all(torch.equal(x[name], y[name]) for name in x)
    assert folder_state(a)[2] == folder_state(b)[2]


class StopAt(SilentReport):
    """Presses Ctrl-C after an iteration."""

    def __init__(self, iteration, number=signal.SIGINT):
        self.iteration, self.number = iteration, number

    def step(self, iteration, loss, share):
        if iteration == self.iteration:
            os.kill(os.getpid(), self.number)


def test_a_run_leaves_everything_behind(array, tmp_path):
    run = innerloop.train(out=tmp_path / "run", **settings(array, iterations=40))
    assert {f.name for f in run.folder.iterdir()} == {
        "config.yaml",
        "metrics.jsonl",
        "checkpoints",
        "model.safetensors",
        "results.json",
        "run.png",
    }
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert TrainConfig.from_dict(config).to_dict() == config
    results = json.loads((run.folder / "results.json").read_text())
    assert results["accuracy"] == run.results["accuracy"] > 0.8
    assert results["accuracy_per_step"][0] == pytest.approx(1 / 3, abs=0.1)
    assert len(results["accuracy_per_step"]) == config["eval_inner_steps"] + 1
    assert len(results["accuracies"]) == results["protocol"]["tasks"] == 20
    lines = [json.loads(x) for x in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [x["iteration"] for x in lines] == list(range(4, 41, 4))


def test_from_python_with_a_data_set_object(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 1, 16, 16), dtype=np.uint8)
    data = ImageClasses.from_square(images, name="noise")
    run = innerloop.train(out=tmp_path / "r", **settings("x", iterations=2) | {"data": data})
    assert run.results["protocol"]["data"] == "noise"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [1, 4, 7])
def test_interrupted_and_resumed_is_the_same_run(array, tmp_path, number, at):
    before = signal.getsignal(signal.SIGINT)
    whole = innerloop.train(out=tmp_path / "whole", **settings(array)).folder
    stopped = innerloop.train(
        out=tmp_path / "stopped", report=StopAt(at, number), **settings(array)
    )
    assert stopped.interrupted
    assert not (stopped.folder / "results.json").exists()
    assert not innerloop.resume(stopped.folder).interrupted
    assert_same_runs(whole, stopped.folder)
    # The handlers of the process are its own again.
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "maml"])
def test_every_algorithm_resumes_exactly_and_is_loaded_as_it_was(array, tmp_path, name):
    """Learnt rates, running averages, a classifier of all classes: all of it is state."""
    changes = settings(array, algorithm=name, iterations=6, val_every=3, test_tasks=6)
    changes |= {"head": "random"} if name == "boil" else {}
    whole = innerloop.train(out=tmp_path / "whole", **changes)
    stopped = innerloop.train(out=tmp_path / "stopped", report=StopAt(4), **changes).folder
    innerloop.resume(stopped)
    assert_same_runs(whole.folder, stopped)
    loaded, sampler = load_for(stopped)
    assert type(loaded.algorithm) is ALGORITHMS[name]
    again = innerloop.evaluate(
        loaded.algorithm,
        loaded.params,
        sampler,
        tasks=6,
        inner_steps=loaded.config.eval_inner_steps,
    )
    assert again == {key: whole.results[key] for key in again}


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


def test_sinusoid_learns_to_adapt_resumes_and_evaluates(tmp_path):
    changes = {
        "data": "sinusoid",
        "iterations": 400,
        "val_every": 200,
        "val_tasks": 20,
        "test_tasks": 50,
        "meta_lr": 1e-2,
        "threads": 1,
    }
    whole = innerloop.train(out=tmp_path / "whole", **changes)
    assert whole.results["metric"] == "loss"
    assert whole.results["loss"] == whole.results["loss_per_step"][-1]
    assert len(whole.results["losses"]) == 50
    assert whole.results["loss"] < 0.8 * whole.results["loss_per_step"][0]
    assert "n_way" not in whole.results["protocol"]
    lines = (whole.folder / "metrics.jsonl").read_text().splitlines()
    best = min((json.loads(line) for line in lines), key=lambda line: line["val_loss"])
    assert whole.results["best_iteration"] == best["iteration"]
    stopped = innerloop.train(out=tmp_path / "s", report=StopAt(300), **changes).folder
    innerloop.resume(stopped)
    assert_same_runs(whole.folder, stopped)
    loaded, sampler = load_for(stopped, k_shot=5)
    assert sampler.batch(0, 1).support_x.shape == (1, 5, 1)
    result = innerloop.evaluate(loaded.algorithm, loaded.params, sampler, tasks=5)
    assert result["protocol"]["k_shot"] == 5
    for wrong, message in [
        ({"n_way": 3, "bn": "support"}, "bn, n_way: not for data sinusoid"),
        ({"data": "glyphs"}, "cannot be tested on glyphs"),
    ]:
        with pytest.raises(UserError, match=message):
            load_for(stopped, **wrong)


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "protonet"])
def test_every_algorithm_takes_waves(tmp_path, name):
    run = innerloop.train(
        out=tmp_path / "run",
        data="sinusoid",
        algorithm=name,
        iterations=2,
        val_every=2,
        val_tasks=4,
        test_tasks=4,
        meta_batch_size=3,
    )
    assert run.results["metric"] == "loss"
    start = run.algorithm.init_params()
    assert any(not torch.equal(p, start[n]) for n, p in run.params.items())
    # One step of Reptile on all of a task's points would be the baseline itself.
    assert run.algorithm.inner_steps > 1 or name in ("maml", "anil", "boil", "meta-sgd")


def test_algorithms_are_told_how_far_training_is(array, tmp_path, monkeypatch):
    from innerloop import MAML

    real, seen = MAML.meta_gradient, []

    def watch(self, params, episodes, progress):
        seen.append(progress)
        return real(self, params, episodes, progress)

    monkeypatch.setattr(MAML, "meta_gradient", watch)
    innerloop.train(out=tmp_path / "run", **settings(array, iterations=4))
    assert seen == [0, 0.25, 0.5, 0.75]


def test_colour_images_and_other_ways_and_shots_for_every_algorithm(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 3, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "colour.npy", images)
    changes = settings(tmp_path / "colour.npy", iterations=1, val_every=1, test_tasks=2)
    for name in ALGORITHMS:
        head = {"head": "random"} if name == "boil" else {}
        run = innerloop.train(out=tmp_path / name, **changes | head, algorithm=name)
        if name == "boil":
            with pytest.raises(UserError, match="cannot tell 4 classes apart"):
                load_for(run.folder, n_way=4)
        more = {"k_shot": 2} if name == "boil" else {"k_shot": 2, "n_way": 4}
        loaded, sampler = load_for(run.folder, bn="support", **more)
        result = innerloop.evaluate(loaded.algorithm, loaded.params, sampler, tasks=2)
        assert result["protocol"]["k_shot"] == 2
    loaded, sampler = load_for(tmp_path / "maml++", bn="per_step")
    assert innerloop.evaluate(loaded.algorithm, loaded.params, sampler, tasks=2)["bn"] == "per_step"


def test_a_network_for_images_is_refused_for_waves(tmp_path):
    with pytest.raises(UserError, match="set model to mlp"):
        innerloop.train(out=tmp_path / "run", data="sinusoid", model="conv4")
    assert not (tmp_path / "run").exists()


def test_resume_without_any_checkpoint_starts_anew(array, tmp_path):
    whole = innerloop.train(out=tmp_path / "whole", **settings(array)).folder
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "config.yaml").write_bytes((whole / "config.yaml").read_bytes())
    # A line of metrics that was cut off by a crash before the first checkpoint.
    (tmp_path / "new" / "metrics.jsonl").write_text('{"iteration": 4, "los')
    innerloop.resume(tmp_path / "new")
    assert_same_runs(whole, tmp_path / "new")


def test_resume_drops_metrics_written_after_the_checkpoint(array, tmp_path):
    whole = innerloop.train(out=tmp_path / "whole", **settings(array)).folder
    stopped = innerloop.train(out=tmp_path / "s", report=StopAt(5), **settings(array)).folder
    with open(stopped / "metrics.jsonl", "a") as file:
        file.write('{"iteration": 8, "seconds": 0, "loss": 9}\n{"iteration": 12')
    innerloop.resume(stopped)
    assert_same_runs(whole, stopped)


def test_same_seed_same_run_other_seed_other_run(array, tmp_path):
    runs = [
        innerloop.train(out=tmp_path / name, **settings(array, seed=seed, chunk_size=chunk))
        for name, seed, chunk in (("a", 0, None), ("b", 0, None), ("c", 1, None))
    ]
    assert_same_runs(runs[0].folder, runs[1].folder)
    a, c = (run.params["convs.0.weight"] for run in (runs[0], runs[2]))
    assert not torch.equal(a, c)


def test_a_folder_in_use_is_refused_and_untouched(array, tmp_path):
    folder = innerloop.train(out=tmp_path / "run", **settings(array, iterations=2)).folder
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    with pytest.raises(UserError, match=r"already holds a run.*--resume"):
        innerloop.train(out=folder, **settings(array))
    assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before


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


def test_training_in_a_thread_leaves_signals_alone(array, tmp_path):
    results = []
    thread = threading.Thread(
        target=lambda: results.append(
            innerloop.train(out=tmp_path / "run", **settings(array, iterations=2))
        )
    )
    thread.start()
    thread.join()
    assert not results[0].interrupted


def test_schedule_and_progress():
    config = TrainConfig(iterations=100, meta_lr=1.0)
    algorithm = innerloop.MAML(innerloop.models.MLP(4))
    state = new_state(config, algorithm)

    def rate(iteration, **changes):
        state.iteration = iteration
        set_learning_rate(TrainConfig(iterations=100, meta_lr=1.0, **changes), state)
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


def test_resume_of_what_is_no_run(tmp_path):
    with pytest.raises(UserError, match="no run folder"):
        innerloop.resume(tmp_path)
    with pytest.raises(UserError, match="neither a run folder"):
        innerloop.load(tmp_path)


class Warnings(SilentReport):
    """Keeps the warnings."""

    def __init__(self):
        self.messages = []

    def warning(self, message):
        self.messages.append(message)


def damage(path, how):
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[:-100])
    elif how == "flipped":  # a single bit in the middle of the weights
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        _, counters = read_tensors(path)
        write_tensors(path, {"best/a": torch.zeros(1)}, counters | {"iteration": "many"})


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(array, tmp_path, how):
    whole = innerloop.train(out=tmp_path / "whole", **settings(array)).folder
    folder = innerloop.train(out=tmp_path / "s", report=StopAt(8), **settings(array)).folder
    assert [path.name for path in checkpoints(folder)] == [
        f"iteration-0000{n}.safetensors" for n in ("09", "08", "04")
    ]
    damage(checkpoints(folder)[0], how)
    report = Warnings()
    innerloop.resume(folder, report=report)
    (message,) = report.messages
    assert "iteration-000009.safetensors" in message
    assert "going on from the one before it" in message
    assert_same_runs(whole, folder)
    # Nothing is thrown away.
    assert (folder / "checkpoints" / "iteration-000009.safetensors.damaged").exists()


def test_when_all_checkpoints_are_damaged_nothing_is_begun_anew(array, tmp_path):
    folder = innerloop.train(out=tmp_path / "s", report=StopAt(5), **settings(array)).folder
    for path in checkpoints(folder):
        damage(path, "cut")
    metrics = (folder / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"every checkpoint in .* is damaged"):
        innerloop.resume(folder)
    assert (folder / "metrics.jsonl").read_bytes() == metrics


def test_the_last_few_checkpoints_are_kept_until_the_run_has_ended(array, tmp_path):
    changes = settings(array, iterations=24)
    folder = innerloop.train(out=tmp_path / "s", report=StopAt(17), **changes).folder
    assert [path.name[10:16] for path in checkpoints(folder)] == ["000018", "000016", "000012"]
    innerloop.resume(folder)
    assert [path.name[10:16] for path in checkpoints(folder)] == ["000024"]


def test_between_far_validations_checkpoints_follow_the_clock(array, tmp_path, monkeypatch):
    monkeypatch.setattr("innerloop.training.loop.SAVE_AFTER", 0.0)
    changes = settings(array, val_every=12)
    whole = innerloop.train(out=tmp_path / "whole", **changes).folder
    folder = innerloop.train(out=tmp_path / "s", report=StopAt(6), **changes).folder
    assert [path.name[10:16] for path in checkpoints(folder)] == ["000007", "000006", "000005"]
    innerloop.resume(folder)
    assert_same_runs(whole, folder)


def test_a_folder_that_another_process_works_in_is_refused(array, tmp_path):
    pytest.importorskip("fcntl")
    folder = innerloop.train(out=tmp_path / "s", report=StopAt(5), **settings(array)).folder
    with held(folder), pytest.raises(UserError, match="another process is working in"):
        innerloop.resume(folder)
    assert not innerloop.resume(folder).interrupted


def test_what_a_killed_process_left_half_written_is_removed(array, tmp_path):
    folder = innerloop.train(out=tmp_path / "s", report=StopAt(5), **settings(array)).folder
    left = [folder / ".model.safetensors.0123456789abcdef"]
    left += [folder / "checkpoints" / ".iteration-000008.safetensors.0123456789abcdef"]
    for path in (*left, folder / ".my.notes"):
        path.write_bytes(b"half")
    innerloop.resume(folder)
    assert not any(path.exists() for path in left)
    assert (folder / ".my.notes").exists()


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
    """As on a GPU; nothing else may depend on when they are asked for."""
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


def test_a_precision_that_there_is_on_a_gpu_alone(array, tmp_path):
    with pytest.raises(UserError, match="precision tf32 needs device cuda"):
        innerloop.train(out=tmp_path / "run", **settings(array, precision="tf32"))
    assert not (tmp_path / "run").exists()


def test_load_gives_back_what_was_learnt(array, tmp_path):
    run = innerloop.train(out=tmp_path / "run", **settings(array))
    for path in (run.folder, run.folder / "model.safetensors"):
        loaded = innerloop.load(path)
        assert all(torch.equal(run.params[n], loaded.params[n]) for n in run.params)
        named = dict(loaded.model.named_parameters())
        assert all(torch.equal(named[n], loaded.params[n]) for n in loaded.params)
        assert loaded.config.n_way == 3
        x = torch.rand(6, *loaded.input_shape)
        fast = loaded.algorithm.adapt(loaded.params, x, torch.arange(6) % 3)
        assert loaded.algorithm.query_outputs(fast, x, x).shape == (6, 3)


@pytest.mark.parametrize("damage", ["empty", "foreign", "cut"])
def test_load_refuses_other_files(damage, array, tmp_path):
    path = tmp_path / "model.safetensors"
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "foreign":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(2)}, path)
    else:
        run = innerloop.train(out=tmp_path / "run", **settings(array, iterations=1))
        path.write_bytes((run.folder / "model.safetensors").read_bytes()[:500])
    with pytest.raises(UserError, match=r"model\.safetensors"):
        innerloop.load(path)


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


def test_resume_with_other_data_is_refused(array, tmp_path):
    path = tmp_path / "mine.npy"
    images = np.load(array)
    np.save(path, images)
    stopped = innerloop.train(out=tmp_path / "s", report=StopAt(5), **settings(path)).folder
    np.save(path, images[:-8])
    with pytest.raises(UserError, match="no longer has the training classes"):
        innerloop.resume(stopped)


def test_a_folder_called_like_a_data_set_does_not_replace_it(tmp_path, monkeypatch):
    from innerloop.build import absolute_paths

    monkeypatch.chdir(tmp_path)
    for name in ("glyphs", "pets"):
        (tmp_path / name).mkdir()
    assert absolute_paths(TrainConfig(data="glyphs")).data == "glyphs"
    assert absolute_paths(TrainConfig(data="pets")).data == str(tmp_path / "pets")


def test_default_folders_are_taken_at_once(tmp_path, monkeypatch):
    from innerloop.runs.folder import new_folder

    monkeypatch.chdir(tmp_path)
    names = [new_folder(None, TrainConfig()).name for _ in range(3)]
    assert names == [f"glyphs-maml-5way1shot-00{i}" for i in (1, 2, 3)]
    assert (
        new_folder(None, TrainConfig.recipe("maml", "sinusoid")).name == "sinusoid-maml-10shot-001"
    )
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a file has that name"):
        new_folder("file", TrainConfig())


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_run_cannot_be_used_on_a_device_that_is_not_there(array, tmp_path):
    innerloop.train(out=tmp_path / "run", **settings(array, iterations=1))
    with pytest.raises(UserError, match="device 'cuda' cannot be used here"):
        load_for(tmp_path / "run", device="cuda")
    with pytest.raises(UserError, match="device 'gpu' cannot be used here"):
        innerloop.train(out=tmp_path / "other", **settings(array, device="gpu"))


def test_weights_trained_in_another_precision_can_be_trained_on(array, tmp_path):
    run = innerloop.train(out=tmp_path / "run", **settings(array, iterations=1))
    tensors, metadata = read_tensors(run.folder / "model.safetensors")
    metadata["config"] |= {"device": "cuda", "precision": "tf32"}
    write_tensors(run.folder / "model.safetensors", tensors, metadata)
    config = innerloop.load(run.folder).config
    assert (config.device, config.precision) == ("cpu", "float32")
