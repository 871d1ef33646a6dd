"""Lake's one-shot challenge, run on a network, in Python and by the command."""

from __future__ import annotations

import json

import numpy as np
import pytest
from benchmarks import background, lake
from tools import lake_tables

from innerloop import EpisodeSampler, FewShotClassifier, UserError
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


def test_probabilities_of_several_networks_are_averaged(runs):
    networks = [load(MODEL), load("glyphs-conv4")]
    result = lake_challenge(networks, runs)
    assert result["protocol"]["networks"] == 2
    assert result["protocol"]["inner_steps"] == 1, "of ProtoNet none, of MAML one"
    alone = lake_challenge(networks[:1], runs)
    assert alone == lake_challenge(networks[0], runs)
    assert alone["protocol"]["networks"] == 1
    for run, error in zip(runs, result["errors"].values(), strict=True):
        of_each = [
            FewShotClassifier(n, prepare="none")
            .fit(run.support, np.arange(20))
            .predict_proba(run.query)
            for n in networks
        ]
        assert error == pytest.approx((np.mean(of_each, 0).argmax(1) != run.answers).mean())
    with pytest.raises(UserError, match="at least one network"):
        lake_challenge([], runs)


def test_drawings_are_seen_in_all_turns_if_asked(runs, omniglot_by_default, capsys):
    loaded = load("glyphs-conv4")
    result = lake_challenge(loaded, runs, views="turns")
    assert result["protocol"]["views"] == "turns"
    assert "in all quarter turns" in format_challenge(result)
    classifier = FewShotClassifier(loaded, prepare="none", views="turns")
    for run, error in zip(runs, result["errors"].values(), strict=True):
        told = classifier.fit(run.support, np.arange(20)).predict(run.query)
        assert error == pytest.approx((told != run.answers).mean())
    whole = lake_challenge(loaded, runs)
    assert whole["protocol"]["views"] == "whole"
    assert "turns" not in format_challenge(whole)
    words = ["--lake", "--tasks", "3", "--part", "val", "--views", "turns", "--json"]
    assert main(["evaluate", "glyphs-conv4", *words]) == 0
    assert json.loads(capsys.readouterr().out)["protocol"]["views"] == "turns"


def test_training_on_evaluation_alphabets_is_said(runs, omniglot_data):
    parts = split_classes(omniglot_data, "lake2015")
    names = {part: [omniglot_data.names[c] for c in parts[part]] for part in parts}
    assert seen(names["train"] + names["val"]) == 0
    assert seen(names["test"]) == 659
    result = lake_challenge(load("omniglot-conv4"), runs)
    assert result["seen"] == 136
    assert lake_challenge([load("omniglot-conv4")] * 2, runs)["seen"] == 136
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


def test_what_the_background_recipe_learns_from(monkeypatch, omniglot_by_default, omniglot_data):
    for name, value in {"GLYPHS": 60, "BY_ALPHABET": 40, "EACH": 20}.items():
        monkeypatch.setattr(background, name, value)
    monkeypatch.setattr(background, "DRAWN", {"omniglot": 2, "glyphs": 2})
    data = background.small1(None)
    parts = data.splits["background"]
    classes = {part: [data.names[c] for c in parts[part]] for part in parts}
    assert seen(classes["train"] + classes["val"]) == 0
    assert seen(classes["test"]) == 659
    # Four alphabets turned four times, glyphs by alphabet, two drawn groups of 20 of each kind.
    assert len(classes["train"]) == 4 * 110 + 40 + 80
    turned = data.names.index("omniglot Greek 1/Greek/character03/turned1")
    plain = omniglot_data.class_images(omniglot_data.names.index("Greek/character03"))
    np.testing.assert_array_equal(data.class_images(turned), np.rot90(plain, axes=(-2, -1)))
    tasks = EpisodeSampler(data, parts["train"], n_way=20, k_query=1, within_group=True)
    kinds = set()
    for start in range(30):
        chosen = tasks.indices(start, 1)[2][0]
        (group,) = {data.groups[parts["train"][c]] for c in chosen}
        kinds.add(" ".join(group.split()[:2]))
    assert {"omniglot Greek", "omniglot drawn", "glyphs drawn"} <= kinds


def test_a_measurement_becomes_a_table(tmp_path, monkeypatch, omniglot_by_default):
    archive = zipped(tmp_path / "all_runs.zip", official())
    out = tmp_path / "lake.json"
    words = ["--source", str(archive), "--weights", "glyphs-conv4", "--drawn", "2"]
    monkeypatch.setattr("sys.argv", ["lake", *words, "--out", str(out)])
    lake.main()
    first = json.loads(out.read_text("utf-8"))
    assert len(first["weights"]["glyphs-conv4"]["official"]["errors"]) == 20
    assert "all_runs.zip" not in json.dumps(first["weights"])
    # What was measured before is kept.
    out.write_text(
        json.dumps(first | {"weights": {"background": first["weights"]["glyphs-conv4"]}})
    )
    lake.main()
    assert set(json.loads(out.read_text("utf-8"))["weights"]) == {"background", "glyphs-conv4"}
    monkeypatch.setattr("tools.table_parts.RESULTS", tmp_path)
    for language in ("en", "zh"):
        shown = lake_tables.tables(language)["lake"](None)
        assert "| *4.5* |" in shown
        assert shown.count("\n| ") == 2 + len(lake_tables.PUBLISHED)
