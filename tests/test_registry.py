"""Names of users and of packages beside ours."""

from __future__ import annotations

import dataclasses
import sys
from importlib.metadata import EntryPoint

import pytest

import innerloop
from innerloop import TrainConfig, UserError, registry
from innerloop.registry import ALGORITHMS, DATA, MODELS
from tests.training import own

SMALL = {"n_way": 3, "width": 8, "iterations": 2, "val_every": 2, "val_tasks": 4, "test_tasks": 4}


@pytest.fixture(autouse=True)
def _names_of_this_test_alone(monkeypatch):
    for names in (ALGORITHMS, MODELS, DATA):
        monkeypatch.setattr(names, "_found", dict(names._found))
        monkeypatch.setattr(names, "recipes", dict(names.recipes))


def test_what_is_registered_trains_by_name_and_loads(tmp_path):
    innerloop.register_algorithm("damped", own.Damped, recipe={"inner_reduction": "mean"})
    innerloop.register_model("net", own.make)
    innerloop.register_data("series", own.load)
    run = innerloop.train(
        algorithm="damped", model="net", data="series", out=tmp_path / "run", **SMALL
    )
    assert type(run.algorithm) is own.Damped
    assert run.algorithm.inner_reduction == "mean"
    assert type(innerloop.load(run.folder).model) is own.Net


def test_names_are_taken_once():
    innerloop.register_algorithm("damped", own.Damped)
    innerloop.register_algorithm("damped", own.Damped)
    for name in ("damped", "maml"):
        with pytest.raises(UserError, match="taken already"):
            innerloop.register_algorithm(name, innerloop.ANIL)
    with pytest.raises(UserError, match="is not a name"):
        innerloop.register_model("a:b", own.make)
    with pytest.raises(UserError, match="must be a class or a function"):
        innerloop.register_data("numbers", 3)


def test_entry_points_of_packages(monkeypatch):
    point = EntryPoint("damped", f"{own.__name__}:Damped", "innerloop.algorithms")
    broken = EntryPoint("broken", "nowhere_at_all:Broken", "innerloop.algorithms")

    def points(group):
        return [point, broken] if group == point.group else []

    monkeypatch.setattr(registry, "entry_points", points)
    assert TrainConfig(algorithm="damped").algorithm == "damped"
    assert ALGORITHMS.get("damped") is own.Damped
    with pytest.raises(UserError, match="comes from nowhere_at_all:Broken, which cannot be"):
        ALGORITHMS.get("broken")
    with pytest.raises(UserError, match=r"algorithm must be one of maml,.*broken, damped"):
        TrainConfig(algorithm="other")


def test_a_path_or_reference_is_not_looked_for_among_packages(monkeypatch):
    """It takes as long as a small step of training."""

    def points(group):
        raise AssertionError(group)

    monkeypatch.setattr(registry, "entry_points", points)
    for path in ("runs/1", "C:\\pictures", "own.py:data", "of mine", "", 3):
        assert path not in registry.DATA
    assert "omniglot" in registry.DATA


def test_names_are_known_without_pytorch():
    """--help does not wait for it."""
    import subprocess

    code = "import sys, innerloop.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_table_of_settings_is_what_the_signatures_take():
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    assert names >= registry.OF_ALGORITHMS
    # What an inner optimiser takes goes there, not to the algorithm.
    of_all = registry.COMMON | {"loss", "metric"}
    assert registry.TAKEN.keys() == registry.OURS.keys()
    for name, taken in registry.TAKEN.items():
        found = registry.arguments_of(ALGORITHMS.get(name)) & names - {"model"}
        assert found == taken | of_all, name


def test_settings_that_are_not_of_an_algorithm(monkeypatch):
    def bare(model, cg_steps):
        raise NotImplementedError

    innerloop.register_algorithm("damped", own.Damped)
    innerloop.register_algorithm("bare", bare)
    assert registry.not_of("damped") == registry.not_of("maml")
    assert registry.not_of("bare") == registry.OF_ALGORITHMS - {"cg_steps", "eval_inner_steps"}
    assert registry.not_of(f"{own.__name__}:Damped") == registry.not_of("maml")
    monkeypatch.setattr(own, "number", 3, raising=False)
    with pytest.raises(UserError, match="must be a class or a function, not int"):
        registry.not_of(f"{own.__name__}:number")
