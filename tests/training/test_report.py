"""What a run shows on a terminal and elsewhere."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest

import innerloop
from innerloop.data.base import ImageClasses
from innerloop.training import report as reports
from innerloop.training.report import TerminalReport, format_result, format_table
from tests.small_runs import SMALL


def shown(tmp_path, *, terminal: bool) -> str:
    images = np.random.default_rng(0).integers(0, 255, (30, 8, 1, 16, 16), dtype=np.uint8)
    text = io.StringIO()
    report = TerminalReport(text, live=terminal)
    innerloop.train(
        data=ImageClasses.from_square(images, name="noise"),
        out=tmp_path / "a [run]",
        report=report,
        **SMALL,
    )
    return text.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_run_shows_progress_validation_and_what_to_do_next(tmp_path, terminal):
    text = shown(tmp_path, terminal=terminal)
    for words in ("meta-training maml on noise, 3-way 1-shot", "iteration      2", "validation 0."):
        assert words in text
    assert f"innerloop evaluate '{tmp_path / 'a [run]'}'" in text, (
        "paths are neither broken nor read"
    )
    assert ("it/s" in text) is terminal
    assert ("\x1b[" in text) is terminal


def test_a_long_wait_without_a_terminal_is_not_silent(monkeypatch):
    """A clock that jumps by 7 s at each look, so that a few iterations take minutes."""
    clock = iter(range(0, 10_000_000, 7))
    now = SimpleNamespace(monotonic=lambda: float(next(clock)))
    monkeypatch.setattr(reports, "time", now)
    text = io.StringIO()
    report = TerminalReport(text, live=False)
    with report.training(None):
        for iteration in range(1, 31):
            report.step(iteration, 1.25, iteration / 100)
    lines = text.getvalue().splitlines()
    assert 3 <= len(lines) <= 5
    assert lines[0].split() == "iteration 2 loss 1.250 2% done, about 11 min left".split()
    with report.testing(600) as told:
        for done in range(1, 601):
            told(done)
    *_, last = text.getvalue().splitlines()
    assert "of 600 tasks" in last
    assert last.endswith(" s left")


def test_a_run_that_reports_soon_has_no_other_lines(tmp_path):
    text = shown(tmp_path, terminal=False)
    assert "done" not in text


def test_result_for_people():
    result = {
        "metric": "accuracy",
        "accuracy": 0.97311,
        "ci95": 0.0028,
        "accuracy_per_step": [0.2, 0.97311],
        "loss_per_step": [1.609, 0.1],
        "bn": "support",
        "protocol": {
            "n_way": 5,
            "k_shot": 1,
            "tasks": 600,
            "classes": 423,
            "part": "test",
            "data": "omniglot",
        },
    }
    text = format_result(result)
    assert "97.31 ± 0.28 %" in text
    assert "600 tasks of 423 test classes of omniglot" in text
    assert text.splitlines()[-1].split() == ["1", "97.31%", "0.100"]
    # Of few classes there can be tasks of many ways.
    turned = result | {"protocol": result["protocol"] | {"rotated_classes": True}}
    assert "423 test classes of omniglot in all four turns, 95%" in format_result(turned)
    assert "423 (test, in four turns)" in format_table([turned, result])
