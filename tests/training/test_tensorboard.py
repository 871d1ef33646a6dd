"""Numbers for TensorBoard, on small real runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from innerloop import UserError
from innerloop.cli import main
from tests.small_runs import SMALL


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


def test_it_hands_on_all_that_a_report_is_told():
    from innerloop.training.report import Report
    from innerloop.training.tensorboard import TensorBoardReport

    told = {name for name, value in vars(Report).items() if callable(value) and name[0] != "_"}
    assert told <= vars(TensorBoardReport).keys()
