"""Exported files answer as the classifier does, for tasks of every size."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import innerloop
from innerloop import FewShotClassifier, UserError
from innerloop.data.polarity import ink_is_dark
from innerloop.exporting.network import ink_is_dark as network_ink_is_dark
from innerloop.exporting.write import METADATA
from tests.helpers import in_threads

pytestmark = pytest.mark.filterwarnings("ignore")


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options)


CASES = [
    {"algorithm": "maml", "inner_steps": 2, "eval_inner_steps": 2},
    {"algorithm": "protonet"},
]
# Each is exported in some seconds.
LONG_CASES = [
    {"algorithm": "maml", "whole": True, "inner_max_norm": 1.0},
    # From a shared head, Adam makes rounding errors of gradients that are zero large.
    {
        "algorithm": "maml",
        "inner_optimizer": "adam",
        "head": "random",
        "train_n_way": 5,
        "inner_lr": 0.01,
    },
    {"algorithm": "anil", "eval_inner_steps": 2, "inner_reduction": "per_shot"},
    {"algorithm": "meta-sgd"},
    {"algorithm": "maml++"},
    {"algorithm": "reptile", "head": "random", "train_n_way": 5},
    {"algorithm": "fine-tune", "eval_inner_steps": 2},
]


@pytest.mark.parametrize(
    "settings",
    [*CASES, *(pytest.param(case, marks=pytest.mark.long) for case in LONG_CASES)],
    ids=lambda s: "-".join(map(str, s.values())),
)
def test_a_learner_answers_as_the_classifier_at_every_step(settings, network, task, tmp_path):
    loaded = network(**settings)
    # To find the ink, which has a test of its own, takes a third of the graph.
    told = innerloop.export(loaded, tmp_path / "learner.onnx", learner=True, ink="light")
    assert told["bn"] == "support"
    learner = session(tmp_path / "learner.onnx")
    ways = (2, 5, 20) if loaded.config.any_ways else (5,)
    for n_way in ways:
        support, labels, queries = task(n_way, queries=n_way - 1)
        # The learner takes the same number of steps for any number of shots.
        steps = int(told["inner_steps"]) or None
        classifier = FewShotClassifier(loaded, inner_steps=steps, ink="light", prepare="none")
        classifier.fit(support, labels)
        expected = np.stack(list(classifier.staged_predict_proba(queries)))
        given = {"support": support, "labels": labels, "queries": queries}
        logits, found = learner.run(["logits", "probabilities"], given)
        assert found.shape == logits.shape == expected.shape
        assert len(found) == int(told["inner_steps"]) + 1
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("bn", ["transductive", "per_step"])
def test_batch_statistics_from_elsewhere(bn, network, task, tmp_path):
    loaded = network(algorithm="maml++" if bn == "per_step" else "maml")
    innerloop.export(loaded, tmp_path / "learner.onnx", learner=True, bn=bn, ink="light")
    support, labels, queries = task(3, queries=4)
    steps = loaded.config.eval_inner_steps
    classifier = FewShotClassifier(loaded, inner_steps=steps, bn=bn, ink="light", prepare="none")
    classifier.fit(support, labels)
    given = {"support": support, "labels": labels, "queries": queries}
    (found,) = session(tmp_path / "learner.onnx").run(["probabilities"], given)
    expected = np.stack(list(classifier.staged_predict_proba(queries)))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("algorithm", ["maml", "anil", "protonet"])
@pytest.mark.parametrize("bn", ["support", "transductive"])
def test_an_adapted_network_answers_as_the_classifier(algorithm, bn, network, task, tmp_path):
    support, labels, queries = task(4, queries=9)
    names = np.array(["left", "rechts", "上", "down"])
    classifier = FewShotClassifier(network(algorithm=algorithm), bn=bn, prepare="none").fit(
        support, names[labels]
    )
    file = tmp_path / "classifier.onnx"
    told = classifier.export(file)
    adapted = session(file)
    for images in (queries, queries[:1]):
        (found,) = adapted.run(None, {"images": images})
        np.testing.assert_allclose(found, classifier.predict_proba(images), atol=1e-4)
    # Classes are named as the columns of predict_proba are.
    held = adapted.get_modelmeta().custom_metadata_map
    assert held == told
    assert json.loads(held["classes"]) == classifier.classes_.tolist()
    # Statistics of the support set are in the graph, its pictures are not.
    sizes = [np.prod(t.dims) for t in onnx.load(file).graph.initializer]
    assert support.size not in sizes


def test_two_threads_export_what_one_does(network, task, tmp_path):
    support, labels, queries = task(4, queries=9)
    classifier = FewShotClassifier(network(), prepare="none").fit(support, labels)
    files = [tmp_path / f"{i}.onnx" for i in range(2)]
    in_threads(lambda i: classifier.export(files[i]), count=2)
    for file in files:
        (found,) = session(file).run(None, {"images": queries})
        np.testing.assert_allclose(found, classifier.predict_proba(queries), atol=1e-4)


def test_a_norm_that_is_called_twice_keeps_the_support_set(network, task, tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.last = innerloop.models.BatchNorm(1), nn.Linear(256, 8)

        def forward(self, x):
            return self.last(self.norm(self.norm(x).relu() ** 2).flatten(1))

    algorithm = innerloop.ProtoNet(Twice(), bn="support")
    config = innerloop.FitConfig(algorithm="ProtoNet", model="Twice")
    loaded = network()._replace(
        model=algorithm.model, algorithm=algorithm, params=algorithm.init_params(), config=config
    )
    support, labels, queries = task(4, queries=9)
    classifier = FewShotClassifier(loaded, prepare="none").fit(support, labels)
    classifier.export(tmp_path / "classifier.onnx")
    (found,) = session(tmp_path / "classifier.onnx").run(None, {"images": queries})
    np.testing.assert_allclose(found, classifier.predict_proba(queries), atol=1e-4)


def test_the_format_of_pytorch(network, task, tmp_path):
    loaded = network()
    support, labels, queries = task(3, queries=4)
    classifier = FewShotClassifier(loaded, ink="light", prepare="none", inner_steps=1)
    classifier.fit(support, labels)
    told = classifier.export(tmp_path / "classifier.pt2")
    innerloop.export(loaded, tmp_path / "learner", learner=True, ink="light", format="torch-export")

    held = {METADATA: ""}
    adapted = torch.export.load(tmp_path / "classifier.pt2", extra_files=held).module()
    assert json.loads(held[METADATA]) == told
    found = adapted(torch.from_numpy(queries))["probabilities"]
    np.testing.assert_allclose(found, classifier.predict_proba(queries), atol=1e-4)

    learner = torch.export.load(str(tmp_path / "learner")).module()
    given = map(torch.from_numpy, (support, labels, queries))
    expected = np.stack(list(classifier.staged_predict_proba(queries)))
    np.testing.assert_allclose(learner(*given)["probabilities"], expected, atol=1e-4)


@pytest.mark.parametrize("ink", ["auto", "dark", "light"])
def test_ink_on_paper_is_read_as_the_classifier_reads_it(ink, network, task, tmp_path):
    loaded = network(algorithm="protonet")._replace(on_paper=True)
    innerloop.export(loaded, tmp_path / "learner.onnx", learner=True, ink=ink)
    learner = session(tmp_path / "learner.onnx")
    support, labels, queries = task(3, queries=4)
    for flip in (0, 255):
        x, q = support // 2 ^ flip, queries // 2 ^ flip
        classifier = FewShotClassifier(loaded, ink=ink, prepare="none").fit(x, labels)
        (found,) = learner.run(["probabilities"], {"support": x, "labels": labels, "queries": q})
        np.testing.assert_allclose(found[-1], classifier.predict_proba(q), atol=1e-4)


def test_the_graph_finds_dark_ink_where_the_classifier_does():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        values = rng.choice([0, 100, 120, 127, 128, 140, 255], size=2)
        height, width = rng.integers(2, 12, size=2) * rng.choice([1, 12])
        share = rng.random()
        images = values[(rng.random((rng.integers(1, 4), 1, height, width)) < share).astype(int)]
        images = (images * np.linspace(rng.choice([0.3, 1]), 1, width)).astype(np.uint8)
        if rng.random() < 0.5:
            deep = 1 + min(height, width) // 16
            wide = ((0, 0), (0, 0), (deep, deep), (deep, deep))
            images = np.pad(images, wide, constant_values=int(rng.choice([0, 60, 128, 255])))
        expected = ink_is_dark(images)
        assert bool(network_ink_is_dark(torch.from_numpy(images))) == expected
        found.append(expected)
    assert 50 < sum(found) < 250


def test_files_name_nothing_of_this_machine(network, task, tmp_path):
    support, labels, _ = task(3, queries=4)
    classifier = FewShotClassifier(network(algorithm="protonet"), prepare="none").fit(
        support, labels
    )
    for file in (tmp_path / "classifier.onnx", tmp_path / "classifier.pt2"):
        classifier.export(file)
        assert b".py" not in file.read_bytes()


class Bessel(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(256, 8)

    def forward(self, x):
        return self.last(torch.special.bessel_j0(x.flatten(1)))


def test_an_operation_without_a_translation_is_named(network, task, tmp_path):
    algorithm = innerloop.ProtoNet(Bessel(), bn="support")
    config = innerloop.FitConfig(algorithm="ProtoNet", model="Bessel")
    loaded = network()._replace(
        model=algorithm.model, algorithm=algorithm, params=algorithm.init_params(), config=config
    )
    with pytest.raises(UserError, match=r"bessel_j0.*torch-export"):
        innerloop.export(loaded, tmp_path / "learner.onnx", learner=True)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_said(network, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"must end in \.onnx or \.pt2"):
        innerloop.export(network(), tmp_path / "learner.bin", learner=True)
    with pytest.raises(UserError, match="needs a support set"):
        innerloop.export(network(), tmp_path / "learner.onnx", learner=False)
    with pytest.raises(UserError, match="classes of pictures"):
        innerloop.export(network(loss="mse"), tmp_path / "learner.onnx", learner=True)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"pip install 'innerloop\[export\]'"):
        innerloop.export(network(), tmp_path / "learner.onnx", learner=True)
