"""ResNet-12: the published network, and its meta-gradient in every way of computing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import innerloop
from innerloop import MAML, TrainConfig, UserError
from innerloop.algorithms.execution import why_not
from innerloop.build import build_model
from innerloop.models import ResNet12
from tests.helpers import loop_meta_gradient, random_episodes, relative_error
from tests.small_runs import SMALL

NARROW = (2, 3, 4, 5)


def narrow(**options) -> ResNet12:
    return ResNet12(3, **{"channels": 1, "widths": NARROW, "head": "random", **options}).double()


@pytest.mark.parametrize(
    ("options", "size", "features"),
    [
        ({}, (84, 84), 640),
        ({"widths": (16, 32, 64, 128)}, (84, 84), 128),
        ({"widths": NARROW, "channels": 1}, (28, 28), 5),
        ({"widths": NARROW, "channels": 1, "head": "shared"}, (16, 40), 5),
    ],
)
def test_shapes(options, size, features):
    model = ResNet12(7, **options)
    x = torch.rand(2, options.get("channels", 3), *size)
    with torch.no_grad():
        assert model.features(x).shape == (2, features)
        assert model(x).shape == (2, 1 if options.get("head") == "shared" else 7)


def test_it_has_the_published_number_of_parameters():
    model = ResNet12(5)
    body = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("head."))
    assert body == 12_424_320
    assert sum(p.numel() for p in model.parameters()) == body + 5 * 640 + 5


def test_it_equals_its_description():
    """Written out with PyTorch's own pooling and batch norm."""
    model = narrow()
    h = x = torch.rand(6, 1, 33, 20, dtype=torch.float64)

    def normalised(h, conv, norm):
        h = F.conv2d(h, conv.weight, None, padding=conv.weight.shape[-1] // 2)
        return F.batch_norm(h, None, None, norm.weight, norm.bias, training=True)

    for block in model.blocks:
        shortcut = normalised(h, block.shortcut, block.shortcut_norm)
        for i in range(2):
            h = F.leaky_relu(normalised(h, block.convs[i], block.norms[i]), 0.1)
        h = normalised(h, block.convs[2], block.norms[2]) + shortcut
        h = F.max_pool2d(F.leaky_relu(h, 0.1), 2)
    h = F.adaptive_avg_pool2d(h, 1).flatten(1)
    torch.testing.assert_close(model(x), F.linear(h, model.head.weight, model.head.bias))


@pytest.mark.parametrize("bn", ["transductive", "support"])
@pytest.mark.parametrize("head", ["random", "shared"])
@pytest.mark.parametrize("first_order", [True, False])
def test_meta_gradient_equals_the_naive_loop_in_every_way(head, first_order, bn):
    episodes = random_episodes(tasks=2)
    model = narrow(head=head)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    found = {}
    for way in ("auto", "loop", "vmap", "stacked"):
        maml = MAML(model, 0.1, 2, first_order, execution=way, bn=bn)
        params = maml.init_params()
        if way == "auto" or why_not(maml, way, 1.0, training=True) is None:
            found[way], _ = maml.meta_gradient(params, episodes)
    assert {"auto", "loop", "vmap"} <= found.keys()
    expected = found["loop"]
    if bn == "transductive":

        def expand(params):
            row = {n: p.expand(3, *p.shape[1:]) for n, p in params.items() if "head" in n}
            return params | row if head == "shared" else params

        expected, _ = loop_meta_gradient(
            model,
            params,
            episodes,
            inner_lr=0.1,
            inner_steps=2,
            first_order=first_order,
            expand=expand,
        )
    for way, gradient in found.items():
        assert relative_error(gradient, expected) < 1e-10, way


def test_dropout_is_a_function_of_the_keys_in_training_and_off_in_use():
    episodes = random_episodes(tasks=2)
    with_dropout, without = narrow(drop_rate=0.3), narrow()
    ways = [MAML(with_dropout, 0.1, 2, execution=way) for way in ("loop", "vmap")]
    plain = MAML(without, 0.1, 2)
    params = plain.init_params()
    one, same = (maml.meta_gradient(params, episodes, keys=(1, 2))[0] for maml in ways)
    other = ways[0].meta_gradient(params, episodes, keys=(3, 4))[0]
    assert relative_error(one, same) < 1e-10
    assert relative_error(one, other) > 1e-3
    assert relative_error(one, plain.meta_gradient(params, episodes)[0]) > 1e-3
    scores = (maml.score_steps(params, episodes)["loss"] for maml in (ways[0], plain))
    torch.testing.assert_close(*scores)


def test_a_block_drops_its_share():
    block = ResNet12(5, widths=(64, 1, 1, 1), drop_rate=0.25, channels=1).blocks[0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        y = block(torch.rand(4, 1, 32, 32))
    assert (y == 0).double().mean().item() == pytest.approx(0.25, abs=0.02)
    assert (block.eval()(torch.rand(4, 1, 32, 32)) == 0).sum() == 0


def test_initial_weights_are_those_of_the_published_code():
    model = ResNet12(5)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 10_000:
            outputs, _, *kernel = module.weight.shape
            expected = (2 / (outputs * kernel[0] * kernel[1])) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.02)
    again, other = ResNet12(5, widths=NARROW), ResNet12(5, widths=NARROW, seed=1)
    torch.manual_seed(1)
    state = ResNet12(5, widths=NARROW).state_dict()
    assert all(torch.equal(p, state[n]) for n, p in again.state_dict().items())
    assert not torch.equal(again.blocks[0].shortcut.weight, other.blocks[0].shortcut.weight)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"widths": (64, 160, 320)}, "widths must be four numbers"),
        ({"widths": (0, 1, 1, 1)}, "widths must be four numbers"),
        ({"drop_rate": 1.0}, "drop_rate must be at least 0 and less than 1, not 1.0"),
        ({"drop_rate": -0.1}, "drop_rate must be at least 0"),
        ({"head": "cosine"}, "head must be"),
    ],
)
def test_what_is_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        ResNet12(5, **wrong)


def test_small_images_are_refused():
    with pytest.raises(UserError, match="at least 16 pixels a side, not 28 x 15"):
        narrow()(torch.rand(2, 1, 28, 15))


def test_settings_choose_it():
    config = TrainConfig(model="resnet12", width=64, drop_rate=0.1, head="shared")
    model = build_model(config, (3, 84, 84))
    assert isinstance(model, ResNet12)
    assert [block.convs[2].out_channels for block in model.blocks] == [64, 160, 320, 640]
    assert {block.dropout.p for block in model.blocks} == {0.1}
    assert model.head.weight.shape == (1, 640)
    with pytest.raises(UserError, match="at least 16 pixels"):
        build_model(config, (3, 84, 8))


def test_a_run_trains_it_and_its_weights_load(noise, tmp_path):
    settings = {**SMALL, "model": "resnet12", "width": 2, "drop_rate": 0.1}
    run = innerloop.train(data=str(noise), out=tmp_path / "run", **settings)
    assert run.results["iterations"] == settings["iterations"]
    assert isinstance(innerloop.load(tmp_path / "run").model, ResNet12)


def test_all_tasks_go_through_at_once():
    model = ResNet12(3, channels=1, widths=(16, 16, 16, 16)).double()
    algorithm = MAML(model, 0.1, 1, execution="stacked")
    algorithm.meta_gradient(algorithm.init_params(), random_episodes(shape=(1, 16, 16)))
    assert algorithm.explain().startswith("stacked")
