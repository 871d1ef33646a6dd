"""Runs of version 0.1.0 are read, tested, used and resumed; see their README."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

import innerloop
from innerloop import TrainConfig
from innerloop.runs.checkpoint import read_tensors
from innerloop.runs.listing import find_runs, read_metrics, summary
from innerloop.runs.loading import load_for

FILES = Path(__file__).parents[1] / "data_of_0.1.0"
KINDS = ("maml", "maml++", "reptile", "protonet", "fine-tune", "sinusoid")


def assert_same_results(results, old):
    """As other processors round: a few of the test tasks' 1,500 queries may differ."""
    metric = old["metric"]
    assert results["metric"] == metric
    close = {"abs": 0.005} if metric == "accuracy" else {"rel": 1e-3}
    assert results[metric] == pytest.approx(old[metric], **close)
    # Before the first step a shared head gives all classes the same logit, up to rounding.
    steps = slice(len(old[f"{metric}_per_step"]) > 1, None)
    ours, theirs = (r[f"{metric}_per_step"][steps] for r in (results, old))
    assert ours == pytest.approx(theirs, **close)
    assert results["protocol"].items() >= old["protocol"].items()


def old_results(kind):
    return json.loads((FILES / kind / "finished" / "results.json").read_text("utf-8"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_run_tests_as_it_did(kind):
    loaded, sampler = load_for(FILES / kind / "finished")
    old = old_results(kind)
    assert loaded.config.algorithm == old["algorithm"]
    results = innerloop.evaluate(
        loaded.algorithm,
        loaded.params,
        sampler,
        tasks=old["protocol"]["tasks"],
        inner_steps=loaded.config.eval_inner_steps,
    )
    assert_same_results(results, old)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_goes_on_to_the_same_results(kind, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(FILES / kind / "interrupted", folder)
    run = innerloop.resume(folder)
    assert not run.interrupted
    old = old_results(kind)
    assert_same_results(run.results, old)
    for name in ("iterations", "best_iteration", "seed", "parameters"):
        assert run.results[name] == old[name]
    whole = read_metrics(FILES / kind / "finished")
    for line, old_line in zip(read_metrics(folder), whole, strict=True):
        assert line["iteration"] == old_line["iteration"]
        assert line["loss"] == pytest.approx(old_line["loss"], rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weights_file_by_itself(kind, tmp_path):
    file = tmp_path / "weights.safetensors"
    shutil.copy(FILES / kind / "finished" / "model.safetensors", file)
    loaded = innerloop.load(file)
    assert sum(p.numel() for p in loaded.params.values()) == old_results(kind)["parameters"]
    assert loaded.data_name == ("sinusoid" if kind == "sinusoid" else "glyphs")


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_says_what_it_said(kind):
    file = FILES / kind / "finished" / "config.yaml"
    with pytest.warns(UserWarning, match="settings in one list, as in version 0.1.0"):
        config = TrainConfig.from_file(file)
    assert not config.unit_length
    assert config.to_dict().items() >= yaml.safe_load(file.read_text("utf-8")).items()


def test_a_config_made_by_hand_is_trained(tmp_path):
    with pytest.warns(UserWarning, match="innerloop train --config .* --print-config"):
        config = TrainConfig.from_file(FILES / "made-by-hand.yaml")
    assert (config.algorithm, config.inner_lr, config.inner_steps) == ("anil", 0.05, 2)
    assert config.unit_length
    run = innerloop.train(config, out=tmp_path / "run")
    assert run.results["iterations"] == 3


def test_the_listing_shows_them():
    found = {str(run.relative_to(FILES)): summary(run) for run in find_runs(FILES)}
    assert set(found) == {
        f"{kind}/{state}" for kind in KINDS for state in ("finished", "interrupted")
    }
    for kind in KINDS:
        old = old_results(kind)
        assert found[f"{kind}/finished"]["value"] == old[old["metric"]]
        assert found[f"{kind}/finished"]["state"] == "finished"
        assert found[f"{kind}/interrupted"]["state"] == "stopped"
        assert found[f"{kind}/interrupted"]["iterations"] == 7  # what its checkpoint has


def texts(value):
    """All texts in a value of JSON or YAML."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        return [text for part in value for text in texts(part)]
    return [value] if isinstance(value, str) else []


def test_they_name_no_place_on_a_machine():
    found = []
    for file in FILES.rglob("*"):
        if file.suffix == ".safetensors":
            found += texts(read_tensors(file)[1])
        elif file.suffix in (".yaml", ".json", ".jsonl"):
            found += file.read_text("utf-8").replace('"', " ").split()
    assert len(found) > 1000
    assert not [text for text in found if Path(text).is_absolute()]
