"""The inner optimiser as a setting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import innerloop
from innerloop import TrainConfig, UserError
from innerloop.build import build_algorithm
from innerloop.cli import main
from innerloop.models import MLP

OWN = """import innerloop


def decayed(inner_weight_decay, width):
    assert width == 8
    return innerloop.inner.SGD(weight_decay=inner_weight_decay)


def plain():
    return innerloop.inner.SGD()


def nothing():
    return 3


number = 4
"""
SMALL = "--data sinusoid --width 8 --iterations 4 --val-every 2 --val-tasks 4 --test-tasks 6"
SMALL += " --threads 1 --inner-steps 2 --json"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(OWN)
    return tmp_path


def made(**settings):
    config = TrainConfig.from_dict({"data": "sinusoid", "width": 8, **settings})
    return build_algorithm(config, MLP(1, 1)).inner_optimizer


def test_settings_make_the_optimiser(folder):
    assert made() is None
    assert repr(made(inner_momentum=0.9)) == repr(innerloop.inner.SGD(0.9))
    assert repr(made(inner_weight_decay=0.1)) == repr(innerloop.inner.SGD(0.0, 0.1))
    adam = made(inner_optimizer="adam", inner_weight_decay=0.1)
    assert repr(adam) == repr(innerloop.inner.Adam(weight_decay=0.1))
    own = made(inner_optimizer="mine.py:decayed", inner_weight_decay=0.5)
    assert repr(own) == repr(innerloop.inner.SGD(0.0, 0.5))
    own = made(inner_optimizer="innerloop.inner:Adam")
    assert repr(own) == repr(innerloop.inner.Adam())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inner_optimizer": "adamw"}, "inner_optimizer must be one of sgd, adam, or MODULE:NAME"),
        ({"inner_momentum": 1.0}, "inner_momentum"),
        ({"inner_weight_decay": -1.0}, "inner_weight_decay must be at least 0"),
        ({"inner_optimizer": "adam", "inner_momentum": 0.5}, "inner_momentum is for"),
        ({"inner_optimizer": "mine.py:plain", "inner_momentum": 0.5}, "has no argument"),
        ({"inner_optimizer": "mine.py:nothing"}, "inner_optimizer must be an object with init"),
        ({"inner_optimizer": "mine.py:number"}, "must be a class or a function, not int"),
        ({"algorithm": "imaml", "inner_weight_decay": 0.1}, "put the decay into the loss"),
    ],
)
def test_what_is_wrong_gets_one_error(settings, message, folder):
    with pytest.raises(UserError, match=message):
        made(**settings)


@pytest.mark.parametrize(
    "words",
    ["--inner-optimizer adam --inner-lr 0.001", "--inner-momentum 0.5", "own"],
)
def test_a_run_is_tested_again_from_its_folder_alone(words, folder, capsys):
    if words == "own":
        words = "--inner-optimizer mine.py:decayed --inner-weight-decay 0.01"
    assert main(["train", *SMALL.split(), *words.split(), "--out", "whole"]) == 0
    whole = json.loads(capsys.readouterr().out)
    recorded = yaml.safe_load(Path("whole/config.yaml").read_text("utf-8"))["algorithm"]
    assert TrainConfig.from_file("whole/config.yaml").inner_optimizer == recorded["inner_optimizer"]
    Path("whole/results.json").unlink()
    assert main(["train", "--resume", "whole", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["loss"] == whole["loss"]
    assert main(["evaluate", "whole", "--tasks", "6", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == whole["loss"]


def test_the_optimiser_changes_the_run(folder, capsys):
    losses = []
    for words in ("", "--inner-momentum 0.5", "--inner-optimizer adam"):
        assert main(["train", *SMALL.split(), *words.split(), "--out", f"run{len(losses)}"]) == 0
        losses.append(json.loads(capsys.readouterr().out)["loss"])
    assert len(set(losses)) == 3


def test_code_in_a_file_of_another_is_not_run(folder, monkeypatch, capsys):
    monkeypatch.setenv("INNERLOOP_HOME", str(folder / "home"))
    Path("theirs.yaml").write_text(
        "tasks: {data: sinusoid}\nalgorithm: {inner_optimizer: mine.py:plain}\n"
    )
    assert main(["train", "--config", "theirs.yaml", "--out", "run"]) == 2
    assert "names code to run" in capsys.readouterr().err
