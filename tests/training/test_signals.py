"""Signals that ask a run to stop."""

from __future__ import annotations

import signal
import threading

import pytest

import innerloop
from innerloop.training import signals
from tests.small_runs import StopAt, assert_same_runs, settings


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [1, 4, 7])
def test_interrupted_and_resumed_is_the_same_run(array, tmp_path, number, at):
    before = signal.getsignal(signal.SIGINT)
    whole = innerloop.train(out=tmp_path / "whole", **settings(array)).folder
    stopped = innerloop.train(
        out=tmp_path / "stopped", report=StopAt(at, number), **settings(array)
    )
    assert stopped.interrupted
    assert not (stopped.folder / "results.json").exists()
    assert not innerloop.resume(stopped.folder).interrupted
    assert_same_runs(whole, stopped.folder)
    # The process has its own handlers again.
    assert signal.getsignal(signal.SIGINT) is before


def test_training_in_a_thread_leaves_signals_alone(array, tmp_path):
    results = []
    thread = threading.Thread(
        target=lambda: results.append(
            innerloop.train(out=tmp_path / "run", **settings(array, iterations=2))
        )
    )
    thread.start()
    thread.join()
    assert not results[0].interrupted


@pytest.mark.parametrize("asked", [True, False])
def test_a_request_is_answered_while_a_step_goes_on(asked, monkeypatch):
    monkeypatch.setattr(signals, "PATIENCE", 0.0 if asked else 3600.0)
    answered = threading.Event()
    with signals.stop_requests(answered.set) as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # no second answer
        assert stop.is_set()
        if asked:
            assert answered.wait(60)
    assert answered.is_set() == asked
