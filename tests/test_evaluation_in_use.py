"""`evaluate_in_use` tells what `FewShotClassifier` answers, task by task."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

import innerloop
from innerloop import EpisodeSampler, FewShotClassifier, UserError
from innerloop.calibration import expected_calibration_error
from innerloop.cli import main
from innerloop.in_use import PARTS

DATA = innerloop.data.glyphs(40)
TASKS = 6


def by_the_classifier(loaded, sampler, **settings):
    """Accuracies, and probabilities of the right class, of the same tasks from the pictures."""
    accuracies, rights, everything = [], [], []
    chosen, turns, _ = sampler.indices(0, TASKS)
    for pictures, turned in zip(chosen, turns, strict=True):
        images = [
            [np.rot90(sampler.data.images[i, 0], int(turn)) for i in row]
            for row, turn in zip(pictures, turned, strict=True)
        ]
        k, labels = sampler.k_shot, np.arange(len(images))
        support = np.stack([image for row in images for image in row[:k]])
        queries = np.stack([image for row in images for image in row[k:]])
        classifier = FewShotClassifier(loaded, prepare="none", **settings)
        found = classifier.fit(support, labels.repeat(k)).predict_proba(queries)
        truth = labels.repeat(sampler.k_query)
        accuracies.append((found.argmax(1) == truth).mean())
        rights += found[np.arange(len(truth)), truth].tolist()
        everything.append((torch.from_numpy(found), torch.from_numpy(truth)))
    error = expected_calibration_error(*(torch.cat(part) for part in zip(*everything, strict=True)))
    return accuracies, -np.log(rights).mean(), error


@pytest.mark.parametrize("k_shot", [1, 3])
@pytest.mark.parametrize("name", ["omniglot-conv4", "omniglot-5steps", "omniglot-protonet"])
def test_answers_are_those_of_the_classifier(name, k_shot):
    loaded = innerloop.load(name)
    sampler = EpisodeSampler(DATA, n_way=5, k_shot=k_shot, k_query=4, split="test", rotate=True)
    done = []
    found = innerloop.evaluate_in_use(loaded, sampler, tasks=TASKS, on_progress=done.append)
    accuracies, loss, error = by_the_classifier(loaded, sampler)
    assert found["accuracies"] == pytest.approx(accuracies)
    assert found["accuracy"] == pytest.approx(np.mean(accuracies))
    assert found["ci95"] == pytest.approx(1.96 * np.std(accuracies, ddof=1) / TASKS**0.5)
    assert found["loss"] == pytest.approx(loss, abs=1e-4)
    assert found["calibration_error"] == pytest.approx(error, abs=1e-4)
    assert done == list(range(1, TASKS + 1))
    assert found["protocol"]["in_use"]


def test_steps_are_those_of_use_and_not_of_the_tests(monkeypatch):
    """Several pictures a class are learnt in small steps, unless others are asked for."""
    taken = []
    stages = innerloop.learners.AdaptedNetwork.stages
    monkeypatch.setattr(
        innerloop.learners.AdaptedNetwork,
        "stages",
        lambda self, x: taken.append(len(self._fast) - 1) or stages(self, x),
    )
    loaded = innerloop.load("omniglot-conv4")
    for k_shot, asked, expected in ((1, None, 1), (3, None, PARTS), (3, 2, 2)):
        sampler = EpisodeSampler(DATA, k_shot=k_shot, k_query=1)
        innerloop.evaluate_in_use(loaded, sampler, tasks=2, inner_steps=asked)
        assert set(taken) == {expected}
        taken.clear()


class Spots:
    """Tasks of one's own, with labels of a narrow type."""

    def batch(self, start, count):
        found = []
        for number in range(start, start + count):
            generator = torch.Generator().manual_seed(number)
            centres = 3 * torch.randn(3, 6, generator=generator)
            y = torch.arange(len(centres), dtype=torch.uint8).repeat(4)
            x = centres[y.long()] + 0.1 * torch.randn(len(y), 6, generator=generator)
            half = len(y) // 2
            found.append((x[:half], y[:half], x[half:], y[half:]))
        return innerloop.Episodes(*(torch.stack(parts) for parts in zip(*found, strict=True)))


def test_a_network_and_tasks_of_ones_own(tmp_path):
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU())
    algorithm = innerloop.ProtoNet(net)
    out = tmp_path / "run"
    innerloop.fit(algorithm, Spots(), out=out, iterations=1, meta_batch_size=1)
    loaded = innerloop.load(out, algorithm=algorithm)
    found = innerloop.evaluate_in_use(loaded, Spots(), tasks=10)
    assert found["accuracy"] > 0.9
    assert 0 <= found["calibration_error"] <= 1


def test_tasks_may_differ_in_the_number_of_classes():
    sampler = EpisodeSampler(DATA, n_way=(2, 6), k_shot=1, k_query=2)
    found = innerloop.evaluate_in_use(innerloop.load("glyphs-conv4"), sampler, tasks=8)
    assert found["accuracy"] > 0.6
    assert found["protocol"]["n_way"] == [2, 6]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("in use") / "run"
    small = {"glyph_classes": 300, "width": 16, "iterations": 2, "val_tasks": 2, "test_tasks": 2}
    innerloop.train(data="glyphs", **small, out=folder)
    return folder


def test_the_command(run, capsys):
    command = ["evaluate", str(run), "--in-use", "--tasks", "4", "--k-shot", "2"]
    assert main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["bn"] == "support"
    assert report["protocol"]["k_shot"] == 2
    assert "accuracies" not in report
    assert main(command) == 0
    out = capsys.readouterr().out
    assert f"accuracy {100 * report['accuracy']:.2f}" in out
    assert "calibration error" in out
    assert main([*command, "--data", "glyphs", "random"]) == 0
    assert capsys.readouterr().out.count("accuracy") == 2


def test_what_cannot_be_is_said(run, capsys, tmp_path):
    assert main(["evaluate", str(run), "--in-use", "--lake"]) == 2
    assert "--in-use is not for --lake" in capsys.readouterr().err
    with pytest.raises(UserError, match="tasks must be at least 2"):
        innerloop.evaluate_in_use(innerloop.load(run), EpisodeSampler(DATA), tasks=1)
    sinusoid = innerloop.train(
        data="sinusoid", iterations=1, val_tasks=2, test_tasks=2, out=tmp_path / "sine"
    )
    assert main(["evaluate", str(sinusoid.folder), "--in-use", "--tasks", "2"]) == 2
    assert "was trained for regression" in capsys.readouterr().err


class Given:
    """One task again and again."""

    def __init__(self, **changes):
        generator = torch.Generator().manual_seed(0)
        y = torch.arange(3).repeat(1, 2)
        x = torch.rand(1, 6, 1, 28, 28, generator=generator)
        self.parts = {"support_x": x, "support_y": y, "query_x": x, "query_y": y, **changes}

    def batch(self, start, count):
        parts = {k: v.repeat(count, *[1] * (v.ndim - 1)) for k, v in self.parts.items()}
        return innerloop.Episodes(**parts)


X = torch.rand(1, 6, 1, 28, 28)


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({}, {"inner_steps": 0}, "inner_steps must be at least 1"),
        ({}, {"inner_steps": 1.5}, "inner_steps"),
        ({}, {"bn": "none"}, "bn"),
        ({"support_x": X * torch.nan}, {}, "task 0 are not finite"),
        ({"support_y": torch.tensor([[1, 2, 3] * 2])}, {}, "run from 0 to N-1"),
        ({"support_y": torch.tensor([[-1, 0, 1] * 2])}, {}, "run from 0 to N-1"),
        ({"support_y": torch.zeros(1, 6).long()}, {}, "two or more"),
        ({"query_y": torch.tensor([[0, 1, 5] * 2])}, {}, "queries of classes"),
        ({"support_y": torch.rand(1, 6)}, {}, "must be integers, not float32"),
        ({"support_x": X.double(), "query_x": X.double()}, {}, "float64"),
        ({"support_x": X[..., :20], "query_x": X[..., :20]}, {}, "20"),
    ],
)
def test_what_is_wrong_with_tasks_is_one_clear_error(changes, settings, message):
    loaded = innerloop.load("omniglot-conv4")
    assert innerloop.evaluate_in_use(loaded, Given(), tasks=2)["protocol"]["inner_steps"] == PARTS
    with pytest.raises(UserError, match=message):
        innerloop.evaluate_in_use(loaded, Given(**changes), tasks=2, **settings)


def test_only_what_load_gives_is_evaluated():
    with pytest.raises(UserError, match=r"loaded must be what innerloop\.load gives, not a str"):
        innerloop.evaluate_in_use("omniglot-conv4", Given(), tasks=2)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([[1, 2, 1, 2]]), "task 0 has the labels 1, 2 in its support set"),
        (torch.tensor([[0, 2, 0, 2]]), "number its classes 0 to N-1"),
        (torch.rand(1, 4), "real numbers, not classes: use innerloop.evaluate"),
    ],
)
def test_labels_are_checked_for_a_network_of_ones_own_too(y, message, tmp_path):
    net = nn.Sequential(nn.Linear(6, 3))
    algorithm = innerloop.MAML(net, 0.1, 1)
    out = tmp_path / "run"
    innerloop.fit(algorithm, Spots(), out=out, iterations=1, meta_batch_size=1)
    loaded = innerloop.load(out, algorithm=algorithm)
    x = torch.rand(1, 4, 6)
    tasks = Given(support_x=x, support_y=y, query_x=x, query_y=y)
    with pytest.raises(UserError, match=message):
        innerloop.evaluate_in_use(loaded, tasks, tasks=2)
