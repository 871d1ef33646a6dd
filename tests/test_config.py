"""Settings: files, presets, and mistakes in them."""

from __future__ import annotations

from importlib import resources

import pytest
import yaml

from innerloop import TrainConfig, UserError
from innerloop.config import preset_names


def test_presets_are_there_and_valid():
    assert set(preset_names()) == {
        "quick",
        "tutorial",
        "finn2017-5way-1shot",
        "finn2017-5way-5shot",
        "finn2017-20way-1shot",
        "finn2017-20way-5shot",
    }
    for name in preset_names():
        TrainConfig.preset(name)


@pytest.mark.parametrize("name", [n for n in preset_names() if n != "quick"])
def test_presets_of_publications_do_not_lean_on_defaults(name):
    """Tuning the quick recipe must not change them: all that matters is written out."""
    text = (resources.files("innerloop") / "presets" / f"{name}.yaml").read_text("utf-8")
    free = {
        *("omniglot_source", "image_size", "glyph_classes", "max_seconds", "seed", "threads"),
        *("chunk_size", "device", "precision", "within_group", "inner_max_norm", "bn", "val_tasks"),
        *("rotate_test", "first_order", "pool", "unit_features", "clip_value", "init"),
        # Of another network, or of an algorithm that the papers have not.
        *("drop_rate", "unit_length", "distance"),
        # What other algorithms take, and what does not change the numbers.
        *("adapted", "second_order_from", "derivative", "inner_batch_size", "learn_inner_lr"),
        *("per_step_norm", "per_step_statistics", "multi_step_loss_until"),
        *("regularization", "cg_steps", "execution", "loss", "metric"),
    }
    assert set(TrainConfig().to_dict()) - free <= set(yaml.safe_load(text))


def test_quick_is_the_default():
    assert TrainConfig.preset("quick") == TrainConfig()


@pytest.mark.parametrize(
    ("ways", "steps", "rate", "batch", "eval_steps"), [(5, 1, 0.4, 32, 3), (20, 5, 0.1, 16, 5)]
)
@pytest.mark.parametrize("shots", [1, 5])
def test_finn2017_is_as_published(ways, shots, steps, rate, batch, eval_steps):
    c = TrainConfig.preset(f"finn2017-{ways}way-{shots}shot")
    assert (c.n_way, c.k_shot, c.k_query, c.eval_k_query) == (ways, shots, shots, shots)
    assert (c.inner_steps, c.eval_inner_steps, c.inner_lr) == (steps, eval_steps, rate)
    assert (c.meta_batch_size, c.meta_lr, c.iterations) == (batch, 1e-3, 60_000)
    assert (c.clip_value, c.clip_norm, c.inner_reduction) == (10, None, "per_shot")
    assert (c.rotate, c.rotate_test, c.first_order, c.schedule) == (True, True, False, "constant")
    assert (c.model, c.width, c.pool, c.head) == ("conv4", 64, "stride", "linear")


def test_tutorial_is_value_for_value():
    c = TrainConfig.preset("tutorial")
    assert (c.n_way, c.k_shot, c.k_query, c.meta_batch_size) == (5, 1, 15, 8)
    assert (c.inner_lr, c.inner_steps, c.eval_inner_steps, c.meta_lr) == (0.04, 5, 5, 2e-4)
    assert (c.first_order, c.inputs, c.rotate) == (True, "raw", False)
    assert (c.model, c.split, c.iterations) == ("tutorial_conv", "tutorial-no-validation", 60_000)
    assert (c.width, c.head, c.schedule, c.clip_norm) == (64, "linear", "constant", None)
    assert c.inner_reduction == "mean"


def test_file_round_trip(tmp_path):
    config = TrainConfig(iterations=7, max_seconds=1.5, data="omniglot")
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(config.to_dict()))
    assert TrainConfig.from_file(path) == config


def test_numbers_as_people_write_them(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("meta_lr: 1e-3\ninner_lr: 1\nmax_seconds: null\n")
    config = TrainConfig.from_file(path)
    assert config.meta_lr == 0.001
    assert isinstance(config.inner_lr, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_ways: 5", "unknown setting 'n_ways': did you mean 'n_way'"),
        ("zzz: 5", "unknown setting 'zzz'; known: data"),
        ("n_way: five", "n_way must be of type int"),
        ("n_way: 5.5", "n_way must be of type int"),
        ("n_way: true", "n_way must be of type int"),
        ("rotate: 1", "rotate must be of type bool"),
        ("meta_lr: fast", "meta_lr must be of type float"),
        ("meta_lr: .nan", "meta_lr must be a finite number"),
        ("bn: running", "bn must be one of transductive, support"),
        ("n_way: 1", "n_way must be at least 2"),
        ("iterations: 0", "iterations must be at least 1"),
        ("meta_lr: -1", "meta_lr must be greater than 0"),
        ("head: linear", "train_n_way can differ"),
        ("model: tutorial_conv", "set head to linear"),
        (
            "model: mlp\nhead: linear\ntrain_n_way: null\ninit: xavier",
            "init xavier is for model conv4",
        ),
        ("drop_rate: 0.1", "drop_rate is for model resnet12, not for conv4"),
        ("model: resnet12\ndrop_rate: 1", "drop_rate must be at least 0 and less than 1"),
        ("- a\n- b", "must hold `name: value` lines"),
        ("{", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("", "must hold `name: value` lines"),
    ],
)
def test_mistakes_are_named(text, message, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        TrainConfig.from_file(path)


def test_missing_file_and_preset():
    with pytest.raises(UserError, match=r"cannot read nowhere\.yaml"):
        TrainConfig.from_file("nowhere.yaml")
    with pytest.raises(UserError, match="no preset 'slow': choose from finn2017"):
        TrainConfig.preset("slow")
