"""Symbols from elsewhere: the tasks, the contestants, and the tables of results."""

from __future__ import annotations

import json

import numpy as np
import pytest
from benchmarks import elsewhere, mixed_symbols, pretrained
from tools import symbol_tables

import innerloop
from innerloop import FewShotClassifier, UserError


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Glyphs, 25 classes of 12 drawings; and six of them, dark on light and light on dark."""
    data = innerloop.data.glyphs(300)
    rows = innerloop.data.split_classes(data)["test"][:25]
    x = np.concatenate([data.class_images(c)[:12, 0] for c in rows])
    y = np.repeat(np.arange(25), 12)
    path = tmp_path_factory.mktemp("symbols") / "symbols.npz"
    few = y < 6
    np.savez(path, many_x=x, many_y=y, hanzi_x=255 - x[few], hanzi_y=y[few])
    return path


@pytest.fixture(scope="module")
def sets(file):
    return {symbols.name: symbols for symbols in elsewhere.read(file)}


@pytest.mark.parametrize("shots", [1, 5])
def test_a_task_is_a_function_of_its_number_and_shares_no_hand(sets, shots):
    symbols = sets["many"]
    task, again, other = (elsewhere.draw(symbols, shots, i) for i in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(task, again, strict=True))
    assert not np.array_equal(task.support, other.support)
    assert len(task.support) == 20 * shots
    assert len(task.query) == 20 * elsewhere.QUERIES
    assert not set(task.support % 12) & set(task.query % 12)
    for rows, labels in ((task.support, task.support_y), (task.query, task.query_y)):
        classes = symbols.labels[rows]
        assert len({*zip(classes.tolist(), labels.tolist(), strict=True)}) == 20
        assert len(set(rows.tolist())) == len(rows)


def test_without_known_hands_pictures_are_different_ones(sets):
    task = elsewhere.draw(sets["hanzi"], 5, 0)
    assert len(set(task.support_y.tolist())) == 6
    assert not set(task.support.tolist()) & set(task.query.tolist())


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("name", ["many", "hanzi"])
def test_weights_answer_as_the_classifier_does(file, sets, name, shots):
    weights = "omniglot-protonet" if name == "many" else "glyphs-conv4"
    symbols, task = sets[name], elsewhere.draw(sets[name], shots, 0)
    with np.load(file) as held:
        pictures = held[f"{name}_x"]
    answers = elsewhere.network(weights)(symbols, task)
    for way, mine in answers.items():
        turned = way == "turns"
        settings = {"prepare": "auto", "views": "turns"} if turned else {"prepare": way}
        classifier = FewShotClassifier(weights, **settings)
        classifier.fit(pictures[task.support], task.support_y)
        assert np.array_equal(classifier.predict(pictures[task.query]), mine)


def test_the_nearest_picture_is_that_of_the_least_distance(sets):
    symbols, task = sets["many"], elsewhere.draw(sets["many"], 1, 0)
    answers = elsewhere.nearest(elsewhere.pixels)(symbols, task)
    x = symbols.seen["none"].reshape(len(symbols.labels), -1).astype(float)
    for query, told in zip(task.query, answers["none"], strict=True):
        distances = [np.linalg.norm(x[query] - x[row]) for row in task.support]
        assert told == task.support_y[int(np.argmin(distances))]


def test_what_is_measured_adds_to_the_file_and_makes_tables(file, tmp_path, monkeypatch, capsys):
    out = tmp_path / "elsewhere.json"
    words = ["elsewhere", "--symbols", str(file), "--tasks", "2", "--out", str(out)]
    for name in ("omniglot-protonet", "glyphs-conv4"):
        monkeypatch.setattr("sys.argv", [*words, "--weights", name])
        elsewhere.main()
    report = json.loads(out.read_text())
    found = report["sets"]["many"]["5"]
    assert found.keys() == {"omniglot-protonet", "glyphs-conv4", "pixels", "hog"}
    assert found["glyphs-conv4"].keys() == {"none", "ink", "auto", "turns"}
    assert found["hog"].keys() == {"none", "ink"}
    assert 0.5 < found["glyphs-conv4"]["auto"]["accuracy"] <= 1
    monkeypatch.setattr(symbol_tables, "read", lambda name: report)
    monkeypatch.setattr(symbol_tables, "ON_PAGE", ("glyphs-conv4", "omniglot-protonet"))
    for language in ("en", "zh"):
        words = symbol_tables.WORDS[language]
        monkeypatch.setitem(words["sets"], "many", "many")
        made = symbol_tables.tables(language)
        assert made["elsewhere_of_omniglot_conv4"](None) == "not measured\n"
        for name in ("elsewhere_1", "elsewhere_5"):
            head, _, first, second, mean, *_ = made[name](None).splitlines()
            assert {row.count("|") for row in (head, first, second, mean)} == {7}
    assert symbol_tables.of_weights("glyphs-conv4").count("\n| many |") == 1
    # Weights that were measured before there were turns have no such figure.
    for of in report["sets"].values():
        for of_shots in of.values():
            del of_shots["omniglot-protonet"]["turns"]
    for language in ("en", "zh"):
        _, _, first, *_ = symbol_tables.tables(language)["elsewhere_1"](None).splitlines()
        assert [cell.count(" / ") for cell in first.split("|")[5:7]] == [2, 1]


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match=r"names an \.npz"):
        next(elsewhere.read(tmp_path / "none.npz"))


def test_characters_are_composed_of_others_drawing_by_drawing():
    bar, dot = np.full((2, 1, 28, 28), 255, np.uint8), np.full((2, 1, 28, 28), 255, np.uint8)
    bar[:, 0, 4:24, 13:15] = 0
    dot[0, 0, 10:20, 10:20] = 0
    dot[1, 0, 5:25, 5:25] = 0
    both = mixed_symbols.composed([bar, dot], mixed_symbols.LAYOUTS[0])
    assert both.shape == (2, 1, 28, 28)
    assert both.dtype == np.uint8
    # The bar is on the left, the dot fills the right, and the space between is empty.
    assert (both[:, 0, :, 13:15] == 255).all()
    assert (both[:, 0, 3:25, 17:26] < 50).all()
    assert (both[:, 0, 3:25, :13].min(axis=2) < 128).all()


def test_the_recipe_of_symbols_from_anywhere_is_one_of_train():
    config = innerloop.TrainConfig.from_dict(pretrained.RECIPES["omniglot-conv4"])
    assert (config.data, config.model) == ("benchmarks.mixed_symbols:data", "conv4")
    assert config.augment == "conditions"
    assert config.any_ways
