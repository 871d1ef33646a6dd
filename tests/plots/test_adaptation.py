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
