"""Fine-tuning a pretrained network on a support set: a copy, and never worse by its own trials."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from innerloop import FewShotClassifier, UserError, fine_tuning
from innerloop.backbones import Backbone, Preprocess, tuning
from innerloop.cli import main
from tests.backbones.test_in_use import SIZE, photos, pretrained  # noqa: F401

COLOURS = np.array([[150, 120, 110], [120, 150, 110], [110, 120, 150]])


class Blind(nn.Module):
    """It hardly sees colours, until it is trained: bright grey drowns them."""

    def __init__(self):
        super().__init__()
        self.colours = nn.Parameter(0.02 * torch.eye(3))
        self.dropout, self.norm = nn.Dropout(0.5), nn.BatchNorm2d(3)
        self.noise = nn.Conv2d(3, 12, 5, bias=False, padding=2).requires_grad_(False)

    def forward(self, x):
        colours = (x - x.mean(dim=1, keepdim=True)).mean(dim=(2, 3)) @ self.colours
        texture = self.noise(self.norm(x)).std(dim=(2, 3))
        return self.dropout(torch.cat([colours, texture], dim=1))


def blind():
    torch.manual_seed(0)
    return Blind().train()


def things(shots, seed=0):
    """Three colours in very different noise, bytes `[3 * shots, 3, SIZE, SIZE]`, and labels."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), shots)
    noise = generator.normal(0, 1, (len(labels), 3, SIZE, SIZE))
    noise *= generator.uniform(5, 50, (len(labels), 3, 1, 1))
    images = COLOURS[labels][:, :, None, None] + noise
    return images.clip(0, 255).astype(np.uint8), labels


@pytest.fixture
def fast(monkeypatch):
    """Rates for so small a network."""
    monkeypatch.setattr(fine_tuning, "RATES", (0.01, 0.1))


def classifier(network, **options):
    return FewShotClassifier(network, image_size=SIZE, views="whole", layers=(), **options)


@pytest.mark.parametrize("shots", [1, 4])
def test_it_learns_what_the_frozen_network_does_not_see(shots, fast):
    support, labels = things(shots)
    queries, truth = things(30, seed=1)
    frozen = classifier(blind()).fit(support, labels)
    tuned = classifier(blind(), fine_tune=True).fit(support, labels)
    assert frozen.fine_tuned_ is None
    assert tuned.fine_tuned_ in (0.01, 0.1)
    assert tuned.score(queries, truth) > frozen.score(queries, truth) + 0.05


@pytest.mark.parametrize("shots", [1, 3])
def test_the_users_network_is_never_written_to(shots, fast):
    support, labels = things(shots)
    network = blind()
    before = copy.deepcopy(network.state_dict())
    random = torch.get_rng_state()
    fitted = classifier(network, fine_tune=True).fit(support, labels)
    assert torch.equal(torch.get_rng_state(), random)
    assert network.training
    assert all(p.grad is None for p in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    body = fitted._inputs.backbone.network
    assert body is not network
    # Batch norm is a constant, and so is what requires no gradient.
    for name in ("norm.running_mean", "norm.num_batches_tracked", "noise.weight"):
        assert torch.equal(body.state_dict()[name], before[name]), name
    assert not torch.equal(body.colours, network.colours)


@pytest.mark.parametrize("shots", [1, 3])
def test_the_network_stays_as_it_is_where_that_is_best(shots, monkeypatch):
    """Steps that ruin it, to infinity or not, are not taken."""
    support, labels = things(shots)
    network = pretrained()
    queries, _ = things(3, seed=1)
    expected = classifier(network).fit(support, labels)
    for rates in ((1e3,), (float("inf"),), ()):
        monkeypatch.setattr(fine_tuning, "RATES", rates)
        found = classifier(network, fine_tune=True).fit(support, labels)
        assert found.fine_tuned_ == 0
        assert found._inputs.backbone.network is network
        assert found.temperature_ == expected.temperature_
        np.testing.assert_array_equal(found.predict_proba(queries), expected.predict_proba(queries))
        assert found.score(support, labels) == expected.score(support, labels)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_learns_in_every_mode(mode, fast):
    support, labels = things(2)
    expected = classifier(blind(), fine_tune=True).fit(support, labels).predict_proba(support)
    network = blind()
    with mode():
        found = classifier(network, fine_tune=True).fit(support, labels).predict_proba(support)
    np.testing.assert_array_equal(found, expected)


def test_the_same_support_set_gives_the_same_network(fast):
    support, labels = things(3)
    queries, _ = things(3, seed=1)
    first = classifier(blind(), fine_tune=True).fit(support, labels)
    expected = first.predict_proba(queries)
    again = clone(first).set_params(model=blind()).fit(support, labels)
    np.testing.assert_array_equal(again.predict_proba(queries), expected)
    read = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(read.predict_proba(queries), expected)


def test_thresholds_come_from_pictures_that_nothing_has_learnt(fast, monkeypatch):
    """Each is told once, by a body and a head that were trained on the other half."""
    support, labels = things(5)
    trained = []
    real = tuning.tuned

    def watched(body, pictures, *arguments):
        trained.append(len(pictures))
        return real(body, pictures, *arguments)

    monkeypatch.setattr(fine_tuning, "tuned", watched)
    fitted = classifier(blind(), fine_tune=True).fit(support, labels)
    # Two halves for each rate, then all.
    assert sorted(trained) == [6, 6, 9, 9, 15]
    left_out = fitted._fitted.left_out_familiarity()
    assert len(left_out) == len(support)
    # The body has seen these, so they look more familiar than what is left out.
    assert np.mean(fitted.familiarity(support)) > np.mean(left_out)
    queries, _ = things(40, seed=2)
    refused = np.mean([answer is None for answer in fitted.predict(queries, reject=0.2)])
    assert refused < 0.3


def test_background_pictures_go_through_the_same_network(fast):
    support, labels = things(3)
    background = np.random.default_rng(5).integers(0, 256, (6, 3, SIZE, SIZE)).astype(np.uint8)
    fitted = classifier(blind(), fine_tune=True).fit(support, labels, background=background)
    assert fitted.predict(support).shape == (9,)


def test_the_network_as_it_is_sees_each_picture_once_for_all_trials(monkeypatch):
    monkeypatch.setattr(fine_tuning, "RATES", ())
    images, labels = things(4)
    body = Backbone(blind(), Preprocess(SIZE), keep=False)
    asked = []
    features = Backbone.features

    def counted(self, pictures, *words, **options):
        asked.append(len(pictures))
        return features(self, pictures, *words, **options)

    monkeypatch.setattr(Backbone, "features", counted)
    FewShotClassifier(body, views="whole", fine_tune=True).fit(images, labels, background=images)
    # For the trials, then to fit: the support set and the background.
    assert asked == [12, 12, 12, 12]


def test_what_cannot_be_trained_is_one_clear_error():
    support, labels = things(2)
    fixed = pretrained().requires_grad_(False)
    with pytest.raises(UserError, match=r"no parameter of Residual .* call network.requires_grad_"):
        classifier(fixed, fine_tune=True).fit(support, labels)

    class Shared(type(pretrained())):
        def __deepcopy__(self, memo):
            return self

    body = Backbone(Shared(), Preprocess(SIZE), name="mine")
    with pytest.raises(UserError, match="a copy of mine shares weights with it"):
        FewShotClassifier(body, fine_tune=True).fit(support, labels)
    with pytest.raises(UserError, match="fine_tune is for pretrained networks of others"):
        FewShotClassifier(fine_tune=True).fit(support, labels)


def test_on_the_command_line(photos, tmp_path, monkeypatch, capsys):  # noqa: F811
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text("from tests.backbones.test_in_use import pretrained as make")
    support, labels, *_ = photos
    for i, (x, label) in enumerate(zip(support, labels, strict=True)):
        folder = tmp_path / "support" / "abc"[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x.transpose(1, 2, 0)).save(folder / f"{i}.png")
    command = ["adapt", "nets.py:make", "--support", "support", "--query", "support/a/0.png"]
    assert main([*command, "--image-size", str(SIZE), "--fine-tune"]) == 0
    assert "the network stays, no better fine-tuned" in capsys.readouterr().out
    monkeypatch.setattr(fine_tuning, "clear_gain", lambda a, b: float(a is not b))
    assert main([*command, "--image-size", str(SIZE), "--fine-tune"]) == 0
    assert "the network was fine-tuned at a rate of 3e-05" in capsys.readouterr().out
