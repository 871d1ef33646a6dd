"""Trials of reports about tasks, data sets of people's own, networks and training."""

from __future__ import annotations

import copy
import gc
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import innerloop
from innerloop.data import folder, from_arrays, from_dataset
from research.reports.trial import classes, noise, refused, trial, warned

X = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(6).repeat(3, 1) % 3
EPISODES = innerloop.Episodes(X, Y, X + 0.1, Y)


def _data(number: int = 15, each: int = 6) -> innerloop.data.ClassIndexed:
    generator = np.random.default_rng(0)
    return from_arrays(generator.normal(size=(number * each, 4)), np.arange(number * each) % number)


def _linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def _fit(place: Path, network: nn.Module | None = None, **settings: Any) -> innerloop.Run:
    train, val, test = innerloop.split_tasks(_data(), n_way=2, k_query=2)
    maml = innerloop.MAML(network or _linear_two(), inner_lr=0.1, inner_steps=1)
    known = {"iterations": 6, "val_every": 2, "val_tasks": 4, "test_tasks": 4, "threads": 1}
    return innerloop.fit(maml, train, val=val, test=test, out=place, **known | settings)


def _linear_two() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))


@trial(
    "more shots and queries than a class has pictures",
    "one error that names the class, what it has and what is needed",
)
def too_few_pictures(root: Path) -> None:
    data = folder(classes(root, "cat dog owl", number=4))
    with refused("need 10 images a class", "'cat'", "has 4", "lower k_shot or k_query"):
        innerloop.EpisodeSampler(data, n_way=2, k_shot=5, k_query=5)


@trial("5-way tasks from a data set of two classes", "one error that says: lower n_way to 2")
def too_few_classes(root: Path) -> None:
    data = folder(classes(root, "cat dog"))
    with refused("5-way tasks need 5 classes", "has 2", "lower n_way to 2"):
        innerloop.EpisodeSampler(data, n_way=5, k_query=1)


@trial("classes with 3, 7 and 20 pictures", "tasks are drawn from all of them")
def uneven_classes(root: Path) -> None:
    for name, number in (("a", 3), ("b", 7), ("c", 20)):
        classes(root, name, number=number, first=1000 * number)
    tasks = innerloop.EpisodeSampler(folder(root), n_way=3, k_shot=1, k_query=2)
    assert tasks.batch(0, 4).query_x.shape[:2] == (4, 6)


class _Own(Dataset):
    """A data set of pictures and labels without a list of labels, as people write them."""

    def __init__(self, as_tensor: bool = False) -> None:
        self.as_tensor = as_tensor

    def __len__(self) -> int:
        return 24

    def __getitem__(self, i: int) -> tuple[Tensor, Any]:
        label = torch.tensor(i % 4) if self.as_tensor else i % 4
        return torch.from_numpy(noise(i)).permute(2, 0, 1) / 255, label


@trial(
    "a data set without `labels` or `get_labels`; labels that are tensors of one number",
    "`from_dataset` reads the labels from the items; equal labels are one class",
)
def no_list_of_labels(root: Path) -> None:
    for as_tensor in (False, True):
        data = from_dataset(_Own(as_tensor))
        assert data.num_classes == 4
        assert data.counts.tolist() == [6] * 4


@trial("labelled series `[M, channels, length]` and feature vectors", "`from_arrays(X, y)`")
def series(root: Path) -> None:
    X, y = np.random.default_rng(0).normal(size=(40, 2, 30)), np.repeat(list("abcd"), 10)
    tasks = innerloop.EpisodeSampler(from_arrays(X, y), n_way=3, k_shot=2, k_query=3)
    assert tasks.batch(0, 5).support_x.shape == (5, 6, 2, 30)


@trial("a data set that is empty, or a folder without a picture", "one error that names it")
def nothing_there(root: Path) -> None:
    with refused("the data set is empty"):
        from_dataset([])
    (root / "train").mkdir()
    with refused(str(root)):
        folder(root)


@trial("a hundred meta-batches, then the first ones again", "all different; the same when repeated")
def tasks_go_on(root: Path) -> None:
    tasks = innerloop.EpisodeSampler(_data(), n_way=5, k_query=2)
    drawn = [tasks.batch(i, 1).support_x.numpy().tobytes() for i in range(100)]
    assert len(set(drawn)) == 100
    again = innerloop.EpisodeSampler(_data(), n_way=5, k_query=2)
    assert [again.batch(i, 1).support_x.numpy().tobytes() for i in range(3)] == drawn[:3]


@trial("one seed twice, with other random numbers drawn between", "the same run, to the last bit")
def seeds(root: Path) -> None:
    first = _fit(root / "a")
    torch.rand(7)
    np.random.default_rng().random(3)
    second = _fit(root / "b")
    assert all(torch.equal(first.params[n], p) for n, p in second.params.items())
    assert first.results["accuracy"] == second.results["accuracy"]


@trial("a run of 3 iterations taken up again to 6, with Adam", "that of 6 at once, to the last bit")
def resumed(root: Path) -> None:
    same: dict[str, Any] = {"val_every": 3, "schedule": "constant"}
    whole = _fit(root / "whole", **same)
    _fit(root / "half", iterations=3, **same)
    rest = _fit(root / "half", resume=True, **same)
    assert all(torch.equal(whole.params[n], p) for n, p in rest.params.items())


@trial(
    "the trained weights loaded again and tested",
    "the accuracy that training printed; the best weights are a copy of their own",
)
def tested_again(root: Path) -> None:
    folders = classes(root / "pictures", "a b c d e f g h i j k l", number=4)
    settings = {"n_way": 2, "train_n_way": None, "k_query": 2, "eval_k_query": 2, "width": 4}
    small = {"iterations": 3, "val_every": 1, "val_tasks": 4, "test_tasks": 8, "threads": 1}
    known = {"split": "random", "out": root / "run", **settings, **small}
    run = innerloop.train(data=str(folders), **known)
    from innerloop.runs.loading import load_for

    loaded, tasks = load_for(root / "run")
    steps = loaded.config.eval_inner_steps
    again = innerloop.evaluate(loaded.algorithm, loaded.params, tasks, tasks=8, inner_steps=steps)
    assert again["accuracy"] == run.results["accuracy"]


@trial(
    "validation and test tasks of the training classes, or the very training tasks",
    "a warning that says so (was: nothing said)",
)
def leaks(root: Path) -> None:
    data = _data()
    maml = innerloop.MAML(_linear_two(), inner_lr=0.1, inner_steps=1)
    train = innerloop.EpisodeSampler(data, range(9), n_way=2, k_query=2)
    other = innerloop.EpisodeSampler(data, range(6, 15), n_way=2, k_query=2, split="test")
    small = {"iterations": 1, "test_tasks": 2, "val_tasks": 2, "threads": 1}
    with warned("test has 3 of its 9 classes in common with training"):
        innerloop.fit(maml, train, test=other, out=root / "a", **small)
    waves = innerloop.SinusoidSampler()
    network = innerloop.MAML(innerloop.models.MLP(1, 1), inner_lr=0.01, loss=nn.MSELoss())
    with warned("val begins with the first episode of training"):
        innerloop.fit(network, waves, val=waves, out=root / "b", **small)


@trial("which weights are tested", "the best by validation tasks; test tasks choose nothing")
def best_by_validation(root: Path) -> None:
    run = _fit(root / "run")
    lines = [json.loads(line) for line in (root / "run" / "metrics.jsonl").read_text().splitlines()]
    scores = {line["iteration"]: line["val_accuracy"] for line in lines if "val_accuracy" in line}
    assert scores[run.results["best_iteration"]] == max(scores.values())


class _Recurrent(nn.Module):
    def __init__(self, kind: type) -> None:
        super().__init__()
        self.rnn, self.head = kind(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


@trial("GRU, LSTM and RNN in the inner loop", "second-order gradients that are not zero")
def recurrent(root: Path) -> None:
    x = torch.randn(2, 6, 7, 4, generator=torch.Generator().manual_seed(1))
    y = torch.arange(6).repeat(2, 1) % 3
    for kind in (nn.GRU, nn.LSTM, nn.RNN):
        maml = innerloop.MAML(_Recurrent(kind), inner_lr=0.1, inner_steps=2)
        first = innerloop.MAML(maml.model, inner_lr=0.1, inner_steps=2, first_order=True)
        params = maml.init_params()
        episodes = innerloop.Episodes(x, y, x + 0.1, y)
        gradient, other = (each.meta_gradient(params, episodes)[0] for each in (maml, first))
        assert all(bool(g.abs().max() > 0) for g in gradient.values())
        assert not torch.allclose(gradient["rnn.weight_hh_l0"], other["rnn.weight_hh_l0"])


@trial("two hundred adaptations, one after another", "no tensor is left behind")
def memory(root: Path) -> None:
    maml = innerloop.MAML(_linear(), inner_lr=0.1, inner_steps=3)
    params = maml.init_params()

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(each), Tensor) for each in gc.get_objects())

    for i in range(220):
        maml.meta_gradient(params, EPISODES)
        maml.adapt(params, X[0], Y[0])
        if i == 19:
            before = tensors()
    assert tensors() <= before


@trial(
    "adapt, and look at the weights before and after", "the adapted ones are others, the old stay"
)
def adapted_weights(root: Path) -> None:
    maml = innerloop.MAML(_linear(), inner_lr=0.5, inner_steps=2)
    params = maml.init_params()
    before = {name: p.clone() for name, p in params.items()}
    adapted = maml.adapt(params, X[0], Y[0])
    assert all(torch.equal(params[name], p) for name, p in before.items())
    assert not torch.equal(adapted["0.weight"], before["0.weight"])


class _Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 3)
        self.again = self.body

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.again(torch.tanh(self.body(x)))))


@trial(
    "a layer that is used twice, reachable by two names", "one weight, adapted once; not written to"
)
def shared_layers(root: Path) -> None:
    torch.manual_seed(0)
    network = _Shared()
    before = copy.deepcopy(network.state_dict())
    maml = innerloop.MAML(network, inner_lr=0.5, inner_steps=2)
    maml.meta_gradient(maml.init_params(), EPISODES)
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())
    assert network.again is network.body


class _Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.spare = _linear(), nn.Linear(2, 2)
        self.net[0].requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@trial("frozen layers, and layers that the loss does not reach", "frozen stay; the others get zero")
def frozen_layers(root: Path) -> None:
    maml = innerloop.MAML(_Unused(), inner_lr=0.1, inner_steps=2)
    gradient, _ = maml.meta_gradient(maml.init_params(), EPISODES)
    assert "net.0.weight" not in gradient
    assert not gradient["spare.weight"].any()
    assert gradient["net.2.weight"].any()


@trial(
    "`nn.BatchNorm2d` with running statistics",
    'refused with two ways out, `bn="frozen"` and `replace_batch_norm`, which work for all tasks '
    "at once",
)
def batch_norm(root: Path) -> None:
    def network() -> nn.Module:
        torch.manual_seed(0)
        layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        return nn.Sequential(*layers, nn.Linear(16, 3))

    with refused("keeps running statistics", "bn='frozen'", "replace_batch_norm("):
        innerloop.MAML(network(), inner_lr=0.1, inner_steps=2)
    frozen = innerloop.MAML(network(), inner_lr=0.1, inner_steps=2, bn="frozen")
    own = innerloop.models.replace_batch_norm(network())
    x = torch.randn(2, 6, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    episodes = innerloop.Episodes(x, Y[:2], x, Y[:2])
    for maml in (frozen, innerloop.MAML(own, inner_lr=0.1, inner_steps=2)):
        gradient, _ = maml.meta_gradient(maml.init_params(), episodes)
        assert all(bool(g.isfinite().all()) for g in gradient.values())
    assert not frozen.model[1].running_mean.any()


@trial("a network in plain `torch.nn`, no layer defined anew", "takes it as it is")
def any_network(root: Path) -> None:
    body = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    network = nn.Sequential(body, nn.Flatten(), nn.Linear(12, 3))
    x = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(2))
    episodes = innerloop.Episodes(x, Y[:2], x, Y[:2])
    maml = innerloop.MAML(network, inner_lr=0.1, inner_steps=1)
    gradient, _ = maml.meta_gradient(maml.init_params(), episodes)
    assert len(gradient) == len(list(network.parameters()))


@trial("one query a class", "trained and tested like any number")
def one_query(root: Path) -> None:
    train, _, test = innerloop.split_tasks(_data(), n_way=2, k_query=1)
    maml = innerloop.MAML(_linear_two(), inner_lr=0.1, inner_steps=1)
    found = innerloop.evaluate(maml, maml.init_params(), test, tasks=40)
    assert 0 < found["accuracy"] < 1
    assert train.batch(0, 2).query_y.shape == (2, 2)


@trial(
    "samplers, algorithms and data sets in processes that are started anew",
    "they pickle, and give the same after it",
)
def pickled(root: Path) -> None:
    tasks = innerloop.EpisodeSampler(_data(), n_way=3, k_query=2)
    maml = innerloop.MAML(_linear(), inner_lr=0.1, inner_steps=1)
    for thing in (tasks, maml, _data()):
        again = pickle.loads(pickle.dumps(thing))
        assert type(again) is type(thing)
    again = pickle.loads(pickle.dumps(tasks))
    assert torch.equal(again.batch(3, 2).support_x, tasks.batch(3, 2).support_x)
