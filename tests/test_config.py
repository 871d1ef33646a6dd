"""Settings: files, presets, and mistakes in them."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path

import pytest
import yaml

import innerloop
from innerloop import TrainConfig, UserError
from innerloop.config import PARTS, preset_names, read_settings
from innerloop.config.files import is_flat, settings_from

CONFIGS = Path(__file__).parents[1] / "configs"


def test_presets_are_there_and_valid():
    assert set(preset_names()) == {
        "quick",
        "tutorial",
        "finn2017-5way-1shot",
        "finn2017-5way-5shot",
        "finn2017-20way-1shot",
        "finn2017-20way-5shot",
        "emoji",
        "photos",
        "maml-cifar-fs-conv4",
        "maml-mini-imagenet-conv4",
        "unicorn-maml-cifar-fs-resnet12",
        "unicorn-maml-mini-imagenet-resnet12",
    }
    for name in preset_names():
        TrainConfig.preset(name)


@pytest.mark.parametrize(
    "name", [n for n in preset_names() if n not in ("quick", "photos", "emoji")]
)
def test_presets_of_publications_do_not_lean_on_defaults(name):
    """Tuning the quick recipe must not change them: all that matters is written out."""
    path = resources.files("innerloop") / "presets" / f"{name}.yaml"
    written = settings_from(read_settings(str(path)), TrainConfig, None)
    free = {
        *("omniglot_source", "image_size", "glyph_classes", "max_seconds", "seed", "threads"),
        *("chunk_size", "device", "precision", "within_group", "inner_max_norm", "bn", "val_tasks"),
        *("rotate_test", "first_order", "pool", "unit_features", "clip_value", "init"),
        # None of it unless it is asked for.
        *("normalize", "augment", "pretrain", "pretrain_lr", "train_k_shot"),
        *("body", "weights", "preprocess", "views"),
        # For another network, or for an algorithm that is not in the papers.
        *("drop_rate", "unit_length", "distance"),
        # Settings of other algorithms, and settings that do not change the numbers.
        *("adapted", "second_order_from", "derivative", "inner_batch_size", "learn_inner_lr"),
        *("per_step_norm", "per_step_statistics", "multi_step_loss_until"),
        *("regularization", "cg_steps", "execution", "loss", "metric"),
    }
    assert set(TrainConfig().to_dict()) - free <= set(written)


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
    config = TrainConfig(iterations=7, max_seconds=1.5, data="omniglot", inner_lr={"*": 0.1})
    path = tmp_path / "c.yaml"
    path.write_text(config.to_yaml())
    assert list(yaml.safe_load(path.read_text())) == [
        *("tasks", "network", "algorithm", "outer_loop", "run")
    ]
    assert TrainConfig.from_file(path) == config
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_every_setting_stands_in_one_part():
    names = [f.name for kind in PARTS.values() for f in dataclasses.fields(kind)]
    assert len(names) == len(set(names))
    assert set(names) == {field.name for field in dataclasses.fields(TrainConfig)}
    for part, kind in PARTS.items():
        assert kind.__doc__, part
        for field in dataclasses.fields(kind):
            assert field.default == getattr(TrainConfig(), field.name), field.name


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_configs_are_written_by_part(file):
    assert not is_flat(read_settings(file), TrainConfig)


def test_numbers_as_people_write_them(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "outer_loop:\n  meta_lr: 1e-3\n  max_seconds: null\nalgorithm:\n  inner_lr: 1\nnetwork:\n"
    )
    config = TrainConfig.from_file(path)
    assert config.meta_lr == 0.001
    assert isinstance(config.inner_lr, float)


def test_a_file_without_parts_is_read_with_one_note(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("algorithm: anil\ninner_lr: {'head.*': 4e-1, '*': 0.01}\nmeta_lr: 1e-3\n")
    with pytest.warns(UserWarning, match=r"c\.yaml has its settings in one list") as said:
        config = TrainConfig.from_file(path)
    assert len(said) == 1
    assert (config.algorithm, config.meta_lr) == ("anil", 0.001)
    assert config.inner_lr == {"head.*": 0.4, "*": 0.01}
    # The change that the note recommends.
    new = tmp_path / "new.yaml"
    new.write_text(config.to_yaml())
    assert TrainConfig.from_file(new) == config


@pytest.mark.parametrize(
    ("given", "rates"),
    [
        ("inner_lr: 1e-2", 0.01),
        ("inner_lr: 'head.*=0.4, *=1e-2'", {"head.*": 0.4, "*": 0.01}),
        ("inner_lr:\n    head.*: 0.4\n    '*': 1e-2", {"head.*": 0.4, "*": 0.01}),
    ],
)
def test_rates_as_files_have_them(given, rates, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(f"algorithm:\n  {given}\n")
    config = TrainConfig.from_file(path)
    assert config.inner_lr == rates
    # The order counts.
    if isinstance(rates, dict):
        assert list(config.inner_lr) == list(rates)
    path.write_text(config.to_yaml())
    assert TrainConfig.from_file(path) == config


def test_rates_are_the_configs_own():
    rates = {"*": 0.1}
    config = TrainConfig(inner_lr=rates)
    rates["*"] = 5.0
    assert config.inner_lr == {"*": 0.1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "tasks: {n_ways: 5}",
            "c.yaml, tasks has an unknown setting 'n_ways': did you mean n_way, in",
        ),
        (
            "tasks: {inner_l r: 5}",
            "unknown setting 'inner_l r': did you mean inner_lr, in algorithm",
        ),
        (
            "tasks: {zzz: 5}",
            "c.yaml, tasks has an unknown setting 'zzz'; known: data, omniglot_sou",
        ),
        ("network: {inner_lr: 5}", "c.yaml, network: inner_lr is a setting of algorithm: put it"),
        (
            "tasks: {n_way: 5}\nmeta_lr: 1",
            "c.yaml: meta_lr stands outside the parts: put it into o",
        ),
        ("task: {n_way: 5}", "c.yaml has an unknown part 'task': did you mean tasks"),
        (
            "zzz: {n_way: 5}",
            "unknown part 'zzz': there are tasks, network, algorithm, outer_loop, r",
        ),
        ("tasks: 5", "c.yaml: tasks must hold `name: value` lines"),
        ("tasks: {n_way: 5}\nalgorithm: maml", "algorithm must hold `name: value` lines"),
        ("tasks: {n_way: 5, n_way: 6}", "'n_way' stands there twice"),
        ("tasks: {n_way: 5}\ntasks: {k_shot: 6}", "'tasks' stands there twice"),
        ("tasks: {n_way: five}", "c.yaml, tasks: n_way must be of type int"),
        ("tasks: {n_way: 5.5}", "n_way must be of type int"),
        ("tasks: {n_way: true}", "n_way must be of type int"),
        ("tasks: {rotate: 1}", "rotate must be of type bool"),
        ("outer_loop: {meta_lr: fast}", "c.yaml, outer_loop: meta_lr must be of type float"),
        ("outer_loop: {meta_lr: .nan}", "c.yaml, outer_loop: meta_lr must be a finite number"),
        ("algorithm: {bn: running}", "bn must be one of transductive, support"),
        ("algorithm: {inner_lr: fast}", "inner_lr must be a number, or rates by pattern such as"),
        ("algorithm: {inner_lr: '=3'}", "'=3' is not PATTERN=RATE"),
        ("algorithm: {inner_lr: 'a=3,a=4'}", "inner_lr has two rates for 'a'"),
        ("algorithm: {inner_lr: 'a=3,b'}", "'b' is not PATTERN=RATE"),
        ("algorithm: {inner_lr: {a: b}}", r"inner_lr\['a'\] must be a number, not 'b'"),
        ("algorithm: {inner_lr: {a: -1}}", r"inner_lr\['a'\] must be greater than 0"),
        ("algorithm: {inner_lr: {a: .inf}}", r"inner_lr\['a'\] must be a number, not inf"),
        ("algorithm: {inner_lr: {}}", "inner_lr is empty"),
        ("algorithm: {inner_lr: [1]}", "inner_lr must be a number"),
        ("tasks: {n_way: 1}", "c.yaml, tasks: n_way must be at least 2"),
        ("outer_loop: {iterations: 0}", "c.yaml, outer_loop: iterations must be at least 1"),
        ("outer_loop: {meta_lr: -1}", "meta_lr must be greater than 0"),
        ("run: {eval_inner_steps: 0}", "c.yaml, run: eval_inner_steps must be at least 1"),
        ("run: {chunk_size: 0}", "c.yaml, run: chunk_size must be at least 1"),
        ("network: {head: linear}", "c.yaml: train_n_way can differ"),
        ("network: {model: tutorial_conv}", "c.yaml, network: .* set head to linear"),
        (
            "tasks: {train_n_way: null}\nnetwork: {model: mlp, head: linear, init: xavier}",
            "init xavier is for model conv4",
        ),
        ("network: {drop_rate: 0.1}", "drop_rate is for model resnet12, not for conv4"),
        (
            "network: {model: resnet12, drop_rate: 1}",
            "drop_rate must be at least 0 and less than 1",
        ),
        ("network: {model: con4}", "c.yaml, network: model must be one of conv4"),
        ("algorithm: {algorithm: mamel}", "c.yaml, algorithm: algorithm must be one of maml"),
        # Without parts, as before.
        ("n_ways: 5", "c.yaml has an unknown setting 'n_ways': did you mean n_way, in tasks"),
        ("zzz: 5", "unknown setting 'zzz'; known: data"),
        ("n_way: five", "c.yaml: n_way must be of type int"),
        ("algorithm: 5", "algorithm must be of type str"),
        ("n_way: 1", "n_way must be at least 2"),
        ("- a\n- b", "must hold `name: value` lines"),
        ("{", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("? [a, b]\n: 3", "c.yaml"),
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
    with pytest.raises(UserError, match="no preset 'slow': choose from emoji, finn2017"):
        TrainConfig.preset("slow")


def test_a_misspelt_keyword_has_a_near_name():
    with pytest.raises(UserError, match="'inner_lrr': did you mean inner_lr, in algorithm"):
        innerloop.train(inner_lrr=0.1)
