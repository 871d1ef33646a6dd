"""The sweep prunes by validation, and goes on where it was."""

from __future__ import annotations

import warnings

import pytest
from trials.small import SETTINGS

import innerloop

optuna = pytest.importorskip("optuna")
sweep = pytest.importorskip("examples.sweep")


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield


@pytest.fixture
def config(array):
    few = {"iterations": 6, "val_every": 2, "val_tasks": 8, "test_tasks": 8}
    return innerloop.TrainConfig.from_dict({**SETTINGS, **few, "data": str(array)})


def outcome(study):
    return [(t.number, t.state.name, t.params, t.value) for t in study.trials]


def test_an_interrupted_sweep_ends_like_a_whole_one(config, tmp_path, monkeypatch):
    whole = outcome(sweep.sweep(tmp_path / "whole", config, 4))
    assert len(whole) == 4
    calls = []
    validated = sweep.Pruning.validated

    def lost(self, line):
        calls.append(line)
        if len(calls) in (2, 7):
            raise RuntimeError("the machine is lost")
        validated(self, line)

    monkeypatch.setattr(sweep.Pruning, "validated", lost)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="lost"):
            sweep.sweep(tmp_path / "parts", config, 4)
    study = sweep.sweep(tmp_path / "parts", config, 4)
    assert outcome(study) == whole
    # And nothing is left to do.
    assert outcome(sweep.sweep(tmp_path / "parts", config, 4)) == whole
    assert (tmp_path / f"parts/trial-{study.best_trial.number}/results.json").exists()


def test_what_learns_worse_is_stopped(config, tmp_path, monkeypatch):
    """From the sixth trial on the network cannot learn."""

    def suggest(trial):
        return {"meta_lr": 0.01 if trial.number < 5 else 1e-9, "inner_lr": 0.4, "seed": 1}

    monkeypatch.setattr(sweep, "suggest", suggest)
    longer = innerloop.TrainConfig.from_dict({**config.to_dict(), "iterations": 16, "val_every": 4})
    study = sweep.sweep(tmp_path, longer, 7)
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 5 + ["PRUNED"] * 2
    assert not (tmp_path / "trial-6/results.json").exists()
