"""The command line with a user's own network, algorithm, data, loss and metric."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import innerloop
from innerloop.cli import main
from tests.training import own

FILE = str(Path(own.__file__))
SMALL = """--n-way 3 --width 8 --iterations 4 --val-every 2 --val-tasks 4 --test-tasks 6
--threads 1 --json""".split()
OWN = ["--model", "{}:make", "--data", "{}:load", "--algorithm", "{}:Damped"]
OWN += ["--loss", "{}:focal", "--metric", "{}:certainty", "--inner-reduction", "mean"]


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copy(FILE, "mine.py")


def command(place):
    return [word.format(place) for word in OWN]


@pytest.mark.parametrize("place", ["mine.py", own.__name__])
def test_train_resume_and_evaluate(place, file, capsys):
    assert main(["train", *command(place), *SMALL, "--out", "run"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert trained["metric"] == "certainty"
    assert main(["evaluate", "run", "--tasks", "6", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["certainty"] == trained["certainty"]
    assert main(["train", "--resume", "run", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["certainty_of_tasks"] == trained["certainty_of_tasks"]
    assert main(["runs", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["value"] == trained["certainty"]


def test_data_that_changed_is_refused(file, capsys):
    assert main(["train", *command(file), *SMALL, "--out", "run"]) == 0
    Path("run/results.json").unlink()
    text = Path(file).read_text("utf-8").replace("shift=0.0", "shift=1.0")
    Path("other").mkdir()
    Path("other/mine.py").write_text(text, "utf-8")
    settings = Path("run/config.yaml").read_text("utf-8")
    Path("run/config.yaml").write_text(settings.replace("/mine.py:load", "/other/mine.py:load"))
    capsys.readouterr()
    assert main(["train", "--resume", "run"]) == 2
    assert "names code to run" in capsys.readouterr().err
    assert main(["train", "--resume", "run", "--trust"]) == 2
    assert "first episode of train has other values" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("import torch\nx = 1 +\n", "line 2: x = 1 +"),
        ("import torch\nx = torch.nothing\n", "line 2, in <module>: x = torch.nothing"),
        ("def make(n_way):\n    return n_way.nothing\n", "line 2, in make: return n_way.nothing"),
        ("def make(depth):\n    pass\n", "needs an argument 'depth', which is not a setting"),
        ("def make():\n    return 3\n", "must give an nn.Module, not int"),
        (
            "from torch import nn\nclass make(nn.Linear):\n"
            "    def __init__(self):\n        super().__init__(4, 3)\n"
            "    def forward(self, x):\n        return super().forward(x[:, :2])\n",
            "line 6, in forward: return super().forward(x[:, :2])",
        ),
    ],
)
def test_the_line_at_fault_is_shown(code, line, file, capsys):
    Path("wrong.py").write_text(code)
    words = command(file)
    words[1] = "wrong.py:make"
    assert main(["train", *words, *SMALL, "--out", "run"]) == 2
    assert line in capsys.readouterr().err


def test_code_that_a_config_file_names_is_not_run_unasked(file, capsys, monkeypatch, tmp_path):
    Path("c.yaml").write_text(
        "network: {model: mine.py:make}\ntasks: {data: mine.py:load, n_way: 3}\n"
    )
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "elsewhere"))
    assert main(["train", "--config", "c.yaml", *SMALL, "--out", "run"]) == 2
    assert "c.yaml names code to run" in capsys.readouterr().err
    assert main(["train", "--config", "c.yaml", *SMALL, "--out", "run", "--trust"]) == 0


PICTURES = """
import torch
from torch import nn

import innerloop


class Net(nn.Module):
    def __init__(self, n_way):
        super().__init__()
        self.norm, self.out = innerloop.models.BatchNorm(1), nn.Linear(64, n_way)

    def forward(self, x):
        return self.out(self.norm(x).flatten(1))


class Pictures:
    n_way = 2

    def batch(self, start, count):
        y = torch.arange(2).expand(count, 2)
        noise = [
            torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(start + i))
            for i in range(count)
        ]
        x = torch.stack(noise) + y[..., None, None, None]
        return innerloop.Episodes(x, y, x, y)


def algorithm():
    return innerloop.MAML(Net(2), 0.1, 1)


def tasks():
    return Pictures()
"""


def test_adapt_works_on_such_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("pictures.py").write_text(PICTURES)
    places = ("pictures.py:algorithm", "pictures.py:tasks")
    innerloop.fit(*places, out="fitted", iterations=2, threads=1)
    words = ["--model", "pictures.py:Net", "--data", "pictures.py:tasks", "--n-way", "2"]
    few = ["--iterations", "2", "--threads", "1"]
    assert main(["train", *words, *few, "--out", "trained"]) == 0
    for n, shade in (("dark", 40), ("light", 200)):
        Path(f"s/{n}").mkdir(parents=True)
        Image.new("L", (8, 8), shade).save(f"s/{n}/1.png")
    capsys.readouterr()
    for run in ("fitted", "trained"):
        assert main(["adapt", run, "--support", "s", "--query", "s/dark/1.png", "--json"]) == 0
        assert set(json.loads(capsys.readouterr().out)["support"]) == {"dark", "light"}
    Path("s/third").mkdir()
    Image.new("L", (8, 8), 100).save("s/third/1.png")
    assert main(["adapt", "fitted", "--support", "s", "--query", "s/dark/1.png"]) == 2
    assert "cannot tell so many classes apart" in capsys.readouterr().err


def test_sizes_that_tasks_of_ones_own_do_not_take_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("pictures.py").write_text(PICTURES)
    words = ["train", "--model", "pictures.py:Net", "--data", "pictures.py:tasks", "--n-way", "2"]
    words += ["--iterations", "2", "--threads", "1"]
    for name in ("--k-shot", "--k-query", "--eval-k-query"):
        assert main([*words, name, "7", "--out", "run"]) == 2
        assert f"{name[2:].replace('-', '_')}: not for data" in capsys.readouterr().err
        assert not Path("run").exists()
    # Nor are sizes announced that the tasks do not have.
    assert main(words) == 0
    told = capsys.readouterr().err
    assert "meta-training maml on" in told
    assert "shot" not in told.partition("\n")[0]
    assert main(["runs", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert run["setting"] == ""
    assert Path(run["run"]).name == "pictures-maml-001"
    # Who asks for them gets them.
    asks = (
        ("def tasks(", "def tasks(k_shot"),
        ("__init__(self, n_way", "__init__(self, n_way, k_shot"),
    )
    for number, change in enumerate(asks):
        text = PICTURES.replace(*change).replace("Net(2)", "Net(2, 7)")
        Path(f"asks{number}.py").write_text(text)
        words[2], words[4] = f"asks{number}.py:Net", f"asks{number}.py:tasks"
        assert main([*words, "--k-shot", "7", "--out", f"run{number}"]) == 0


DRAWN = """
import torch
from torch import nn
from innerloop import MAML


def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2))


class Drawn(MAML):
    def __init__(self, model, **settings):
        super().__init__(model, **settings | {"inner_lr": float(torch.rand(()))})
"""


def test_what_code_of_ones_own_draws_follows_from_the_seed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("pictures.py").write_text(PICTURES)
    Path("drawn.py").write_text(DRAWN)
    words = ["train", "--model", "drawn.py:make", "--data", "pictures.py:tasks", "--algorithm"]
    words += ["drawn.py:Drawn", "--iterations", "2", "--threads", "1", "--json"]
    before, losses = torch.get_rng_state(), []
    for number, seed in enumerate("334"):
        torch.manual_seed(number)
        state = torch.get_rng_state()
        assert main([*words, "--seed", seed, "--out", f"run{number}"]) == 0
        assert torch.equal(torch.get_rng_state(), state)
        lines = Path(f"run{number}/metrics.jsonl").read_text("utf-8").splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    torch.set_rng_state(before)
    assert losses[0] == losses[1] != losses[2]


def test_ways_are_those_of_the_tasks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("pictures.py").write_text(PICTURES)
    words = ["train", "--model", "pictures.py:Net", "--data", "pictures.py:tasks"]
    words += ["--iterations", "2", "--threads", "1"]
    assert main([*words, "--n-way", "7", "--out", "run"]) == 2
    assert "n_way is 7, but tasks of data" in capsys.readouterr().err
    assert not Path("run").exists()
    assert main([*words, "--out", "run"]) == 0
    assert innerloop.load("run", trust=True).config.n_way == 2


FEATURES = """
from torch import nn


def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8))


def of_ways(n_way):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, n_way))


def shares(n_way):
    return nn.Sequential(of_ways(n_way), nn.Softmax(dim=1))
"""


@pytest.mark.parametrize(
    ("words", "warned"),
    [
        (["--model", "features.py:make"], True),
        (["--model", "features.py:make", "--algorithm", "protonet"], False),
        (["--model", "features.py:of_ways"], False),
    ],
)
def test_features_in_place_of_outputs_are_a_warning(words, warned, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("pictures.py").write_text(PICTURES)
    Path("features.py").write_text(FEATURES)
    rest = ["--data", "pictures.py:tasks", "--iterations", "1", "--threads", "1"]
    assert main(["train", *words, *rest, "--out", "run"]) == 0
    said = capsys.readouterr().err
    assert ("the network gives 8 outputs, and tasks have 2 classes" in said) == warned


@pytest.mark.parametrize("name", ["of_ways", "shares"])
def test_probabilities_in_place_of_logits_are_a_warning(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("pictures.py").write_text(PICTURES)
    Path("features.py").write_text(FEATURES)
    words = ["train", "--model", f"features.py:{name}", "--data", "pictures.py:tasks"]
    assert main([*words, "--iterations", "1", "--threads", "1", "--out", "run"]) == 0
    said = "probabilities, and the loss, cross_entropy, takes logits"
    assert (said in capsys.readouterr().err) == (name == "shares")
