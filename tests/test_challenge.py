"""Lake's one-shot challenge, run on a network, in Python and by the command."""

from __future__ import annotations

import json

import numpy as np
import pytest

from innerloop import UserError
from innerloop.challenge import format_challenge, lake_challenge, seen
from innerloop.cli import main
from innerloop.data import draw_lake_runs, prepare_lake, split_classes
from innerloop.runs.loading import load
from tests.data.test_lake import official, zipped

MODEL = "omniglot-protonet"


@pytest.fixture(scope="module")
def runs(omniglot_data):
    classes = split_classes(omniglot_data, "lake2015")["val"]
    return draw_lake_runs(omniglot_data, classes, runs=3)


def test_the_error_is_the_share_of_wrong_answers(runs):
    loaded = load(MODEL)
    result = lake_challenge(loaded, runs)
    errors = list(result["errors"].values())
    assert len(errors) == 3
    assert result["error"] == pytest.approx(np.mean(errors))
    assert 0 < result["error"] < 0.4, "far better than chance, which is 0.95"
    # Right answers moved by one place are wrong ones.
    moved = [run._replace(answers=(run.answers + 1) % 20) for run in runs]
    turned = lake_challenge(loaded, moved)
    assert turned["error"] > 0.9
    assert result["ci95"] == pytest.approx(1.96 * np.std(errors, ddof=1) / 3**0.5)


def test_each_query_is_told_by_itself(runs):
    # One query of all twenty, and the same one alone.
    loaded = load("omniglot-conv4")
    result = lake_challenge(loaded, runs)
    alone = []
    for run in runs:
        apart = [
            run._replace(query=run.query[i : i + 1], answers=run.answers[i : i + 1])
            for i in range(20)
        ]
        alone.append(np.mean(list(lake_challenge(loaded, apart)["errors"].values())))
    assert list(result["errors"].values()) == pytest.approx(alone)


def test_training_on_evaluation_alphabets_is_said(runs, omniglot_data):
    parts = split_classes(omniglot_data, "lake2015")
    names = {part: [omniglot_data.names[c] for c in parts[part]] for part in parts}
    assert seen(names["train"] + names["val"]) == 0
    assert seen(names["test"]) == 659
    result = lake_challenge(load("omniglot-conv4"), runs)
    assert result["seen"] == 136
    assert "not a fair entry: 136" in format_challenge(result)
    assert "fair" not in format_challenge(result | {"seen": 0})
    with pytest.raises(UserError, match="at least 2 runs"):
        lake_challenge(load(MODEL), runs[:1])


def test_the_command_runs_official_and_drawn_runs(tmp_path, omniglot_by_default, capsys):
    archive = zipped(tmp_path / "all_runs.zip", official())
    out = tmp_path / "lake"
    assert main(["data", "prepare", "lake", "--source", str(archive), "--out", str(out)]) == 0
    assert "innerloop evaluate MODEL --lake" in capsys.readouterr().out
    found = []
    for place in (archive, out):
        assert main(["evaluate", MODEL, "--lake", str(place), "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    assert found[0]["protocol"]["runs"] == "the official runs"
    assert list(found[0]["errors"]) == [f"run{i:02d}" for i in range(1, 21)]
    words = ["evaluate", MODEL, "--lake", "--tasks", "3", "--seed", "1", "--part", "val"]
    assert main([*words, "--json"]) == 0
    drawn = json.loads(capsys.readouterr().out)
    assert "not the official ones" in drawn["protocol"]["runs"]
    assert drawn["protocol"]["seed"] == 1
    assert len(drawn["errors"]) == 3
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "not the official ones" in said
    assert "all_runs.zip" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lake", "a", "b"], "one PATH, not 2"),
        (["--lake", "--n-way", "5"], "--n-way is not for --lake"),
        (["--lake", "--bn", "transductive"], "--bn is not for --lake"),
        (["--lake", "a", "--seed", "1"], "or leave out a"),
        (["--lake", "none.zip"], "does not exist"),
        (["--lake", "--tasks", "1"], "at least 2"),
    ],
)
def test_what_the_protocol_fixes_cannot_be_changed(words, message, omniglot_by_default, capsys):
    assert main(["evaluate", MODEL, *words]) == 2
    assert message in capsys.readouterr().err


def test_preparing_refuses_what_it_cannot_do(tmp_path, capsys):
    archive = zipped(tmp_path / "all_runs.zip", official())
    assert main(["data", "prepare", "lake", "--source", str(archive), "--image-size", "28"]) == 2
    assert "leave --image-size out" in capsys.readouterr().err
    assert main(["data", "prepare", "lake"]) == 2
    assert "--source" in capsys.readouterr().err
    assert prepare_lake(archive, tmp_path / "out")["images"] == 800
