"""Maps of inner layers as features, of anyone's network, which is left as it was."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import FewShotClassifier, UserError
from innerloop.algorithms.network import Network
from innerloop.backbones import Backbone, Preprocess, backbone
from innerloop.backbones.maps import quarters, watch
from innerloop.cli import main
from innerloop.models import Conv4
from tests.backbones.test_body import PLAIN, Dino, own_home, photos  # noqa: F401
from tests.backbones.test_in_use import SIZE, pretrained
from tests.helpers import in_threads


def quarters_by_hand(x):
    """Of an even number of places."""
    h, w = x.shape[2] // 2, x.shape[3] // 2
    parts = [x[:, :, a : a + h, b : b + w].mean(dim=(2, 3)) for a in (0, h) for b in (0, w)]
    return torch.stack(parts, dim=2).flatten(1)


def forward(network, x, *paths):
    """The output, and what layers gave, of a copy."""
    network, found = copy.deepcopy(network).eval(), []
    for path in paths:
        network.get_submodule(path).register_forward_hook(lambda _, __, out: found.append(out))
    with torch.no_grad():
        out = network(x)
    return out, found


def parts_of(*parts):
    return torch.cat([F.normalize(part, dim=1) for part in parts], dim=1)


@pytest.mark.parametrize(("layers", "paths"), [("auto", ["norm2"]), (["norm", "conv"], None)])
def test_quarters_of_layers_follow_the_features(layers, paths, photos):  # noqa: F811
    network = pretrained()
    body = Backbone(network, PLAIN, layers=layers)
    paths = paths or layers
    assert body.layers == tuple(paths)
    assert body.width == 8 + len(paths) * 4 * 8
    out, found = forward(network, torch.stack([PLAIN(p) for p in photos]), *paths)
    expected = parts_of(out, *map(quarters_by_hand, found))
    torch.testing.assert_close(body.features(photos), expected)
    plain = Backbone(network, PLAIN).features(photos)
    torch.testing.assert_close(plain, out)


def test_tokens_of_a_transformer(photos):  # noqa: F811
    """The class token is left out; 3 x 3 places make quarters that overlap."""
    body = Backbone(Dino(), PLAIN, layers="auto")
    assert body.layers == ("norm",)
    out, (tokens,) = forward(Dino(), torch.stack([PLAIN(p) for p in photos]), "norm")
    places = tokens[:, 1:].mT.unflatten(2, (3, 3))
    expected = F.adaptive_avg_pool2d(places, 2).flatten(1)
    found = parts_of(out["last_hidden_state"][:, 0], expected)
    torch.testing.assert_close(body.features(photos), found)


def test_what_is_a_map():
    x = torch.randn(2, 5, 4, 4)
    expected = quarters_by_hand(x)
    for form in (x, (x, None), x.movedim(1, 3), x.flatten(2).mT, x.double()):
        torch.testing.assert_close(quarters(form), expected)
    # A class token and registers stand before the places.
    tokens = torch.cat([torch.full((2, 5, 5), 9.0), x.flatten(2).mT], dim=1)
    torch.testing.assert_close(quarters(tokens), expected)
    wide = torch.randn(2, 5, 4, 8)
    torch.testing.assert_close(quarters(wide), quarters_by_hand(wide))
    vector, one, line = torch.randn(2, 5), torch.randn(2, 5, 1, 1), torch.randn(2, 5, 1, 6)
    none = (vector, one, line, torch.randn(2, 35, 5), torch.ones(2, 3, 4, 4).long(), {"a": x}, None)
    for form in none:
        assert quarters(form) is None


class Functional(nn.Module):
    """No layer gives a map."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(3, 4)

    def forward(self, x):
        return self.last(x.mean(dim=(2, 3)))


def test_auto_without_any_map_is_the_network_alone(photos):  # noqa: F811
    network = Functional()
    body = Backbone(network, PLAIN, layers="auto")
    assert (body.layers, body.width) == ((), 4)
    assert torch.equal(body.features(photos), Backbone(network, PLAIN).features(photos))


class Twice(nn.Module):
    """One layer that is called twice: what it gave last counts."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 3, 3, 2, 1)
        self.again = self.conv

    def forward(self, x):
        return self.again(F.relu(self.conv(x))).mean(dim=(2, 3))


@pytest.mark.parametrize("layers", ["auto", ["conv"], ["again"]])
def test_a_layer_with_two_names_that_is_called_twice(layers, photos):  # noqa: F811
    out, (_, last) = forward(Twice(), torch.stack([PLAIN(p) for p in photos]), "conv")
    found = Backbone(Twice(), PLAIN, layers=layers).features(photos)
    torch.testing.assert_close(found, parts_of(out, quarters_by_hand(last)))


class Windows(nn.Module):
    """Its last layer takes the four windows of each picture for pictures."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.window = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 1, 1)

    def forward(self, x):
        x = self.conv(x)
        parts = x.unfold(2, SIZE // 2, SIZE // 2).unfold(3, SIZE // 2, SIZE // 2)
        parts = self.window(parts.movedim(1, 3).flatten(0, 2))
        return parts.mean(dim=(2, 3)).unflatten(0, (len(x), 4)).flatten(1)


def test_a_layer_that_sees_parts_of_pictures_gives_no_map():
    assert Backbone(Windows(), PLAIN, layers="auto").layers == ("conv",)
    with pytest.raises(UserError, match="layer 'window' of Windows gives no map"):
        Backbone(Windows(), PLAIN, layers="window")


def state(network):
    """All that a hook could be put into."""
    return [
        (name, sorted(vars(m)), id(m._forward_hooks), list(m._forward_hooks.items()), m.training)
        for name, m in network.named_modules()
    ]


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        raise ValueError(f"no {self.conv(x).ndim}")


def test_no_hook_is_left_on_the_users_module(photos):  # noqa: F811
    network, called = pretrained().train(), []
    network.norm.register_forward_hook(lambda _, __, out: called.append(1) or 2 * out)
    before = state(network)
    body = Backbone(network, PLAIN, layers=["norm", "conv"])
    called.clear()
    found = body.features(photos[:1])
    assert state(network) == before
    # The user's own goes on working, and counts.
    assert called == [1]
    plain = Backbone(pretrained(), PLAIN, layers=["norm", "conv"]).features(photos[:1])
    assert not torch.allclose(found, plain)
    failing = Failing()
    before = state(failing)
    with pytest.raises(UserError, match="ValueError"):
        Backbone(failing, PLAIN, layers="auto")
    assert state(failing) == before


def test_no_hook_is_left_on_a_network_of_this_package():
    """Copies of these share more with them."""
    network = Conv4(channels=3)
    before = state(network)
    Network(network)({}, torch.randn(2, 3, 28, 28), watch(None))
    assert state(network) == before


def test_eight_threads_give_the_answers_of_one(photos):  # noqa: F811
    body = Backbone(pretrained(), PLAIN, keep=False, layers=["norm", "conv"])
    expected = body.features(photos)
    for found in in_threads(lambda _: [body.features(photos) for _ in range(5)]):
        assert all(torch.equal(features, expected) for features in found)


def test_other_layers_are_kept_apart(photos, own_home):  # noqa: F811
    bodies = [Backbone(pretrained(), PLAIN, layers=n) for n in ((), ("norm",), ("conv",), "auto")]
    first = [body.features(photos) for body in bodies]
    assert len({body.identity for body in bodies}) == 4
    for body, expected in zip(bodies, first, strict=True):
        assert torch.equal(body.features(photos), expected)
    named = Backbone(pretrained(), PLAIN, layers=["norm2"])
    assert named.identity == bodies[-1].identity


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            "norm9",
            "layer 'norm9' of Residual gives no map .* with one are stem, norm, conv, norm2",
        ),
        (["norm", "dropout"], "layer 'dropout' of Residual gives no map"),
        (["auto", "norm"], "layer 'auto' of Residual gives no map"),
        (3, "layers must be names of layers, .* or 'auto', not 3"),
        ([3], "layers must be names of layers"),
        (["norm", "conv", "norm"], "layers names a layer twice"),
    ],
)
def test_a_layer_without_a_map_is_one_clear_error(layers, message):
    with pytest.raises(UserError, match=message):
        Backbone(pretrained(), PLAIN, layers=layers)
    with pytest.raises(UserError, match=r"gives no map .*: leave it out"):
        Backbone(Functional(), PLAIN, layers=["last"])


def sides(number):
    """Pictures with a bright left half, and such with a bright right half, in noise."""
    x = np.random.default_rng(number).integers(0, 200, (2 * number, 3, SIZE, SIZE))
    x[:number, :, :, : SIZE // 2] += 50
    x[number:, :, :, SIZE // 2 :] += 50
    return x.astype(np.uint8), np.repeat(["left", "right"], number)


def test_a_classifier_tells_what_lies_elsewhere():
    (support, labels), (queries, truth) = sides(1), sides(20)
    for layers, low, high in ((None, 0.9, 1.0), ("auto", 0.9, 1.0), ((), 0.2, 0.8)):
        classifier = FewShotClassifier(pretrained(), image_size=SIZE, views="whole", layers=layers)
        found = classifier.fit(support, labels).score(queries, truth)
        assert low <= found <= high, layers
        assert pickle.loads(pickle.dumps(classifier)).score(queries, truth) == found


def test_a_body_has_its_own_layers():
    support, labels = sides(2)
    body = Backbone(pretrained(), Preprocess(SIZE), layers="auto")
    assert backbone(body) is body
    assert FewShotClassifier(body).fit(support, labels).score(support, labels) == 1
    with pytest.raises(UserError, match="its preprocessing and its layers: give it alone"):
        FewShotClassifier(body, layers=["conv"]).fit(support, labels)
    with pytest.raises(UserError, match="layers is for pretrained networks of others"):
        FewShotClassifier(layers=["conv"]).fit(support, labels)


NETS = """
from tests.backbones.test_in_use import pretrained as make
"""


def test_layers_by_name_on_the_command_line(photos, tmp_path, monkeypatch, own_home, capsys):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    for i, picture in enumerate(photos[:4]):
        folder = tmp_path / "support" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{i}.png")
    told = []
    given = (["--layers", "norm", "conv"], ["--layers"], [])
    for layers in given:
        command = ["adapt", "nets.py:make", "--support", "support", "--query", "support/a/0.png"]
        assert main([*command, "--image-size", str(SIZE), "--json", *layers]) == 0
        told.append(capsys.readouterr().out)
    assert len(set(told)) == 3
    assert main([*command, "--layers", "norm7"]) == 2
    assert "nets.py:make gives no map" in capsys.readouterr().err
    made = backbone("nets.py:make", image_size=SIZE, layers=["norm", "conv"])
    again = pickle.loads(pickle.dumps(made))
    assert (again.layers, again.identity) == (("norm", "conv"), made.identity)
