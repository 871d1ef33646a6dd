"""Several processes under torchrun learn what one learns; they stop, fail and resume together."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from innerloop import UserError
from innerloop.checkpoint import read_tensors
from innerloop.distributed import World

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not torch.distributed.is_available(), reason="needs gloo"
)


@pytest.fixture(scope="module")
def array(tmp_path_factory):
    generator = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "noise.npy"
    np.save(path, generator.integers(0, 255, (30, 8, 1, 16, 16), dtype=np.uint8))
    return path


def arguments(array, out, **changes):
    settings = {
        "data": array,
        "split": "random",
        "n-way": 3,
        "train-n-way": "None",
        "k-query": 3,
        "eval-k-query": 3,
        "width": 8,
        # Adam would make as much of the rounding of a gradient of zero as of any other.
        "meta-optimizer": "sgd",
        "meta-lr": 0.1,
        "schedule": "constant",
        "meta-batch-size": 5,
        "iterations": 6,
        "val-every": 3,
        "val-tasks": 4,
        "test-tasks": 4,
        "threads": 1,
        "out": out,
        **changes,
    }
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


def environment(tmp_path):
    kept = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return {**kept, "INNERLOOP_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}


def command(processes, *arguments):
    run = ["-m", "innerloop", "train", *arguments]
    if processes == 1:
        return [sys.executable, *run]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *launch, *run]


def train(processes, tmp_path, *arguments):
    return subprocess.run(
        command(processes, *arguments),
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )


def params_of(folder):
    tensors, counters = read_tensors(folder / "checkpoint.safetensors")
    return {n: t for n, t in tensors.items() if n.startswith("params/")}, counters


def assert_close(a, b):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-5)


def test_two_processes_learn_what_one_learns_and_resume_as_one(array, tmp_path):
    one = train(1, tmp_path, *arguments(array, tmp_path / "one"))
    assert one.returncode == 0, one.stderr
    # Shares of two and three tasks.
    two = train(2, tmp_path, "--json", *arguments(array, tmp_path / "two"))
    assert two.returncode == 0, two.stderr
    ours, expected = params_of(tmp_path / "two"), params_of(tmp_path / "one")
    assert_close(ours[0], expected[0])
    assert ours[1]["iteration"] == expected[1]["iteration"] == 6
    # Said and written once.
    assert json.loads(two.stdout)["iterations"] == 6
    lines = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [3, 6]
    # Taken up by one process, where two left off.
    config = tmp_path / "two" / "config.yaml"
    config.write_text(re.sub("iterations: 6", "iterations: 9", config.read_text()))
    again = train(1, tmp_path, "--resume", str(tmp_path / "two"))
    assert again.returncode == 0, again.stderr
    whole = train(1, tmp_path, *arguments(array, tmp_path / "nine", iterations=9))
    assert whole.returncode == 0, whole.stderr
    assert_close(params_of(tmp_path / "two")[0], params_of(tmp_path / "nine")[0])


def wait_for(condition, process):
    for _ in range(600):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.kill()
    pytest.fail("nothing happened for a minute")


def children(pid):
    out = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return sorted(int(word) for word in out.stdout.split())


@pytest.mark.parametrize("how", ["lost", "stopped"])
def test_a_lost_process_ends_the_run_and_a_stop_request_saves_it(array, tmp_path, how):
    folder = tmp_path / how
    settings = arguments(array, folder, iterations=100000, **{"val-every": 2})
    process = subprocess.Popen(
        command(2, *settings),
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for((folder / "checkpoint.safetensors").exists, process)
    if how == "lost":
        os.kill(children(process.pid)[-1], signal.SIGKILL)
    else:
        process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    if how == "lost":
        assert "another process of this run has ended" in errors
        assert "--resume" in errors
    _, counters = params_of(folder)
    # What is there is whole, and another number of processes goes on from it.
    config = folder / "config.yaml"
    last = counters["iteration"] + 2
    config.write_text(config.read_text().replace("iterations: 100000", f"iterations: {last}"))
    again = train(1, tmp_path, "--resume", str(folder))
    assert again.returncode == 0, again.stderr
    assert params_of(folder)[1]["iteration"] == last


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"meta-batch-size": 1}, "cannot be shared out"), ({"split": "nonsense"}, "split")],
)
def test_a_mistake_is_said_once(array, tmp_path, changes, message):
    result = train(2, tmp_path, *arguments(array, tmp_path / "run", **changes))
    assert result.returncode != 0
    said = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert message in said[0]


def test_a_folder_in_use_is_refused_by_all(array, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("")
    result = train(2, tmp_path, *arguments(array, tmp_path / "run"))
    assert result.returncode != 0
    assert result.stderr.count("error: ") == 1
    assert "already holds a run" in result.stderr


@pytest.mark.parametrize(("tasks", "size"), [(5, 2), (8, 3), (4, 4)])
def test_shares_cover_the_meta_batch(tasks, size):
    shares = [World(rank, size).share(tasks) for rank in range(size)]
    assert [i for share in shares for i in share] == list(range(tasks))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_processes_than_tasks():
    with pytest.raises(UserError, match="raise meta_batch_size"):
        World(0, 4).share(3)


def test_one_process_does_not_communicate():
    world, gradient = World(), {"w": torch.ones(2)}
    assert world.mean(1.0, gradient, {}, 2.5, True) == (gradient, {}, 2.5, True)
    assert world.from_main(lambda: 3) == world.main_first(lambda: 3) == 3
