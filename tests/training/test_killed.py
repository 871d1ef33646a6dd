"""A killed run of each kind, taken up again, ends with the bytes of one that was left alone.

Runs of each of our algorithms are killed in `tests/test_kills.py`.
"""

from __future__ import annotations

import multiprocessing
import random
import signal

import pytest

from tests.small_runs import assert_same_runs
from tests.training.kinds import KINDS, begin_and_be_killed

# Started once, with everything imported.
PROCESSES = multiprocessing.get_context("forkserver")


@pytest.mark.parametrize("kind", KINDS)
def test_killed_and_resumed_equals_uninterrupted(kind, tmp_path):
    PROCESSES.set_forkserver_preload(["tests.training.kinds"])
    whole = KINDS[kind](tmp_path / "whole", None, False)
    # Before, at and after a validation, and its checkpoint.
    iteration = random.Random(kind).randrange(2, 12)
    killed = tmp_path / "killed"
    process = PROCESSES.Process(target=begin_and_be_killed, args=(kind, str(killed), iteration))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (killed / "results.json").exists()
    KINDS[kind](killed, None, True)
    assert_same_runs(whole.folder, killed)
    for name in ("config.yaml", "model.safetensors"):
        assert (whole.folder / name).read_bytes() == (killed / name).read_bytes()
