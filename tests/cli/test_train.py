"""Which settings `innerloop train` shows and takes for an algorithm."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import innerloop
from innerloop import TrainConfig, registry
from innerloop.cli import main
from innerloop.config import PARTS
from tests.small_runs import StopAt, assert_same_runs
from tests.training import own

NAMES = {field.name for field in dataclasses.fields(TrainConfig)}


def shown(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(["train", *words, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    options = {word.strip("│ ,|") for word in text.replace("|", " ").split()}
    return {n for n in NAMES if options & {f"--{n}".replace("_", "-")}}


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize("name", registry.OURS)
def test_help_shows_the_settings_of_the_algorithm_alone(name, capsys):
    assert shown(capsys, "--algorithm", name) == NAMES - registry.not_of(name)
    assert shown(capsys, f"--algorithm={name}") == NAMES - registry.not_of(name)


def test_help_without_an_algorithm_shows_all(capsys):
    assert shown(capsys) == NAMES


def test_help_for_an_algorithm_of_a_users_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(own.__file__, "mine.py")
    with open("mine.py", "a", encoding="utf-8") as file:
        file.write("\n\nclass Solved(innerloop.IMAML):\n    pass\n")
    assert shown(capsys, "--algorithm", "mine.py:Damped") == NAMES - registry.not_of("maml")
    assert shown(capsys, "--algorithm", "mine.py:Solved") == NAMES - registry.not_of("imaml")
    name = f"{own.__name__}:Damped"
    assert shown(capsys, "--algorithm", name) == NAMES - registry.not_of("maml")


def test_help_of_our_algorithms_does_not_wait_for_pytorch():
    code = (
        "import sys, innerloop.cli\n"
        "try:\n    innerloop.cli.main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    words = [sys.executable, "-c", code, "train", "--algorithm", "imaml", "--help"]
    result = subprocess.run(words, capture_output=True, text=True, env=dict(os.environ))
    assert result.returncode == 0, result.stderr
    assert "--cg-steps" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cg-steps", "5"], "algorithm maml has no cg_steps: leave out --cg-steps"),
        (["--cg_steps=5"], "algorithm maml has no cg_steps"),
        (["--no-learn-inner-lr"], "algorithm maml has no learn_inner_lr"),
        (["--algorithm", "protonet", "--inner-lr", "1"], "algorithm protonet has no inner_lr"),
        (["--algorithm", f"{own.__name__}:Damped", "--cg-steps", "2"], "has no cg_steps"),
    ],
)
def test_an_option_that_is_not_of_the_algorithm_is_refused(words, message, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", *words, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_network_of_a_users_own_may_take_what_the_algorithm_does_not(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(own.__file__, "mine.py")
    with open("mine.py", "a", encoding="utf-8") as file:
        file.write("\n\ndef deep(n_way, cg_steps):\n    assert cg_steps == 7\n    return Net()\n")
    words = "--model mine.py:deep --data mine.py:load --n-way 3 --iterations 2 --val-every 2"
    words += " --val-tasks 4 --test-tasks 4 --threads 1 --json --out run"
    assert main(["train", *words.split(), "--cg-steps", "7"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert "cg_steps: 7" in Path("run/config.yaml").read_text("utf-8")
    assert main(["train", *words.split(), "--out", "other", "--regularization", "7"]) == 2
    assert "has no regularization" in capsys.readouterr().err


def test_a_file_of_settings_may_hold_those_of_other_algorithms(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("all.yaml").write_text("algorithm:\n  algorithm: reptile\n  cg_steps: 3\n")
    words = "--config all.yaml --algorithm protonet --glyph-classes 200 --iterations 2 --width 8"
    words += " --val-every 2 --val-tasks 4 --test-tasks 4 --threads 1 --json --out run"
    assert main(["train", *words.split()]) == 0


def test_help_has_a_group_for_each_part(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")  # narrow, so that groups are not printed side by side
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    titles = [f"{part.replace('_', '-')} options" for part in PARTS]
    places = [text.index(title) for title in titles]
    assert places == sorted(places)
    assert "PATTERN=RATE" in text


@pytest.mark.parametrize("last", ["--help", "--print-config"])
def test_a_wrong_algorithm_is_named_by_whatever_prints(capsys, last):
    assert main(["train", "--algorithm", "mamll", last]) == 2
    assert "algorithm must be one of maml, " in capsys.readouterr().err


def test_print_config_refuses_what_training_refuses(capsys):
    assert main(["train", "--algorithm", "protonet", "--inner-lr", "0.3", "--print-config"]) == 2
    assert "protonet has no inner_lr" in capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_print_config_prints_a_config_file_by_part(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", "--algorithm", "anil", "--inner-lr", "head.*=0.4,*=0.01", "--print-config"]
    assert main(words) == 0
    Path("new.yaml").write_text(capsys.readouterr().out, "utf-8")
    expected = TrainConfig.recipe("anil")
    rates = {"head.*": 0.4, "*": 0.01}
    assert TrainConfig.from_file("new.yaml") == dataclasses.replace(expected, inner_lr=rates)
    # The change that the note about a file without parts recommends.
    Path("old.yaml").write_text("algorithm: anil\ninner_lr: 'head.*=0.4,*=0.01'\n")
    assert main(["train", "--config", "old.yaml", "--print-config"]) == 0
    said = capsys.readouterr()
    assert said.out == Path("new.yaml").read_text("utf-8")
    assert said.err.count("warning: old.yaml has its settings in one list") == 1
    assert not Path("runs").exists()


SMALL = """--data sinusoid --width 8 --iterations 4 --val-every 2 --val-tasks 4 --test-tasks 6
--threads 1 --json""".split()


def test_rates_by_pattern_are_recorded_and_resumed_exactly(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", *SMALL, "--inner-lr", "head.*=0.02,*=0.005"]
    assert main([*words, "--out", "run"]) == 0
    losses = json.loads(capsys.readouterr().out)["losses"]
    rates = {"head.*": 0.02, "*": 0.005}
    config = TrainConfig.from_file("run/config.yaml")
    assert list(config.inner_lr.items()) == list(rates.items())
    assert innerloop.load("run").algorithm.inner_lr == rates
    assert main(["evaluate", "run", "--tasks", "6", "--json", "--per-task"]) == 0
    assert json.loads(capsys.readouterr().out)["losses"] == losses
    settings = {"data": "sinusoid", "width": 8, "iterations": 4, "val_every": 2}
    settings |= {"val_tasks": 4, "test_tasks": 6, "threads": 1, "inner_lr": rates}
    whole = innerloop.train(out="python", **settings)
    assert whole.results["losses"] == losses
    innerloop.train(out="stopped", report=StopAt(3), **settings)
    innerloop.resume("stopped")
    assert_same_runs(Path("run"), Path("stopped"))
    # One rate for all parameters makes it a different run.
    assert main(["train", *SMALL, "--inner-lr", "0.005", "--out", "other"]) == 0
    assert json.loads(capsys.readouterr().out)["losses"] != losses


def test_a_pattern_that_matches_nothing_names_the_parameters(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *SMALL, "--inner-lr", "haed.*=0.02,*=0.005", "--out", "run"]) == 2
    assert "'haed.*' matches none of the trainable parameters" in capsys.readouterr().err
    assert main(["train", *SMALL, "--inner-lr", "head.*=0.02", "--out", "run"]) == 2
    assert "inner_lr has no rate for" in capsys.readouterr().err
    assert not Path("run").exists()
