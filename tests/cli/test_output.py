"""With `--json` and `--csv` standard output is for results alone, whatever users' code prints."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from innerloop.cli import main, output

NETS = """
from innerloop.backbones import Preprocess
from torch import nn

print("IMPORTED")


class Chatty(nn.Module):
    def forward(self, x):
        print("CALLED")
        return nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)


def make():
    print("Loaded pretrained weights")
    return Chatty()


def pixels(picture):
    print("PREPROCESSED")
    return Preprocess(8)(picture)
"""
SMALL = """--iterations 2 --val-every 1 --val-tasks 2 --test-tasks 2 --n-way 2 --train-n-way 2
--k-query 1 --eval-k-query 1 --threads 1""".split()


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)
    generator = np.random.default_rng(0)
    for number in range(10):
        Path(f"photos/c{number}").mkdir(parents=True)
        for i in range(3):
            noise = generator.integers(0, 256, (9, 9, 3), np.uint8)
            Image.fromarray(noise).save(f"photos/c{number}/{i}.png")


def test_results_are_alone(place, capsys):
    body = ["nets.py:make", "--preprocess", "nets.py:pixels"]
    support = ["--support", "photos", "--query", "photos/c0"]
    train = ["train", "--body", *body, "--data", "photos", *SMALL, "--out", "run"]
    for words in (["adapt", *body, *support], train, ["evaluate", "run", "--tasks", "2"]):
        assert main([*words, "--json"]) == 0
        written = capsys.readouterr()
        assert json.loads(written.out)
        assert "CALLED" in written.err
    assert main(["adapt", "run", *support, "--csv"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert [len(row) for row in rows] == [12] * 4


def test_other_output_stays_where_it_is(capsys):
    for words in (["adapt", "--json", "--help"], ["--json"], []):
        with output.results_alone(words):
            print("as it is")
        assert (capsys.readouterr().out == "as it is\n") == (words != ["--json"])
    with output.results_alone(["--json"]):
        output.show("result")
    output.show("after")
    assert capsys.readouterr().out == "result\nafter\n"
    assert output.result_stream() is sys.stdout
