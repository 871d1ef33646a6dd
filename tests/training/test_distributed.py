"""Several processes under torchrun learn the same as one; they stop, fail and resume together."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import innerloop
from innerloop import UserError
from innerloop.runs.checkpoint import read_tensors
from innerloop.runs.folder import checkpoints
from innerloop.training.distributed import World
from tests import small_runs

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not torch.distributed.is_available(), reason="needs gloo"
)

NOT_OURS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def settings(noise, **changes):
    return small_runs.settings(
        noise,
        **{
            # Adam would scale the rounding errors of a zero gradient up to full steps.
            "meta_optimizer": "sgd",
            "meta_lr": 0.05,
            "schedule": "constant",
            # Shares of two and three tasks.
            "meta_batch_size": 5,
            "iterations": 6,
            "val_every": 3,
            "val_tasks": 4,
            "test_tasks": 4,
            **changes,
        },
    )


def options(settings, out):
    given = {**settings, "out": out}.items()
    return [part for name, value in given for part in (f"--{name.replace('_', '-')}", str(value))]


def torchrun(*program):
    """The arguments of `Popen` for two processes of a program."""
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    kept = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    return {
        "args": [sys.executable, "-m", *launch, *map(str, program)],
        "env": {**kept, "OMP_NUM_THREADS": "1"},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


def params_of(folder):
    tensors, counters = read_tensors(checkpoints(folder)[0])
    return {n: t for n, t in tensors.items() if n.startswith("params/")}, counters["iteration"]


def assert_same_training(folder, other):
    (ours, iteration), (expected, last) = params_of(folder), params_of(other)
    assert iteration == last
    assert ours.keys() == expected.keys()
    for name in ours:
        # Two processes add in another order than one.
        torch.testing.assert_close(ours[name], expected[name], rtol=0, atol=1e-5)


def resume_until(folder, iterations):
    """Take a run up in this process alone, until another last iteration than it was to have."""
    config = innerloop.TrainConfig.from_file(folder / "config.yaml")
    changed = dataclasses.replace(config, iterations=iterations)
    (folder / "config.yaml").write_text(changed.to_yaml())
    return innerloop.resume(folder)


def test_two_processes_learn_what_one_learns_and_resume_as_one(noise, tmp_path):
    wanted = settings(noise)
    one = innerloop.train(out=tmp_path / "one", **wanted)
    two = subprocess.run(
        **torchrun("-m", "innerloop", "train", "--json", *options(wanted, tmp_path / "two")),
        timeout=120,
    )
    assert two.returncode == 0, two.stderr
    assert_same_training(tmp_path / "two", tmp_path / "one")
    # Training has to move the weights further than they may differ.
    start = one.algorithm.init_params()
    assert all((p - start[n]).abs().max() > 1e-4 for n, p in one.params.items() if p.ndim == 4)
    # Reported and written once.
    assert json.loads(two.stdout)["accuracy"] == one.results["accuracy"]
    assert two.stderr.count("meta-training maml") == 1
    for name in ("one", "two"):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["iteration"] for line in lines] == [3, 6]
        assert len(list((tmp_path / name).iterdir())) == 6
    # One process goes on where two left off.
    resume_until(tmp_path / "two", 9)
    innerloop.train(out=tmp_path / "nine", **settings(noise, iterations=9))
    assert_same_training(tmp_path / "two", tmp_path / "nine")


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


@pytest.mark.long
@pytest.mark.parametrize("end", ["rank 0 dies", "SIGTERM", "SIGINT"])
def test_a_run_that_ends_early_can_be_resumed(noise, tmp_path, end):
    # However many iterations there are, rounding must not decide which of two numbers ReLU or
    # pooling takes: at a rate of 0.01 it does, within 40, at this one not within 300.
    folder, wanted = tmp_path / "run", settings(noise, meta_lr=0.001, val_every=20)
    process = subprocess.Popen(
        **torchrun(*("-m", "innerloop", "train"), *options({**wanted, "iterations": 10**6}, folder))
    )
    try:
        wait_for(lambda: bool(checkpoints(folder)), process)
        if end.startswith("rank"):
            os.kill(children(process.pid)[0], signal.SIGKILL)
        else:
            process.send_signal(getattr(signal, end))
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0
    _, iteration = params_of(folder)
    if end.startswith("rank"):
        assert errors.count("error: another process of this run has ended") == 1, errors
        assert "innerloop resume" in errors
        assert iteration % 20 == 0
    else:
        # Saved where it was stopped, not at the last validation, and said once.
        assert errors.count("stopped after iteration") == 1, errors
        assert f"stopped after iteration {iteration};" in errors
    assert not (folder / "results.json").exists()
    resume_until(folder, iteration + 2)
    innerloop.train(out=tmp_path / "whole", **{**wanted, "iterations": iteration + 2})
    assert_same_training(folder, tmp_path / "whole")


SLOW_MAIN = """
import os, sys, time
from innerloop.cli import main
if os.environ["RANK"] == "0":
    time.sleep(1)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("wrong", "message"), [(("--preset", "maml5"), "'maml5'"), (("--iterations", "few"), "'few'")]
)
def test_a_mistake_is_said_once_even_if_rank_0_is_late(tmp_path, wrong, message):
    """torchrun ends the slower process as soon as the other one has gone."""
    (tmp_path / "slow.py").write_text(SLOW_MAIN)
    result = subprocess.run(**torchrun(tmp_path / "slow.py", "train", *wrong), timeout=60)
    assert result.returncode != 0
    assert result.stderr.count(message) == 1
    assert "innerloop/cli" not in result.stderr  # in a traceback of ours


IN_EACH_PROCESS = """
import json, os, sys, time
from pathlib import Path
from types import SimpleNamespace
import torch
import torch.distributed as dist
import innerloop
from innerloop.training import loop
from innerloop.training.distributed import World

folder, settings, rank = Path(sys.argv[1]), json.loads(sys.argv[2]), int(os.environ["RANK"])
written = []

def watch(event, what):
    if event == "open" and what[2] & (os.O_WRONLY | os.O_RDWR) and str(folder) in str(what[0]):
        written.append(str(what[0]))

sys.addaudithook(watch)

def mistake_of(call):
    try:
        call()
    except innerloop.UserError as error:
        return str(error)

def prepare():
    if rank == 0:
        time.sleep(0.3)
        found["prepared"] = True
        (folder / "cache").mkdir()
    return (folder / "cache").exists()

def fail_in_rank_1():
    if rank == 1:
        raise innerloop.UserError("the data is not here")

def fail():
    raise innerloop.UserError(f"said by {rank}")

found = {}
world = World.join()
world.use("cpu")
found["main first"] = world.main_first(prepare)
found["mistake of 1"] = mistake_of(lambda: world.main_first(fail_in_rank_1))
found["mistake of all"] = mistake_of(lambda: world.main_first(fail))
found["mistake of main"] = mistake_of(lambda: world.from_main(fail))
found["from main"] = world.from_main(lambda: rank)
found["no device"] = mistake_of(lambda: world.use("mps"))
gradient, metrics = {"w": torch.full((2, 3), 1.0 + rank), "b": torch.tensor(2.0)}, {}
metrics["loss"] = torch.tensor(4.0 * rank)
share = (0.4, 0.6)[rank]
gradient, metrics, *rest = world.mean(share, gradient, metrics, 10.0 + rank, rank == 1)
found["mean"] = [gradient["w"].tolist(), gradient["b"].item(), metrics["loss"].item(), *rest]
world.leave()

reduced = []
real = dist.all_reduce
dist.all_reduce = lambda *a, **k: (reduced.append(1), real(*a, **k))
# The clock of rank 1 runs twice as fast.
loop.time = SimpleNamespace(
    monotonic=lambda: (1 + rank) * time.monotonic(), process_time=time.process_time
)
found["runs"] = []
for name, changes in (("timed", {"max_seconds": 0.5, "iterations": 10**6}), ("second", {})):
    reduced.clear()
    run = innerloop.train(out=folder / name, **{**settings, **changes, "schedule": "cosine"})
    found["runs"].append({
        "folder": str(run.folder),
        "iterations": run.results["iterations"],
        "reduces": len(reduced),
        "params": {name: p.double().sum().item() for name, p in run.params.items()},
        "accuracies": run.results["accuracies"],
    })
found["in use"] = mistake_of(lambda: innerloop.train(out=folder / "second", **settings))
few = {**settings, "meta_batch_size": 1}
found["few tasks"] = mistake_of(lambda: innerloop.train(out=folder / "few", **few))
found["written"] = len(written)
(folder / f"{rank}.json").write_text(json.dumps(found))
# Groups that an error left open can abort a process in PyTorch's own clean-up at its end.
os._exit(0)
"""


@pytest.mark.long
def test_from_python_all_processes_agree(noise, tmp_path):
    """On mistakes, on the mean, on time and on results; in one run after another."""
    (tmp_path / "program.py").write_text(IN_EACH_PROCESS)
    wanted = json.dumps(settings(noise))
    result = subprocess.run(
        **torchrun(tmp_path / "program.py", tmp_path, wanted),
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    main, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert main.pop("prepared")
    # Of the same run, each file was written by one process alone.
    assert main.pop("written") > 0
    assert other.pop("written") == 0
    assert main == other
    assert main["main first"] is True
    assert main["mistake of 1"] == "process 1: the data is not here"
    assert main["mistake of all"] == main["mistake of main"] == "said by 0"
    assert main["from main"] == 0
    assert "use cpu or cuda" in main["no device"]
    w, b, loss, seconds, stop = main["mean"]
    np.testing.assert_allclose(w, np.full((2, 3), 0.4 * 1 + 0.6 * 2), rtol=1e-6)
    assert (b, loss) == (pytest.approx(2.0), pytest.approx(0.6 * 4))
    assert (seconds, stop) == (10.0, True)
    timed, second = main["runs"]
    assert second["iterations"] == 6
    assert all(run["reduces"] == run["iterations"] for run in (timed, second))
    assert "already holds a run" in main["in use"]
    assert "cannot be shared out among 2 processes" in main["few tasks"]
    assert not (tmp_path / "few").exists()


@pytest.mark.parametrize(("tasks", "size"), [(5, 2), (8, 3), (4, 4)])
def test_shares_cover_the_meta_batch(tasks, size):
    shares = [World(rank, size).share(tasks) for rank in range(size)]
    assert [i for share in shares for i in share] == list(range(tasks))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_processes_than_tasks():
    with pytest.raises(UserError, match="raise meta_batch_size"):
        World(0, 4).share(3)


def test_one_process_does_not_communicate(noise, tmp_path):
    world, gradient = World(), {"w": torch.ones(2)}
    assert world.mean(1.0, gradient, {}, 2.5, True) == (gradient, {}, 2.5, True)
    assert world.from_main(lambda: 3) == world.main_first(lambda: 3) == 3
    world.use("cpu")
    world.leave()
    assert not torch.distributed.is_initialized()


def test_processes_that_do_not_know_of_each_other(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"RANK, MASTER_ADDR, MASTER_PORT not set.*torchrun"):
        World.join()
