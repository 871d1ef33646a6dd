"""Checkpoints: how many are kept, and what happens when one is damaged."""

from __future__ import annotations

import pytest
import torch

import innerloop
from innerloop import UserError
from innerloop.runs.checkpoint import read_tensors, write_tensors
from innerloop.runs.folder import checkpoints
from innerloop.training.report import SilentReport
from tests.small_runs import StopAt, assert_same_runs, settings


class Warnings(SilentReport):
    """Keeps the warnings."""

    def __init__(self):
        self.messages = []

    def warning(self, message):
        self.messages.append(message)


def damage(path, how):
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[:-100])
    elif how == "flipped":  # a single bit in the middle of the weights
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        _, counters = read_tensors(path)
        write_tensors(path, {"best/a": torch.zeros(1)}, counters | {"iteration": "many"})


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(array, tmp_path, how):
    whole = innerloop.train(out=tmp_path / "whole", **settings(array)).folder
    folder = innerloop.train(out=tmp_path / "s", report=StopAt(8), **settings(array)).folder
    assert [path.name for path in checkpoints(folder)] == [
        f"iteration-0000{n}.safetensors" for n in ("09", "08", "04")
    ]
    damage(checkpoints(folder)[0], how)
    report = Warnings()
    innerloop.resume(folder, report=report)
    (message,) = report.messages
    assert "iteration-000009.safetensors" in message
    assert "going on from the one before it" in message
    assert_same_runs(whole, folder)
    # The damaged file is kept.
    assert (folder / "checkpoints" / "iteration-000009.safetensors.damaged").exists()


def test_when_all_checkpoints_are_damaged_nothing_is_begun_anew(array, tmp_path):
    folder = innerloop.train(out=tmp_path / "s", report=StopAt(5), **settings(array)).folder
    for path in checkpoints(folder):
        damage(path, "cut")
    metrics = (folder / "metrics.jsonl").read_bytes()
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(UserError, match=r"every checkpoint in .* is damaged"),
    ):
        innerloop.resume(folder)
    assert (folder / "metrics.jsonl").read_bytes() == metrics


def test_the_last_few_checkpoints_are_kept_until_the_run_has_ended(array, tmp_path):
    changes = settings(array, iterations=24)
    folder = innerloop.train(out=tmp_path / "s", report=StopAt(17), **changes).folder
    assert [path.name[10:16] for path in checkpoints(folder)] == ["000018", "000016", "000012"]
    innerloop.resume(folder)
    assert [path.name[10:16] for path in checkpoints(folder)] == ["000024"]
