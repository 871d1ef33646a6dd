"""Any network as a body: `FewShotClassifier(network)`, pretrained ones with their statistics."""

from __future__ import annotations

import copy
from itertools import chain

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.base import clone
from torch import nn

import innerloop
from innerloop import FewShotClassifier, UserError
from innerloop.cli import main
from tests.helpers import random_episodes

SIZE = 24


class Residual(nn.Module):
    """A small network of torchvision's kind: batch norm with running statistics, a shortcut."""

    def __init__(self, norm=nn.BatchNorm2d):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1, bias=False), norm(8)
        self.conv, self.norm2 = nn.Conv2d(8, 8, 3, 1, 1, bias=False), norm(8)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(x + self.norm2(self.conv(x)))
        return self.dropout(x.mean(dim=(2, 3)))


class Wrapped(nn.Module):
    """What other code returns in place of features `[B, F]`."""

    def __init__(self, form):
        super().__init__()
        self.body, self.form = pretrained(), form

    def forward(self, x):
        return self.form(self.body(x))


class Tied(nn.Module):
    """One convolution under two names."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.conv = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.again = self.conv

    def forward(self, x):
        return self.again(F.relu(self.conv(F.relu(self.stem(x))))).mean(dim=(2, 3))


def pretrained(**options):
    """With statistics that are not those of any batch here."""
    torch.manual_seed(0)
    network = Residual(**options)
    for module in network.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network


NETWORKS = {
    "running statistics": pretrained,
    "group norm": lambda: pretrained(norm=lambda c: nn.GroupNorm(2, c)),
    "no norm": lambda: pretrained(norm=lambda c: nn.Identity()),
    "no training": lambda: pretrained().requires_grad_(False),
    "in training mode": lambda: pretrained().train(),
    "double precision": lambda: pretrained().double(),
    "a tuple": lambda: Wrapped(lambda x: (x, None)),
    "a dict": lambda: Wrapped(lambda x: {"features": x, "map": x[:, :, None]}),
    "positions of one": lambda: Wrapped(lambda x: x[:, :, None, None]),
    "tied weights": lambda: Tied(),
}


@pytest.fixture(scope="module")
def photos():
    """Three classes of colours: `(support, labels, queries, truth)`, bytes `[n, 3, SIZE, SIZE]`."""
    generator = np.random.default_rng(0)
    colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])
    labels = np.repeat(np.arange(3), 4)
    noise = generator.integers(-40, 41, (12, 3, SIZE, SIZE))
    images = (colours[labels][:, :, None, None] + noise).astype(np.uint8)
    first = np.arange(12) % 4 < 2
    return images[first], labels[first], images[~first], labels[~first]


def by_hand(network, support, labels, queries):
    """Class means and cosines in a few lines of NumPy, independent of the package."""
    network = copy.deepcopy(network).eval()
    kind = next(network.parameters()).dtype
    with torch.no_grad():
        a, b = (network((torch.from_numpy(x).float() / 255).to(kind)) for x in (support, queries))
    a, b = (x["features"] if isinstance(x, dict) else x for x in (a, b))
    a, b = ((x[0] if isinstance(x, tuple) else x).flatten(1).float() for x in (a, b))
    if (a >= 0).all():
        a, b = a.sqrt(), b.clamp(min=0).sqrt()
    a, b = (F.normalize(x.double(), dim=1) for x in (a, b))
    means = torch.stack([a[torch.from_numpy(labels == c)].mean(0) for c in np.unique(labels)])
    return (30 * b @ F.normalize(means, dim=1).T).softmax(1).numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_class_means_of_the_networks_features(name, photos):
    support, labels, queries, _ = photos
    network = NETWORKS[name]()
    before, mode = copy.deepcopy(network.state_dict()), network.training
    settings = {"head": "cosine", "views": "whole", "layers": (), "temperature": 1.0}
    classifier = FewShotClassifier(network, image_size=SIZE, **settings).fit(support, labels)
    found = classifier.predict_proba(queries)
    np.testing.assert_allclose(found, by_hand(network, support, labels, queries), atol=1e-5)
    alone = np.concatenate([classifier.predict_proba(x[None]) for x in queries])
    np.testing.assert_allclose(alone, found, atol=1e-6)
    # The network belongs to the user: nothing in it has changed.
    assert network.training == mode
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())


@pytest.mark.parametrize("head", ["auto", "ridge", "cosine", "logistic", "inner_loop"])
def test_each_head_and_none_of_these(head, photos):
    support, labels, queries, truth = photos
    classifier = FewShotClassifier(pretrained(), image_size=SIZE, head=head, views="crops")
    classifier.fit(support, labels, background=255 - support)
    assert classifier.head_ == (classifier.head_ if head == "auto" else head)
    assert (classifier.predict(queries) == truth).all()
    assert classifier.temperature_ != 1
    stages = list(classifier.staged_predict_proba(queries))
    assert len(stages) == len(classifier.support_loss_) == (21 if head == "inner_loop" else 1)
    told = classifier.predict(queries, reject=0.2)
    least = classifier.familiarity(queries)[[answer is None for answer in told]]
    assert len(least) <= 2
    assert not len(least) or least.max() < classifier.familiarity(queries).mean()


def test_any_number_of_classes_cloned_and_in_any_form(photos, tmp_path):
    support, labels, queries, truth = photos
    classifier = clone(FewShotClassifier(pretrained(), image_size=SIZE))
    expected = classifier.fit(support, labels).predict_proba(queries)
    assert (expected.argmax(1) == truth).all()
    assert classifier.fit(support[:4], labels[:4]).predict_proba(queries).shape == (6, 2)
    pictures = [[Image.fromarray(x.transpose(1, 2, 0)) for x in set_] for set_ in photos[::2]]
    paths = [[tmp_path / f"{part}{i}.png" for i in range(len(pictures[part]))] for part in (0, 1)]
    for picture, path in zip(chain(*pictures), chain(*paths), strict=True):
        picture.save(path)
    forms = {
        "last": [x.transpose(0, 2, 3, 1) for x in (support, queries)],
        "PIL": pictures,
        "Path": paths,
        "text": [[str(path) for path in part] for part in paths],
        "array of text": [np.array([str(path) for path in part]) for part in paths],
        "RGBA": [[picture.convert("RGBA") for picture in part] for part in pictures],
    }
    for name, (a, b) in forms.items():
        found = classifier.fit(a, labels).predict_proba(b)
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=name)
    # Pictures of different sizes and without colour.
    odd = [pictures[0][0].resize((50, 31)), pictures[0][1].convert("L")]
    assert classifier.predict_proba(odd).shape == (2, 3)


def test_pictures_for_a_grey_network(episode_files):
    paths, labels, array = episode_files
    expected = FewShotClassifier().fit(array, labels).predict_proba(array)
    found = FewShotClassifier().fit(paths, labels).predict_proba(paths)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    red = Image.new("RGB", (28, 28), "red")
    with pytest.raises(UserError, match="picture 0 has colour, and the network takes grey"):
        FewShotClassifier().fit([red, red], ["a", "b"])


@pytest.fixture
def episode_files(tmp_path):
    """Six drawings as files."""
    data = innerloop.data.glyphs(300)
    array = np.concatenate([data.class_images(c)[:2, 0] for c in (0, 1, 2)])
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path, image in zip(paths, array, strict=True):
        Image.fromarray(image).save(path)
    return paths, [0, 0, 1, 1, 2, 2], array


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (7, "model must be a name, .* not int"),
        (nn.Conv2d(3, 4, 3), r"gives \[2, 4, 22, 22\] for 2 pictures.*AdaptiveAvgPool2d"),
        (nn.Linear(5, 2), r"Linear fails on pixels of shape \[2, 3, 24, 24\].*image_size="),
        (
            pretrained(norm=lambda c: nn.BatchNorm2d(c, track_running_stats=False)),
            "batch norm 'norm' of Residual keeps no running statistics",
        ),
        (innerloop.models.Conv4(3, channels=3, image_size=SIZE), "what innerloop.load gives"),
    ],
)
def test_a_network_that_does_not_fit_is_one_clear_error(model, message, photos):
    support, labels, *_ = photos
    with pytest.raises(UserError, match=message):
        FewShotClassifier(model, image_size=SIZE).fit(support, labels)


def test_the_error_about_running_statistics_keeps_them_first():
    """Its advice once dropped them: 72.4% became 37.0%."""
    network = nn.Sequential(pretrained(), nn.Linear(8, 3))
    with pytest.raises(UserError) as error:
        innerloop.MAML(network, 0.1)
    text = str(error.value)
    assert 0 < text.index("bn='frozen'") < text.index("replace_batch_norm")
    algorithm = innerloop.MAML(network, 0.1, bn="frozen")
    assert algorithm.bn == "frozen"


NETS = """
from tests.backbones.test_in_use import pretrained
from torch import nn

def make(n_way):
    return nn.Sequential(pretrained(), nn.Linear(8, n_way))
"""


def test_a_pretrained_network_through_the_command_line(tmp_path, monkeypatch, capsys):
    """`bn` frozen exists there too: trained, tested and used with the statistics it came with."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    pixels = np.random.default_rng(0).integers(0, 255, (12, 4, 3, SIZE, SIZE), dtype=np.uint8)
    np.save("photos.npy", pixels)
    words = "train --model nets.py:make --data photos.npy --n-way 2 --iterations 1 --val-every 1"
    words += " --val-tasks 2 --test-tasks 2 --out run"
    assert main(words.split()) == 2
    assert "--bn frozen" in capsys.readouterr().err
    assert main([*words.split(), "--bn", "frozen"]) == 0
    assert main(["evaluate", "run", "--tasks", "2"]) == 0
    loaded = innerloop.load("run")
    classifier = FewShotClassifier(loaded).fit(
        pixels[:2].reshape(8, 3, SIZE, SIZE), [0] * 4 + [1] * 4
    )
    assert classifier.predict_proba(pixels[2]).shape == (4, 2)
    assert loaded.algorithm.bn == "frozen"


@pytest.mark.parametrize("n_tasks", [1, 3])
def test_cosine_distance_in_every_way_of_computing(n_tasks):
    network = innerloop.models.Conv4(3, width=8, image_size=16).double()
    protonet = innerloop.ProtoNet(network, distance="cosine", execution="loop")
    episodes = random_episodes(tasks=n_tasks)
    params = protonet.init_params()
    expected, _ = protonet.meta_gradient(params, episodes)
    for execution in ("stacked", "shared_body"):
        other = innerloop.ProtoNet(network, distance="cosine", execution=execution)
        found, _ = other.meta_gradient(params, episodes)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient)
    with pytest.raises(UserError, match="distance must be one of euclidean, cosine"):
        innerloop.ProtoNet(network, distance="manhattan")
