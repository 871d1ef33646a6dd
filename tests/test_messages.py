"""Mistakes with one's own objects: one clear error each, with a way out."""

from __future__ import annotations

import inspect
import shutil
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import innerloop
from innerloop import UserError
from innerloop.cli import main
from innerloop.data.random_images import random_images
from innerloop.keywords import keywords_checked
from tests.training import own

SMALL = {"iterations": 2, "meta_batch_size": 2, "val_every": 2, "val_tasks": 2, "test_tasks": 2}


# ---- Keywords


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: innerloop.fit(own.algorithm(), own.train(), iteration=3), "fit .* iterations?"),
        (lambda: innerloop.resume("run", iteration=3), "resume has no argument 'iteration'"),
        (lambda: innerloop.train(inner_lrr=0.1), "did you mean inner_lr, in algorithm"),
        (lambda: innerloop.evaluate(None, {}, None, task=3), "did you mean tasks"),
        (lambda: innerloop.load("run", trusted=True), "did you mean trust"),
        (lambda: innerloop.split_tasks(None, nway=3), "did you mean n_way"),
        (lambda: innerloop.data.from_arrays(None, None, lables=3), "from_arrays has no argument"),
        (lambda: innerloop.MAML(own.Net(), inner_lrr=0.1), "MAML .* did you mean inner_lr"),
        (lambda: innerloop.ANIL(own.Net(), inner_step=1), "ANIL .* did you mean inner_steps"),
        (lambda: innerloop.ProtoNet(own.Net(), distances=1), "ProtoNet .* did you mean distance"),
        (lambda: own.Damped(own.Net(), chunksize=1), "Damped .* did you mean chunk_size"),
        (
            lambda: innerloop.MAML(own.Net(), zzz=1),
            "MAML has no argument 'zzz': it has adapted, bn",
        ),
    ],
)
def test_a_misspelt_keyword_has_a_near_name(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_a_class_that_takes_any_keyword_is_left_alone():
    class Any(innerloop.MAML):
        def __init__(self, model, **options):
            self.extra = options.pop("extra")
            super().__init__(model, **options)

    assert Any(own.Net(), extra=3, inner_lr=0.1).extra == 3


def test_a_checked_function_is_what_it_was():
    def add(a: int, b: int = 1) -> int:
        """The sum."""
        return a + b

    checked = keywords_checked(add)
    assert (checked(1), checked(1, b=3), checked.__doc__) == (2, 4, "The sum.")


PUBLIC = [
    function
    for package in (innerloop, innerloop.data)
    for function in map(partial(getattr, package), package.__all__)
    # What registers is a decorator, and `train` takes all settings.
    if inspect.isfunction(function) and not function.__name__.startswith(("register_", "train"))
]


@pytest.mark.parametrize("function", PUBLIC, ids=lambda f: f.__qualname__)
def test_each_public_function_says_what_it_takes(function):
    if inspect.signature(function).parameters:
        with pytest.raises(UserError, match=f"{function.__name__} has no argument 'missspelt'"):
            function(missspelt=1)
    for name, parameter in inspect.signature(function).parameters.items():
        if isinstance(parameter.default, bool):
            with pytest.raises(UserError, match=f"{name} must be True or False, not 'no'"):
                function(**{name: "no"})


# ---- True or false: text is true to Python, "no" as well

SWITCHES = [
    (cls, name)
    for cls in (
        *(innerloop.MAML, innerloop.ANIL, innerloop.BOIL, innerloop.MetaSGD),
        *(innerloop.MAMLPlusPlus, innerloop.IMAML, innerloop.Reptile, innerloop.ProtoNet),
        *(own.Damped, innerloop.models.Conv4, innerloop.TrainConfig, innerloop.EpisodeSampler),
    )
    for name, parameter in inspect.signature(cls).parameters.items()
    if isinstance(parameter.default, bool)
]


@pytest.mark.parametrize(("cls", "name"), SWITCHES, ids=lambda v: getattr(v, "__name__", v))
@pytest.mark.parametrize("value", ["no", None, [], 2, torch.tensor(True)])
def test_switches_are_true_or_false(cls, name, value):
    first = [own.Net()] if issubclass(cls, innerloop.Algorithm) else []
    if cls is innerloop.EpisodeSampler:
        first = [random_images(8, 4)]
    with pytest.raises(UserError, match=f"{name} must (be True or False|not be None)"):
        cls(*first, **{name: value})


def test_switches_by_place_and_of_numpy():
    assert len(SWITCHES) > 15
    with pytest.raises(UserError, match="first_order must be True or False, not 'no'"):
        innerloop.MAML(own.Net(), 0.1, 1, "no")
    for value in (np.bool_(True), 1, True):
        assert innerloop.MAML(own.Net(), 0.1, 1, value).first_order
    with pytest.raises(UserError, match="skip_broken must be True or False"):
        innerloop.data.load("nowhere", skip_broken="no")
    with pytest.raises(UserError, match="fine_tune must be True or False"):
        innerloop.FewShotClassifier(fine_tune="no").fit(np.zeros((2, 28, 28)), [0, 1])


# ---- Examples of another shape


def tasks(side):
    pictures = np.random.default_rng(0).integers(0, 255, (160, side, side), dtype=np.uint8)
    data = innerloop.data.from_arrays(pictures, np.repeat(np.arange(20), 8))
    return innerloop.split_tasks(data, n_way=3, k_query=2)


NETWORKS = {
    "own": lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 3)),
    "convolution": lambda: nn.Sequential(nn.Conv2d(1, 16, 3), nn.Flatten(), nn.Linear(10816, 3)),
    "ours": lambda: innerloop.models.MLP(784, 3),
}
ALGORITHMS = (innerloop.MAML, innerloop.Reptile, innerloop.IMAML, innerloop.ProtoNet)


@pytest.mark.parametrize("made", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("kind", ALGORITHMS, ids=lambda kind: kind.__name__)
def test_pictures_of_another_size_are_named(kind, made, tmp_path):
    algorithm, found = kind(made()), tasks(20)
    params = algorithm.init_params()
    episodes = found.train.batch(0, 2)
    x, y = episodes.support_x, episodes.support_y
    for call in (
        lambda: innerloop.evaluate(algorithm, params, found.test, tasks=2),
        lambda: innerloop.fit(algorithm, found.train, out=tmp_path / "run", **SMALL),
        lambda: algorithm.adapt(params, x[0], y[0], n_way=3),
        lambda: algorithm.inner_loop_each(params, x, y),
        lambda: algorithm.meta_gradient(params, episodes),
    ):
        with pytest.raises(UserError, match=r"cannot take examples of shape \(1, 20, 20\) \("):
            call()


def test_what_it_was_trained_on_is_named_where_it_is_known(runs):
    loaded = innerloop.load(runs / "wave")
    with pytest.raises(UserError, match=r"of shape \(1, 20, 20\); it was trained on \(1,\)"):
        innerloop.evaluate(loaded.algorithm, loaded.params, tasks(20).test, tasks=2)


def test_an_error_that_is_not_about_the_examples_stays_what_it_is():
    def wrong(outputs, targets):
        raise RuntimeError("the loss itself")

    algorithm = innerloop.MAML(own.Net(), loss=wrong)
    with pytest.raises(RuntimeError, match="the loss itself"):
        algorithm.meta_gradient(algorithm.init_params(), own.Series().batch(0, 2))


# ---- Outputs that the loss does not take


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = own.Net()

    def forward(self, x):
        return {"logits": self.net(x), "norm": x.norm()}


@pytest.mark.parametrize("loss", [F.cross_entropy, nn.CrossEntropyLoss(), nn.MSELoss()])
@pytest.mark.parametrize("kind", [innerloop.MAML, innerloop.Reptile, innerloop.IMAML])
def test_a_dict_of_outputs_needs_a_loss(kind, loss, tmp_path):
    algorithm = kind(Named(), loss=loss)
    message = r"returns a dict, and the loss, \w+, takes a tensor: give loss=.*outputs\['logits'\]"
    with pytest.raises(UserError, match=message):
        innerloop.evaluate(algorithm, algorithm.init_params(), own.Series(), tasks=2)
    with pytest.raises(UserError, match=message):
        innerloop.fit(algorithm, own.Series(), out=tmp_path / "run", **SMALL)
    # The way out.
    algorithm = kind(Named(), loss=lambda outputs, y: F.cross_entropy(outputs["logits"], y))
    gradient, _ = algorithm.meta_gradient(algorithm.init_params(), own.Series().batch(0, 2))
    assert all(torch.isfinite(g).all() for g in gradient.values())


def test_prototypes_of_a_dict_are_refused():
    algorithm = innerloop.ProtoNet(Named())
    with pytest.raises(UserError, match=r"compares features .* not a dict"):
        algorithm.meta_gradient(algorithm.init_params(), own.Series().batch(0, 2))


# ---- Runs whose objects cannot be imported


def test_a_run_of_objects_is_drawn_without_episodes(tmp_path, capsys):
    parts = {"train": own.train(), "val": own.val(), "test": own.val()}
    run = innerloop.fit(own.algorithm(), **parts, out=tmp_path / "run", **SMALL)
    again = shutil.copytree(run.folder, tmp_path / "again")
    picture = str(tmp_path / "both.png")
    assert main(["plot", str(run.folder), str(again), "--out", picture]) == 2
    assert "without test episodes: --episodes 0" in capsys.readouterr().err
    assert main(["plot", str(run.folder), str(again), "--out", picture, "--episodes", "0"]) == 0
