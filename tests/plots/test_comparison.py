"""`innerloop plot`, on small real runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from PIL import Image

from innerloop.cli import main
from innerloop.plots.comparison import plot_runs


def test_plot_compares_finished_and_stopped_runs(inside, capsys):
    assert main(["plot", "one [a]", "deep/two", "stopped", "--out", "all.png"]) == 0
    assert "all.png" in capsys.readouterr().out
    with Image.open("all.png") as picture:
        with_episodes = picture.height
    assert main(["plot", "one [a]", "deep/two", "--episodes", "0", "--out", "less.png"]) == 0
    with Image.open("less.png") as picture:
        assert picture.height < with_episodes


def test_plot_draws_waves(inside):
    assert main(["plot", "wave", "--out", "wave.png"]) == 0
    assert Path("wave.png").exists()


def test_plot_explains_mistakes(inside, tmp_path, capsys):
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy("stopped/config.yaml", new)
    for words, message in [
        (["wave", "one [a]"], "by loss"),
        (["nowhere"], "there is no folder nowhere"),
        (["one [a]"] * 9, "too many"),
        ([str(new)], "nothing to draw"),
        (["one [a]", "--out", "x.jpg"], "must end in .png or .svg"),
        (["one [a]", "--episodes", "9"], "at most 5"),
        ([], "name the runs"),
    ]:
        assert main(["plot", *words]) == 2
        assert message in capsys.readouterr().err


def test_the_curve_is_that_of_the_metrics(runs, monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(
        "innerloop.plots.comparison.save", lambda figure, path, language: figures.append(figure)
    )
    plot_runs([runs / "one [a]"], tmp_path / "x.png", episodes=0)
    learning, steps = figures[0].axes
    lines = [json.loads(x) for x in (runs / "one [a]/metrics.jsonl").read_text().splitlines()]
    assert learning.lines[0].get_ydata().tolist() == [line["val_accuracy"] for line in lines]
    results = json.loads((runs / "one [a]/results.json").read_text())
    assert steps.lines[0].get_ydata().tolist() == results["accuracy_per_step"]
