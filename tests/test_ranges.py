"""Ways and shots that vary in training: from the command line to the tasks."""

from __future__ import annotations

import contextlib
import re

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import innerloop
from innerloop import TrainConfig, UserError
from innerloop.build import build_samplers
from innerloop.cli import main
from innerloop.ranges import ends_of, range_from, range_text

SMALL = """--data random --iterations 4 --val-every 2 --val-tasks 2 --test-tasks 4 --eval-k-query 2
--width 4 --threads 1 --split random --meta-batch-size 2""".split()
RANGES = ["--train-n-way", "2-4", "--train-k-shot", "1-3"]


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_text_numbers_and_pairs_are_one(a, b):
    low, high = sorted((a, b))
    for value in (f"{low}-{high}", (low, high), [low, high]):
        found = range_from("x", value)
        assert ends_of(found) == (low, high)
        assert ends_of(range_from("x", range_text(found))) == (low, high)
    assert range_from("x", low) == range_from("x", str(low)) == low


@pytest.mark.parametrize(
    "value", ["", "3-", "-3", "3-4-5", "a", "3.5", 3.5, True, (1,), (1, 2, 3), {}, (1, "2"), None]
)
def test_what_is_no_range(value):
    with pytest.raises(UserError, match="x must be a whole number, or a range such as 3-10"):
        range_from("x", value)


def shapes(tasks, batches=12):
    """Ways and support examples of some outer steps."""
    found = set()
    for i in range(batches):
        batch = tasks.batch(2 * i, 2)
        found.add((batch.n_way, batch.support_x.shape[1] // batch.n_way))
    return found


@pytest.mark.parametrize("algorithm", ["maml", "protonet", "anil", "reptile"])
def test_training_tasks_vary_and_others_do_not(algorithm, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *SMALL, *RANGES, "--algorithm", algorithm, "--out", "run"]) == 0
    settings = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert settings["tasks"]["train_n_way"] == [2, 4]
    config = TrainConfig.from_file(tmp_path / "run/config.yaml")
    assert (config.train_n_way, config.train_k_shot) == ((2, 4), (1, 3))
    assert innerloop.load("run").config.train_k_shot == (1, 3)
    _, tasks = build_samplers(config)
    ways, shots = zip(*shapes(tasks["train"]), strict=True)
    assert set(ways) == {2, 3, 4}
    assert set(shots) == {1, 2, 3}
    for part in ("val", "test"):
        assert shapes(tasks[part]) == {(config.n_way, config.k_shot)}
    protocol = tasks["train"].protocol()
    assert (protocol["n_way"], protocol["k_shot"]) == ([2, 4], [1, 3])
    assert main(["evaluate", "run", "--tasks", "2"]) == 0
    assert main(["train", *SMALL, *RANGES, "--print-config"]) == 0


def test_a_longer_run_is_that_of_a_run_from_the_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", *SMALL, *RANGES, "--schedule", "constant"]
    assert main([*words, "--out", "a"]) == 0
    assert main(["resume", "a", "--iterations", "8"]) == 0
    assert main([*words, "--iterations", "8", "--out", "b"]) == 0
    a, b = (innerloop.load(name) for name in "ab")
    assert all(np.array_equal(p.numpy(), b.params[name].numpy()) for name, p in a.params.items())


def test_python_takes_pairs(tmp_path):
    run = innerloop.train(
        data=innerloop.data.random_images(30),
        train_n_way=(2, np.int64(3)),
        train_k_shot=(1, 2),
        split="random",
        rotate=False,
        width=4,
        k_query=1,
        eval_k_query=2,
        iterations=2,
        val_tasks=2,
        test_tasks=2,
        out=tmp_path / "run",
    )
    assert innerloop.load(run.folder).config.train_n_way == (2, 3)


def test_a_range_is_lowered_to_what_the_data_has():
    config = TrainConfig(split="random", rotate=False, train_n_way=(5, 30), train_k_shot=(2, 9))
    with pytest.warns(UserWarning, match="train_n_way 5-19 instead of 5-30"):
        lowered, _ = build_samplers(config, innerloop.data.random_images(30, 4, 8), given=set())
    assert (lowered.train_n_way, lowered.train_k_shot) == ((5, 19), (2, 3))
    with pytest.raises(
        UserError, match=r"train_k_shot is 2-9, but .* 3 at most; lower train_k_shot"
    ):
        build_samplers(config, innerloop.data.random_images(30, 4, 8), given={"train_k_shot"})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--train-n-way", "4-3"], "from the least to the greatest number, not 4-3"),
        (["--train-n-way", "1-3"], "train_n_way must be at least 2"),
        (["--train-k-shot", "0-3"], "train_k_shot must be at least 1"),
        (["--train-k-shot", "3..4"], "train-k-shot"),
        (["--n-way", "3-8"], "n-way"),
        (["--train-n-way", "3-8", "--head", "linear"], "train_n_way can differ from n_way only"),
        (["--data", "sinusoid", "--train-k-shot", "1-5"], "train_k_shot is for classes"),
    ],
)
def test_what_cannot_vary_is_refused(words, message, capsys):
    with contextlib.suppress(SystemExit):
        assert main(["train", *words]) == 2
    captured = capsys.readouterr()
    assert re.search(message, captured.err + captured.out)


def test_a_file_names_the_setting(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("tasks: {train_k_shot: 1-5, n_way: 3-8}")
    with pytest.raises(UserError, match="n_way must be of type int"):
        TrainConfig.from_file(file)
    file.write_text("tasks: {train_k_shot: 1-5}")
    assert TrainConfig.from_file(file).train_k_shot == (1, 5)
