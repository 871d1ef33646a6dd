"""The picture of the support pictures and of the answers."""

from __future__ import annotations

import numpy as np

from innerloop.plots import adaptation


def test_a_refused_query_has_no_best_class(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(adaptation, "save", lambda figure, path, _: drawn.append(figure) or path)
    images = np.zeros((2, 1, 8, 8), np.uint8)
    beliefs = np.array([[0.9, 0.1], [0.8, 0.2]])
    adaptation.plot_adaptation(
        tmp_path / "a.png",
        ["x", "y"],
        images,
        ["x", "y"],
        images,
        beliefs,
        ["1.png", "2.png"],
        refused=[False, True],
    )
    _, bottom = drawn[0].subfigs
    bars = bottom.axes[1::2]
    assert [axes.get_title("left") for axes in bars] == ["1.png", "2.png: none of these"]
    weights = [[text.get_fontweight() for text in axes.texts] for axes in bars]
    assert weights == [["bold", "normal"], ["normal", "normal"]]


def drawn_of(counts, queries, monkeypatch, tmp_path, language="en"):
    """The figure of so many support pictures in each class, and so many queries."""
    drawn = []
    monkeypatch.setattr(adaptation, "save", lambda figure, path, _: drawn.append(figure) or path)
    classes = [f"c{i}" for i in range(len(counts))]
    names = [name for name, count in zip(classes, counts, strict=True) for _ in range(count)]
    support, asked = (np.zeros((n, 1, 4, 4), np.uint8) for n in (len(names), queries))
    beliefs = np.random.default_rng(0).dirichlet(np.ones(len(classes)), queries)
    titles = [f"{i}.png" for i in range(queries)]
    adaptation.plot_adaptation(
        tmp_path / "a.png", classes, support, names, asked, beliefs, titles, language=language
    )
    return drawn[0], beliefs


def test_a_class_of_many_pictures_takes_several_lines_and_says_how_many(monkeypatch, tmp_path):
    figure, beliefs = drawn_of([1, 40, 20, *[3] * 9], 24, monkeypatch, tmp_path)
    width, height = figure.get_size_inches()
    assert width <= 11
    assert height < 40
    top, bottom = figure.subfigs
    rows = np.reshape(top.axes, (-1, 10))
    labels = [row[0].get_ylabel() for row in rows]
    assert labels[:5] == ["c0", "c1\nthe first 20 of 40", "", "c2", ""]
    assert [sum(len(axes.images) for axes in row) for row in rows[:6]] == [1, 10, 10, 10, 10, 3]
    heading = bottom.get_suptitle()
    assert heading == "queries (the first 20 of 24), with the 8 most probable of 12 classes"
    answers = bottom.axes[1::2]
    assert [axes.get_title("left") for axes in answers] == [f"{i}.png" for i in range(20)]
    for axes, row in zip(answers, beliefs, strict=False):
        named = [text.get_text() for text in axes.get_yticklabels()]
        assert named == [f"c{i}" for i in sorted(np.argsort(-row)[:8])]
        (best,) = [
            n for n, t in zip(named, axes.texts, strict=True) if t.get_fontweight() == "bold"
        ]
        assert best == f"c{row.argmax()}"


def test_an_odd_number_of_queries_leaves_a_place_empty(monkeypatch, tmp_path):
    figure, _ = drawn_of([1, 25], 7, monkeypatch, tmp_path, "zh")
    top, bottom = figure.subfigs
    assert top.axes[10].get_ylabel() == "c1\n共 25 张，显示前 20 张"
    assert bottom.get_suptitle() == "查询图片"
    assert [axes.axison for axes in bottom.axes] == [True] * 14 + [False] * 2
