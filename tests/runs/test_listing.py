"""`innerloop runs`, `innerloop plot` and TensorBoard, on small real runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import innerloop
from innerloop import UserError
from innerloop.cli import main
from innerloop.files import held
from innerloop.plots.comparison import plot_runs
from innerloop.runs.listing import find_runs, summary

SMALL = {
    "split": "random",
    "n_way": 3,
    "train_n_way": None,
    "eval_k_query": 3,
    "width": 4,
    "iterations": 4,
    "val_every": 2,
    "val_tasks": 4,
    "test_tasks": 6,
    "threads": 1,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two finished runs, one of regression, and one that was stopped."""
    folder = tmp_path_factory.mktemp("experiments")
    images = np.random.default_rng(0).integers(0, 255, (30, 8, 1, 16, 16), dtype=np.uint8)
    np.save(folder / "noise.npy", images)
    data = str(folder / "noise.npy")
    innerloop.train(data=data, out=folder / "one [a]", **SMALL)
    innerloop.train(data=data, algorithm="protonet", out=folder / "deep/two", **SMALL)
    wave = {"iterations": 4, "val_every": 2, "val_tasks": 4, "test_tasks": 6, "threads": 1}
    config = innerloop.TrainConfig.recipe("maml", "sinusoid")
    innerloop.train(config, out=folder / "wave", **wave)
    shutil.copytree(folder / "one [a]", folder / "stopped")
    for name in ("results.json", "model.safetensors", "run.png"):
        (folder / "stopped" / name).unlink()
    return folder


@pytest.fixture
def inside(runs, monkeypatch) -> Path:
    monkeypatch.chdir(runs)
    return runs


def test_all_runs_are_listed_with_their_result(inside, capsys):
    assert main(["runs", "."]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines if "-shot" in line}
    assert list(rows) == ["deep/two", "one", "stopped", "wave"]
    assert "one [a]" in rows["one"]
    results = json.loads((inside / "one [a]/results.json").read_text())
    assert f"{100 * results['accuracy']:.2f} ± {100 * results['ci95']:.2f} %" in rows["one"]
    assert rows["one"].split()[-1] == "test"
    assert "protonet" in rows["deep/two"]
    assert "stopped" in rows["stopped"]
    assert rows["stopped"].split()[-1] == "validation"
    assert "10-shot" in rows["wave"]


def test_as_json_with_the_protocol(inside, capsys):
    assert main(["runs", ".", "--json", "--sort", "value"]) == 0
    rows = json.loads(capsys.readouterr().out)
    accuracies = [row["value"] for row in rows if row["metric"] == "accuracy"]
    assert accuracies == sorted(accuracies, reverse=True)
    finished = next(row for row in rows if row["run"] == "one [a]")
    assert finished["protocol"]["tasks"] == 6
    assert finished["iterations"] == 4


def test_a_run_at_work_is_running(runs):
    assert summary(runs / "stopped")["state"] == "stopped"
    with held(runs / "stopped"):
        assert summary(runs / "stopped")["state"] == "running"
    with (runs / "stopped/metrics.jsonl").open("a") as file:
        file.write('{"iteration": 99')  # not written to its end yet
    assert summary(runs / "stopped")["iterations"] == 4


def test_no_runs_and_no_folder(tmp_path, capsys, monkeypatch):
    assert main(["runs", str(tmp_path)]) == 0
    assert "no runs" in capsys.readouterr().out
    assert main(["runs", str(tmp_path / "none")]) == 2
    assert "is no folder" in capsys.readouterr().err
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert find_runs(tmp_path) == []


@pytest.mark.parametrize("name", ["metrics.jsonl", "results.json"])
@pytest.mark.parametrize("content", ["{\n", "[]\n", '{"a": 1}\n', "[" * 100_000 + "\n"])
def test_damaged_files_are_named(runs, tmp_path, capsys, name, content):
    shutil.copytree(runs / "one [a]", tmp_path / "run")
    (tmp_path / "run" / name).write_text(content)
    for command in (["runs", str(tmp_path)], ["plot", str(tmp_path / "run")]):
        assert main(command) == 2
        assert name in capsys.readouterr().err


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
        (["one [a]", "--out", "x.jpg"], "must end in .png"),
        (["one [a]", "--episodes", "9"], "at most 5"),
        ([], "name the runs"),
    ]:
        assert main(["plot", *words]) == 2
        assert message in capsys.readouterr().err


def test_the_curve_is_that_of_the_metrics(runs, monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(
        "innerloop.plots.comparison.save", lambda figure, path: figures.append(figure)
    )
    plot_runs([runs / "one [a]"], tmp_path / "x.png", episodes=0)
    learning, steps = figures[0].axes
    lines = [json.loads(x) for x in (runs / "one [a]/metrics.jsonl").read_text().splitlines()]
    assert learning.lines[0].get_ydata().tolist() == [line["val_accuracy"] for line in lines]
    results = json.loads((runs / "one [a]/results.json").read_text())
    assert steps.lines[0].get_ydata().tolist() == results["accuracy_per_step"]


def scalars(folder: Path) -> dict[str, list[int]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [e.step for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_has_every_step_once_after_a_kill(runs, tmp_path):
    """Killed in the middle and resumed: steps after the last checkpoint are not doubled."""
    code = f"""
import os, sys
from innerloop.training.report import SilentReport
from innerloop.training.tensorboard import TensorBoardReport
import innerloop
class Kill(SilentReport):
    def step(self, iteration, loss, share):
        if iteration == 5: os._exit(9)
innerloop.train(data={str(runs / "noise.npy")!r}, out="run", report=TensorBoardReport(Kill()),
                **{ ({**SMALL, "iterations": 8})!r})
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    assert killed.returncode == 9
    assert main(["train", "--resume", str(tmp_path / "run"), "--tensorboard"]) == 0
    seen = scalars(tmp_path / "run")
    assert seen["training/query loss"] == list(range(1, 9))
    assert seen["validation/accuracy"] == [2, 4, 6, 8]
    assert seen["test/accuracy against inner steps"] == [0, 1, 2, 3]


def test_a_run_resumed_within_the_second_is_read_last(tmp_path):
    """The files are read by name, which begins with the second: then comes the process number."""
    from innerloop.config import TrainConfig
    from innerloop.training.report import SilentReport
    from innerloop.training.tensorboard import TensorBoardReport

    folder = tmp_path / "tensorboard"
    folder.mkdir()
    earlier = folder / f"events.out.tfevents.{int(time.time()):010d}.zzz.9.0"
    earlier.touch()
    report = TensorBoardReport(SilentReport())
    report.start(TrainConfig(), tmp_path, 4)
    report.writer.close()
    assert max(folder.iterdir()) != earlier


def test_without_tensorboard_the_way_out_is_named(monkeypatch):
    from innerloop.training.report import SilentReport
    from innerloop.training.tensorboard import TensorBoardReport

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"innerloop\[tensorboard\]"):
        TensorBoardReport(SilentReport())
