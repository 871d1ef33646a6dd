"""Training runs: the files they write, exact resuming, clean failure."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import innerloop
from innerloop import TrainConfig, UserError
from innerloop.algorithms import ALGORITHMS
from innerloop.data.base import ImageClasses
from innerloop.files import held
from innerloop.runs.loading import load_for
from tests.small_runs import StopAt, assert_same_runs, settings


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
    assert TrainConfig.from_dict(config).to_parts() == config
    results = json.loads((run.folder / "results.json").read_text())
    assert results["accuracy"] == run.results["accuracy"] > 0.8
    assert results["accuracy_per_step"][0] == pytest.approx(1 / 3, abs=0.1)
    assert len(results["accuracy_per_step"]) == config["run"]["eval_inner_steps"] + 1
    assert len(results["accuracies"]) == results["protocol"]["tasks"] == 20
    lines = [json.loads(x) for x in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [x["iteration"] for x in lines] == list(range(4, 41, 4))


def test_from_python_with_a_data_set_object(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 1, 16, 16), dtype=np.uint8)
    data = ImageClasses.from_square(images, name="noise")
    run = innerloop.train(out=tmp_path / "r", **settings("x", iterations=2) | {"data": data})
    assert run.results["protocol"]["data"] == "noise"


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


def test_same_seed_same_run_other_seed_other_run(array, tmp_path):
    runs = [
        innerloop.train(out=tmp_path / name, **settings(array, seed=seed, chunk_size=chunk))
        for name, seed, chunk in (("a", 0, None), ("b", 0, None), ("c", 1, None))
    ]
    assert_same_runs(runs[0].folder, runs[1].folder)
    a, c = (run.params["convs.0.weight"] for run in (runs[0], runs[2]))
    assert not torch.equal(a, c)


def test_resume_of_what_is_no_run(tmp_path):
    with pytest.raises(UserError, match="not a run folder"):
        innerloop.resume(tmp_path)
    with pytest.raises(UserError, match="neither a run folder"):
        innerloop.load(tmp_path)


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


def test_a_precision_that_there_is_on_a_gpu_alone(array, tmp_path):
    with pytest.raises(UserError, match="precision tf32 needs device cuda"):
        innerloop.train(out=tmp_path / "run", **settings(array, precision="tf32"))
    assert not (tmp_path / "run").exists()


def test_half_precision_on_a_cpu_is_resumed_exactly(halves, array, tmp_path):
    changes = settings(array, algorithm="maml", width=16)
    exact = innerloop.train(out=tmp_path / "exact", **changes)
    whole = innerloop.train(out=tmp_path / "whole", precision="bf16", **changes)
    stopped = innerloop.train(
        out=tmp_path / "stopped", report=StopAt(5), precision="bf16", **changes
    ).folder
    innerloop.resume(stopped)
    assert_same_runs(whole.folder, stopped)
    weights = [innerloop.load(run.folder).params for run in (exact, whole)]
    assert any(not torch.equal(weights[0][name], p) for name, p in weights[1].items())


def test_resume_with_other_data_is_refused(array, tmp_path):
    path = tmp_path / "mine.npy"
    images = np.load(array)
    np.save(path, images)
    stopped = innerloop.train(out=tmp_path / "s", report=StopAt(5), **settings(path)).folder
    np.save(path, images[:-8])
    with pytest.raises(UserError, match="no longer has the training classes"):
        innerloop.resume(stopped)


def test_the_fastest_way_is_measured_once_and_kept(tmp_path, monkeypatch):
    """The measured choice is a setting of the run, and the resumed run has the same."""
    measured = []

    def fastest(algorithm, params, episodes):
        measured.append(episodes.num_tasks)
        return "loop"

    monkeypatch.setattr("innerloop.training.run.fastest", fastest)
    settings = {"glyph_classes": 300, "width": 16, "iterations": 4, "val_every": 2}
    settings |= {"val_tasks": 4, "test_tasks": 4, "meta_batch_size": 2}
    run = innerloop.train(out=tmp_path / "measured", execution="fastest", **settings)
    assert measured == [2]
    assert run.algorithm.execution == "loop"
    kept = yaml.safe_load((run.folder / "config.yaml").read_text("utf-8"))
    assert kept["run"]["execution"] == "loop"
    asked = innerloop.train(out=tmp_path / "asked", execution="loop", **settings)
    assert all(torch.equal(p, run.params[n]) for n, p in asked.params.items())
    (run.folder / "results.json").unlink()
    again = innerloop.resume(run.folder)
    assert measured == [2]
    assert again.algorithm.execution == "loop"


@pytest.mark.parametrize("out", [".", "a"])
def test_a_run_has_no_folder_among_the_pictures(out, tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "a" / "1.png")
    with pytest.raises(UserError, match="choose a new folder for the run"):
        innerloop.train(data=str(tmp_path), out=tmp_path / out)
    assert len(list(tmp_path.rglob("*"))) == 2
