"""A name, a file or a module becomes a body; anything else is one error with a way out."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.base import clone

from innerloop import FewShotClassifier, UserError, references
from innerloop.backbones import Backbone, Preprocess, backbone
from innerloop.backbones.libraries import LIBRARIES
from innerloop.backbones.sources import _named, is_backbone
from tests.backbones import libraries
from tests.backbones.test_in_use import SIZE, pretrained


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """All three libraries, as `libraries` has them."""
    for make in (libraries.timm, libraries.torchvision, libraries.transformers):
        for name, module in make().items():
            monkeypatch.setitem(sys.modules, name, module)
    _named.cache_clear()
    yield
    _named.cache_clear()


def test_the_names_of_libraries_are_known_without_importing_them():
    assert tuple(LIBRARIES) == references.LIBRARIES


@pytest.fixture(scope="module")
def photos():
    return np.random.default_rng(0).integers(0, 256, (6, 40, 30, 3), dtype=np.uint8)


def by_hand(network, preprocess, photos):
    from PIL import Image

    x = torch.stack([preprocess(Image.fromarray(p)) for p in photos])
    with torch.no_grad():
        return network.eval()(x)


def test_timm(photos):
    body = backbone("timm:resnet.a1")
    assert body.network.asked == ("resnet.a1", True)
    expected = Preprocess(24, 0.95, mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225))
    assert body.preprocess == expected
    torch.testing.assert_close(body.features(photos), by_hand(pretrained(), expected, photos))
    assert backbone("timm:squash").preprocess.fit == "stretch"


def test_torchvision_without_its_last_layer(photos):
    body = backbone("torchvision:resnet")
    expected = Preprocess(
        24, 24 / 27, interpolation="bilinear", mean=(0.5,) * 3, deviation=(0.25,) * 3
    )
    assert body.preprocess == expected
    torch.testing.assert_close(body.features(photos), by_hand(pretrained(), expected, photos))


@pytest.mark.parametrize(
    ("name", "output", "fit"),
    [
        ("crop", "pooler_output", "crop"),
        ("square", "pooler_output", "stretch"),
        ("square/pooler.dense.weight", "class token", "stretch"),
    ],
)
def test_transformers(name, output, fit, photos):
    """A pooler that the checkpoint has no weights for is random: it is left out."""
    body = backbone(f"transformers:{name}")
    assert (body.output, body.preprocess.fit) == (output, fit)
    assert body.preprocess.mean == (0.4, 0.5, 0.6)
    tokens = by_hand(libraries.Dino(), body.preprocess, photos)["last_hidden_state"]
    expected = tokens[:, 0] if output == "class token" else tokens.mean(dim=1)
    torch.testing.assert_close(body.features(photos), expected)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("timm:nothing", r"cannot make timm:nothing \(Unknown model.*list_models"),
        ("timm:offline", r"cannot fetch timm:offline .*Try again with a connection"),
        ("timm:border", "crop_mode border: give preprocess="),
        ("torchvision:nothing", "cannot make torchvision:nothing"),
        ("torchvision:segments", "not a classifier whose last layer is linear"),
        ("transformers:offline", "cannot fetch transformers:offline"),
        ("transformers:odd", "does not say to which square"),
        ("transformers:square/layer.0.weight", "lacks weights, among them layer.0.weight"),
        ("nowhere.py:make", "there is no file"),
        ("tests.backbones.libraries:nothing", "has no nothing"),
        ("tests.backbones.libraries:PROCESSORS", "must be a torch.nn.Module or a function"),
        ("tests.backbones.libraries:Net", "failed: .*missing 1 required positional argument"),
        ("no such name", "does not name a network: write timm:NAME"),
    ],
)
def test_what_cannot_be_had_is_one_clear_error(source, message):
    with pytest.raises(UserError, match=message):
        backbone(source)


@pytest.mark.parametrize("library", ["timm", "torchvision", "transformers"])
def test_what_is_not_installed(library, monkeypatch):
    for name in (library, "timm.data", "torchvision.models"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UserError, match=rf"{library} is not installed: pip install .*{library}"):
        backbone(f"{library}:x")


NETS = """
import torch
from torch import nn
from innerloop.backbones import Preprocess

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6)

    def forward(self, x):
        return self.norm(self.conv(x)).relu().mean(dim=(2, 3))

def make():
    torch.manual_seed(0)
    return Small()

network = make()
pixels = Preprocess(16, mean=(0.5, 0.5, 0.5))

def halves(picture):
    return Preprocess(16)(picture) / 2
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_of_ones_own_with_weights(nets, photos):
    weights = {n: t + 0.25 for n, t in backbone("nets.py:make").network.state_dict().items()}
    save_file({n: t.contiguous() for n, t in weights.items()}, "w.safetensors")
    torch.save({"epoch": 3, "state_dict": {f"module.{n}": t for n, t in weights.items()}}, "w.pt")
    plain = backbone("nets.py:make", image_size=16)
    assert plain.preprocess == Preprocess(16, fit="stretch", interpolation="lanczos")
    found = [
        backbone("nets.py:Small", weights=file, preprocess="nets.py:pixels").features(photos)
        for file in ("w.safetensors", "w.pt")
    ]
    torch.testing.assert_close(found[0], found[1])
    assert not torch.allclose(found[0], plain.features(photos))
    halved = backbone("nets.py:network", preprocess="nets.py:halves")
    assert halved.features(photos).shape == (6, 6)
    # A file that changes is read again.
    save_file({n: (t * 2).contiguous() for n, t in weights.items()}, "w.safetensors")
    again = backbone("nets.py:Small", weights="w.safetensors", preprocess="nets.py:pixels")
    assert not torch.allclose(again.features(photos), found[0])


def test_weights_of_a_library_with_the_layer_that_it_lost(tmp_path, photos):
    network = libraries.Net(10)
    save_file(network.state_dict(), tmp_path / "full.safetensors")
    body = backbone("timm:resnet.a1", weights=tmp_path / "full.safetensors")
    assert body.network.asked == ("resnet.a1", False)
    torch.testing.assert_close(
        body.features(photos), by_hand(network.body, body.preprocess, photos)
    )


@dataclass
class Halves:
    """A function from pictures that has no hash."""

    size: int

    def __call__(self, picture):
        return Preprocess(self.size)(picture) / 2


def test_a_named_network_with_any_preprocessing(nets, photos):
    expected = backbone("nets.py:make", preprocess="nets.py:halves").features(photos)
    found = backbone("nets.py:make", preprocess=Halves(16)).features(photos)
    torch.testing.assert_close(found, expected)
    listed = backbone("nets.py:make", preprocess=Preprocess(16, mean=[0.5, 0.5, 0.5]))
    assert listed is backbone("nets.py:make", preprocess=Preprocess(16, mean=(0.5, 0.5, 0.5)))


def test_options_that_do_not_go_together(nets):
    body = backbone("nets.py:make")
    assert backbone(body) is body
    for call, message in (
        (lambda: backbone(body, image_size=3), "give it alone"),
        (lambda: backbone(pretrained(), weights="w.pt"), "load_state_dict"),
        (
            lambda: backbone("nets.py:make", preprocess="nets.py:halves", image_size=9),
            "leave out image_size=",
        ),
        (lambda: backbone("nets.py:make", preprocess="nets.py:Small"), "must be an innerloop"),
        (lambda: FewShotClassifier(weights="w.pt").fit([[0]], [0]), "weights is for pretrained"),
        (lambda: FewShotClassifier(pretrained(), bn="no").fit([[0]], [0]), "bn must be one of"),
        (
            lambda: FewShotClassifier(pretrained(), bn="transductive").fit([[0]], [0]),
            "batch norm has constants, so leave bn out",
        ),
        (
            lambda: FewShotClassifier(pretrained(), inner_steps=3).fit([[0]], [0]),
            "inner_steps is for head='inner_loop', and head is 'auto'",
        ),
        (lambda: FewShotClassifier(pretrained(), ink="dark").fit([[0]], [0]), "takes any pictures"),
    ):
        with pytest.raises(UserError, match=message):
            call()


def test_which_names_are_of_networks_of_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").mkdir()
    others = ["timm:x", "nets.py:make", "package.nets:Net", pretrained()]
    ours = ["omniglot-conv4", "runs/first", "a:b", tmp_path, None, "model.safetensors"]
    assert [is_backbone(x) for x in others] == [True] * 4
    assert [is_backbone(x) for x in ours] == [False] * 6


def test_a_classifier_with_a_named_body_is_small_when_pickled(nets, photos):
    """It also works in a process that has not imported the file's module."""
    classifier = FewShotClassifier("nets.py:make", image_size=16)
    classifier.fit(photos[:4], ["a", "a", "b", "b"])
    assert clone(classifier).get_params() == classifier.get_params()
    content = pickle.dumps(classifier)
    expected = classifier.predict_proba(photos)
    (nets / "c.pickle").write_bytes(content)
    np.save(nets / "photos.npy", photos)
    code = (
        "import pickle, numpy as np; c = pickle.load(open('c.pickle', 'rb')); "
        "np.save('found.npy', c.predict_proba(np.load('photos.npy')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=nets)
    np.testing.assert_allclose(np.load(nets / "found.npy"), expected, atol=1e-6)
    assert pickle.loads(content).predict_proba(photos).tolist() == expected.tolist()


def test_pickled_with_other_weights_than_now(nets, photos):
    save_file(backbone("nets.py:make").network.state_dict(), "w.safetensors")
    classifier = FewShotClassifier("nets.py:make", weights="w.safetensors")
    content = pickle.dumps(classifier.fit(photos[:2], [0, 1]))
    other = {n: t + 1 for n, t in backbone("nets.py:make").network.state_dict().items()}
    save_file(other, "w.safetensors")
    with pytest.raises(UserError, match="has changed its weights since this was pickled"):
        pickle.loads(content)


def test_a_network_that_changes_after_fit_is_named(photos):
    network = pretrained()
    classifier = FewShotClassifier(network, preprocess=Preprocess(SIZE)).fit(photos[:2], [0, 1])
    with torch.no_grad():
        next(network.parameters()).mul_(2)
    with pytest.raises(UserError, match="have changed since fit"):
        classifier.predict(photos)


def test_a_body_given_as_an_object(photos):
    body = Backbone(pretrained(), Preprocess(SIZE), name="mine")
    classifier = FewShotClassifier(body).fit(photos[:4], [0, 0, 1, 1])
    assert pickle.loads(pickle.dumps(classifier)).predict(photos).shape == (6,)
    assert clone(classifier).fit(photos[:4], [0, 0, 1, 1]).predict(photos).shape == (6,)
    same = FewShotClassifier(body.network, preprocess=Preprocess(SIZE), layers=())
    expected = same.fit(photos[:4], [0, 0, 1, 1]).predict_proba(photos)
    np.testing.assert_allclose(classifier.predict_proba(photos), expected, atol=1e-6)


DRAWN = """
import torch
from torch import nn


def make():
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def loads():
    network = make()
    with torch.no_grad():
        for p in network.parameters():
            p.fill_(0.1)
        network[0].weight[::2] *= -1
    return network
"""


def test_weights_that_are_drawn_are_a_warning_and_the_same_every_time(
    tmp_path, monkeypatch, photos
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(DRAWN)
    state, found = torch.get_rng_state(), []
    for _ in range(2):
        _named.cache_clear()
        with pytest.warns(UserWarning, match=r"weights are drawn at random \(0\.weight\)"):
            found.append(backbone("nets.py:make", image_size=32).features(photos))
        assert torch.equal(torch.get_rng_state(), state)
        torch.rand(1)
        state = torch.get_rng_state()
    assert torch.equal(*found)
    # Nothing is said of a network that brings its weights, or is given them.
    backbone("nets.py:loads", image_size=32)
    made = backbone("nets.py:loads", image_size=32).network
    save_file(made.state_dict(), tmp_path / "w.safetensors")
    backbone("nets.py:make", weights="w.safetensors", image_size=32)


def test_flattened_colours_are_refused(photos):
    """Whether channels come first or last cannot be told of them."""
    classifier = FewShotClassifier(pretrained(), image_size=32, head="cosine")
    square = photos[:, :30]
    classifier.fit(square, [0, 1, 0, 1, 0, 1])
    with pytest.raises(UserError, match=r"3 colours of a flattened picture .* cannot be told"):
        FewShotClassifier(pretrained(), image_size=32).fit(square.reshape(6, -1), [0, 1] * 3)
    grey = square[..., 0]
    flat, whole = (
        FewShotClassifier(pretrained(), image_size=32, head="cosine").fit(x, [0, 1] * 3)
        for x in (grey.reshape(6, -1), grey)
    )
    a, b = flat.predict_proba(grey.reshape(6, -1)), whole.predict_proba(grey)
    np.testing.assert_allclose(a, b)
