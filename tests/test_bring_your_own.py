"""Objects of users that cannot be used unchanged: one clear error each, or what was meant."""

from __future__ import annotations

import functools
import json
import logging
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import innerloop
from innerloop import MAML, Episodes, UserError, references
from innerloop.cli import main

Y = torch.arange(6).repeat(2, 1) % 3


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))


def episodes(tasks=2, start=0, y=Y, dtype=torch.float32) -> Episodes:
    x = torch.stack(
        [
            torch.randn(6, 5, generator=torch.Generator().manual_seed(i))
            for i in range(start, start + tasks)
        ]
    ).to(dtype)
    y = y[:1].expand(tasks, *y.shape[1:])
    return Episodes(x, y, x.clone(), y, n_way=3)


class Source:
    n_way = 3

    def __init__(self, change=lambda found: found, first=0) -> None:
        self.change, self.first = change, first

    def batch(self, start, count):
        return self.change(episodes(count, self.first + start))


def meta_gradient(given, **settings):
    maml = MAML(network(), 0.1, **settings)
    return maml.meta_gradient(maml.init_params(), given)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_of_any_integer_type_are_labels(dtype):
    torch.manual_seed(0)
    expected = meta_gradient(episodes())
    torch.manual_seed(0)
    found = meta_gradient(episodes(y=Y.to(dtype)))
    for name, g in expected[0].items():
        assert torch.equal(found[0][name], g)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Episodes(*(t.numpy() for t in episodes())), "support_x .* must be a tensor, not a nd"),
        (episodes(y=Y[..., None]), r"cross_entropy, cannot take .* targets int64 \[6, 1\]"),
        (episodes(y=Y[:, :5]), r"support_x has 6 examples a task and support_y has shape \(2, 5"),
    ],
)
def test_episodes_that_cannot_be_taken_are_named(given, message):
    with pytest.raises(UserError, match=message):
        meta_gradient(given)


REAL = [torch.float16, torch.float32, torch.float64]
WHOLE = [torch.uint8, torch.int16, torch.int64, torch.bool]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, *WHOLE])
def test_examples_of_another_type_than_the_weights_are_named(dtype):
    message = f"weights of torch.float32 and cannot take examples of {dtype} .* by examples.to"
    with pytest.raises(UserError, match=rf"{message}\(torch.float32\), which forward"):
        meta_gradient(episodes(dtype=dtype))


@pytest.mark.parametrize("dtype", [*REAL, *WHOLE])
def test_what_an_embedding_cannot_look_up_is_named(dtype):
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 3))
    maml, tokens = MAML(model, 0.1), episodes().support_x.abs().floor()
    given = Episodes(tokens.to(dtype), Y, tokens.to(dtype), Y)
    if dtype is torch.int64:
        given = Episodes(tokens.long() + 9, Y, tokens.long(), Y)
        message = r"cannot take examples of shape \(5,\) \(index out of range"
    else:
        message = f"cannot take examples of {dtype} .* by examples.to\\(torch.int64\\)"
    with pytest.raises(UserError, match=message):
        maml.meta_gradient(maml.init_params(), given)


def test_examples_of_another_type_and_another_shape_are_named_by_their_shape():
    given = episodes(dtype=torch.int64)
    narrow = Episodes(given.support_x[..., :4], Y, given.query_x[..., :4], Y)
    with pytest.raises(UserError, match=r"cannot take examples of shape \(4,\)"):
        meta_gradient(narrow)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": lambda o, t: F.cross_entropy(o, t).item()}, "scalar tensor, .* not float"),
        ({"loss": lambda o, t: (F.cross_entropy(o, t), 1)}, "scalar tensor, .* not tuple"),
        ({"loss": lambda o, t: np.float64(1)}, "scalar tensor, .* not float64"),
        ({"loss": nn.CrossEntropyLoss}, "loss is the class CrossEntropyLoss"),
        ({"metric": nn.CrossEntropyLoss}, "metric is the class CrossEntropyLoss"),
        ({"metric": lambda o, t: None}, "must return a number, not a NoneType"),
        ({"metric": lambda o, t: "0.5"}, "must return a number, not a str"),
        ({"inner_steps": 1.0}, "whole number, not 1.0"),
        ({"inner_steps": None}, "inner_steps must not be None"),
        ({"inner_steps": [1]}, "inner_steps must be a number, not a list"),
        ({"adapted": ["0.*"]}, "adapted must be text, not a list"),
        ({"inner_lr": None}, "inner_lr must not be None"),
        ({"inner_lr": [0.1]}, "inner_lr must be a number, not a list"),
        ({"inner_lr": lambda step: 0.1}, "inner_lr must be a number, not a function"),
        ({"inner_lr": {1: 0.1}}, r"inner_lr\[1\]: a pattern"),
    ],
)
def test_settings_that_cannot_be_taken_are_named(settings, message):
    def score():
        maml = MAML(**{"model": network(), "inner_lr": 0.1, **settings})
        return maml.score_steps(maml.init_params(), episodes())

    with pytest.raises(UserError, match=message):
        score()


def fit(tmp_path, source=None, algorithm=None, **settings):
    settings = {"iterations": 2, "val_every": 1, "test_tasks": 2, **settings}
    return innerloop.fit(
        algorithm or MAML(network(), 0.1), source or Source(), out=tmp_path / "run", **settings
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"meta_lr": torch.tensor(0.1)}, "meta_lr must be a number, not a Tensor"),
        ({"meta_lr": lambda share: 0.1}, "meta_lr must be a number, not a function"),
        ({"iterations": None}, "iterations must not be None"),
        ({"schedule": None}, "schedule must not be None"),
        ({"schedule": torch.optim.lr_scheduler.StepLR}, "not the class StepLR"),
        ({"schedule": lambda share: -1.0}, "gave -1.0 for the share 0"),
        ({"schedule": lambda share: "fast"}, "gave 'fast' for the share 0"),
        ({"meta_optimizer": functools.partial(torch.optim.SGD, lr=0.5)}, "lr=0.5, which meta_lr"),
        ({"source": Source(lambda e: e[:3])}, "batch of Source returns must be innerloop.Epis"),
        ({"source": Source(lambda e: [t.numpy() for t in e])}, "must be a tensor, not a ndarray"),
        ({"source": Source(lambda e: e._replace(query_x=e.query_x[:0]))}, "was asked for 1 tasks"),
        (
            {"source": Source(lambda e: e._replace(query_x=e.query_x * torch.nan))},
            "query_x of the tasks of iteration 0 has values that are not finite",
        ),
    ],
)
def test_what_fit_cannot_take_is_named(settings, message, tmp_path):
    with pytest.raises(UserError, match=message):
        fit(tmp_path, **settings)


def test_fit_needs_an_algorithm():
    with pytest.raises(UserError, match="algorithm must not be None"):
        innerloop.fit(None, Source())


def test_numbers_of_numpy_and_devices_are_settings(tmp_path):
    maml = MAML(network(), np.float32(0.1), np.int64(2))
    run = fit(
        tmp_path,
        algorithm=maml,
        test=Source(first=100),
        iterations=np.int64(2),
        meta_lr=np.float64(0.1),
        device=torch.device("cpu"),
    )
    assert json.loads((tmp_path / "run/results.json").read_text())["iterations"] == 2
    assert type(maml.inner_steps) is int
    assert run.results["iterations"] == 2


def test_a_loss_without_a_gradient_is_refused_and_one_of_zeros_a_warning(tmp_path):
    maml = MAML(network(), 0.1, loss=lambda o, t: F.cross_entropy(o, t).detach())
    with pytest.raises(UserError, match="does not depend on the weights"):
        fit(tmp_path / "none", algorithm=maml)
    maml = MAML(network(), 0.1, loss=lambda o, t: 0 * F.cross_entropy(o, t))
    with pytest.warns(UserWarning, match="0 in every entry"):
        fit(tmp_path / "zero", algorithm=maml)


class Slots(nn.Module):
    __slots__ = "factor"

    def __init__(self):
        super().__init__()
        self.linear, self.factor = nn.Linear(5, 3), torch.tensor(3.0)

    def forward(self, x):
        self.factor.mul_(1.0)
        return self.linear(x) * self.factor


class Private(Slots):
    __slots__ = ("__own", "more")

    def __init__(self):
        super().__init__()
        self.__own, self.more = torch.tensor(2.0), [1.0]

    def forward(self, x):
        self.more.append(1.0)
        return super().forward(x) * self.__own * len(self.more)


@pytest.mark.parametrize("kind", [Slots, Private])
def test_what_modules_keep_in_slots_is_there_and_not_written_to(kind):
    maml = MAML(kind(), 0.1)
    params = maml.init_params()
    together = maml.meta_gradient(params, episodes())[0]
    again = maml.meta_gradient(params, episodes())[0]
    for name, g in together.items():
        assert torch.equal(g, again[name])
        assert g.abs().max() > 0
    assert maml.model.factor._version == 0
    assert getattr(maml.model, "more", [1.0]) == [1.0]


@pytest.mark.parametrize(
    ("change", "said"), [(nn.utils.spectral_norm, True), (lambda layer: layer, False)]
)
def test_buffers_that_training_writes_and_drops_are_said(change, said, caplog):
    maml = MAML(nn.Sequential(change(nn.Linear(5, 3))), 0.1)
    with caplog.at_level(logging.WARNING, "innerloop"):
        maml.meta_gradient(maml.init_params(), episodes())
    assert ("0.weight_u, 0.weight_v in training alone" in caplog.text) == said


MINE = """
import numpy as np, torch
from torch import nn
from innerloop.data import from_arrays

network = nn.Linear(6, 3)

def make(n_way):
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, n_way))

def load():
    rng = np.random.default_rng(0)
    return from_arrays(rng.normal(size=(360, 6)).astype(np.float32), np.arange(360) % 30)
"""


@pytest.mark.parametrize("model", ["make", "network"])
def test_vectors_and_losses_by_class_on_the_command_line(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    command = f"train --model mine.py:{model} --data mine.py:load --loss torch.nn:CrossEntropyLoss"
    sizes = "--n-way 3 --iterations 2 --val-every 1 --val-tasks 2 --test-tasks 4 --threads 1"
    assert main([*command.split(), *sizes.split(), "--out", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metric"] == "accuracy"
    assert main(["evaluate", "run", "--tasks", "4", "--json"]) == 0


def test_files_of_two_folders_get_what_lies_beside_them(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"beside_{folder}.py").write_text(f"name = {folder!r}")
        (tmp_path / folder / "mine.py").write_text(
            f"import beside_{folder}\nfound = lambda: beside_{folder}.name"
        )
    (tmp_path / "a" / "beside_b.py").write_text("name = 'wrong'")
    for folder in ("a", "b"):
        assert references.find(f"{tmp_path}/{folder}/mine.py:found")() == folder
    # Python would need two modules of the same name.
    (tmp_path / "a" / "other.py").write_text("from beside_b import name")
    with pytest.raises(UserError, match="imports beside_b, which lies beside it, but another"):
        references.find(f"{tmp_path}/a/other.py:name")


def test_a_file_of_a_package_is_named_as_its_module(tmp_path):
    (tmp_path / "inside.py").write_text("from ..common import x")
    with pytest.raises(UserError, match="name it as a module of its package"):
        references.find(f"{tmp_path}/inside.py:x")


@pytest.mark.parametrize(
    ("rates", "way_out"),
    [({"*": 0.1, "0.*": 0.4}, "put it before"), ({"?.*": 0.1, "*": 0.4}, "leave it out")],
)
def test_rates_that_decide_about_nothing_have_a_way_out(rates, way_out):
    with pytest.raises(UserError, match=way_out):
        MAML(network(), rates)


def test_another_network_than_was_trained_is_refused_in_use(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "before.py").write_text(MINE)
    sizes = "--n-way 3 --iterations 2 --val-every 1 --val-tasks 2 --test-tasks 4 --threads 1"
    command = "train --model before.py:make --data before.py:load --out run"
    assert main([*command.split(), *sizes.split()]) == 0
    assert main(["evaluate", "run", "--tasks", "4"]) == 0
    # The code after a change, in a process that has not loaded it.
    # Of another length: else Python takes the compiled file for that of the same second.
    (tmp_path / "before.py").write_text(MINE.replace("nn.Tanh()", "nn.ReLU()") + "\n")
    for name in [name for name in sys.modules if name.startswith("innerloop_file_before")]:
        del sys.modules[name]
    capsys.readouterr()
    assert main(["evaluate", "run", "--tasks", "4"]) == 2
    assert "its layer 1 was Tanh() and is ReLU()" in " ".join(capsys.readouterr().err.split())


def with_weight(function):
    @functools.wraps(function)
    def decorated(outputs, targets):
        return function(outputs, targets, 2.0)

    return decorated


@with_weight
def weighted(outputs, targets, weight):
    return weight * torch.nn.functional.cross_entropy(outputs, targets)


def test_a_decorator_may_take_other_arguments_than_what_it_is_around():
    innerloop.MAML(torch.nn.Linear(2, 2), 0.1, loss=weighted, metric=weighted)


def test_masked_labels_are_refused_by_the_classifier():
    X, y = np.zeros((4, 8, 8), np.uint8), np.ma.masked_array([0, 0, 1, 1], [0, 0, 0, 1])
    with pytest.raises(UserError, match="y has masked values"):
        innerloop.FewShotClassifier().fit(X, y)
