"""Checks of values: one clear sentence for any input."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import innerloop
from innerloop import MAML, UserError
from innerloop.errors import (
    above_zero,
    at_least,
    at_most,
    first_line,
    one_of,
    share_below_one,
    share_inside,
    share_of_training,
    whole,
)
from innerloop.heads.choice import fit_head
from innerloop.models import MLP, Conv4


@pytest.mark.parametrize(
    "check",
    [
        lambda **v: at_least(1, **v),
        lambda **v: at_most(3, **v),
        above_zero,
        whole,
        share_of_training,
        share_below_one,
    ],
)
def test_text_in_place_of_a_number_is_named(check):
    with pytest.raises(UserError, match="steps must be a number, not 'all': give a number"):
        check(steps="all")
    with pytest.raises(UserError, match="steps must be a number, not True: give a number"):
        check(steps=True)
    with pytest.raises(UserError, match="steps must be a number, not '2': leave out the quotes"):
        check(steps="2")


def test_true_is_no_number():
    for check in (above_zero, whole):
        with pytest.raises(UserError, match="image_size must be a number, not True"):
            check(image_size=True)


@pytest.mark.parametrize("value", [["a"], {"a": 1}, 3, None, np.array(["a"])])
def test_what_is_no_text_is_none_of_the_choices(value):
    for choices in (("a", "b"), {"a": 1, "b": 2}):
        with pytest.raises(UserError, match="views must be one of a, b, not"):
            one_of(choices, views=value)


@pytest.mark.parametrize("value", [0, 1, -0.1, float("nan"), None])
def test_a_share_is_above_0_and_below_1(value):
    with pytest.raises(UserError, match="reject is a share above 0 and below 1, not"):
        share_inside(reject=value)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("one\ntwo"), "one"),
        (RuntimeError("\n one\n"), "one"),
        (RuntimeError(), "RuntimeError"),
        (RuntimeError("long " * 100), "long long long ..."),
    ],
)
def test_the_first_line_of_what_an_error_says(error, line):
    assert first_line(error, 20) == line


def test_a_part_of_a_step_is_refused():
    with pytest.raises(UserError, match=r"iterations must be a whole number, not 2\.5"):
        whole(iterations=2.5)


def test_a_loss_by_name_is_refused():
    with pytest.raises(UserError, match="loss must be a function of outputs and targets"):
        MAML(nn.Linear(3, 2), loss="mse")


def test_numbers_beyond_single_precision_are_refused():
    with pytest.raises(UserError, match="example 1 holds infinite values, or too large ones"):
        innerloop.data.from_arrays(np.array([[1.0], [1e300]]), ["a", "b"])


def test_what_has_no_second_derivative_is_named():
    def hinge(outputs, targets):
        return nn.functional.multi_margin_loss(outputs, targets)

    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 3))
    x, y = torch.rand(2, 6, 1, 3, 3), torch.arange(3).repeat(2, 2)
    tasks = innerloop.Episodes(x, y, x, y)
    algorithm = MAML(network, 0.1, loss=hinge)
    with pytest.raises(UserError, match=r"no second derivative .*multi_margin.* first_order=True"):
        algorithm.meta_gradient(algorithm.init_params(), tasks)
    simple = MAML(network, 0.1, loss=hinge, first_order=True)
    simple.meta_gradient(simple.init_params(), tasks)


class CopiesAPart(nn.Module):
    def __init__(self):
        super().__init__()
        self.part, self.out = nn.Linear(9, 4), nn.Linear(4, 3)

    def forward(self, x):
        still = copy.deepcopy(self.part)
        return self.out(self.part(x) - still(x).detach())


class CallsAPart(CopiesAPart):
    """As the error says."""

    def forward(self, x):
        values = {name: p.detach() for name, p in self.part.named_parameters()}
        return self.out(self.part(x) - torch.func.functional_call(self.part, values, x) / 2)


@pytest.mark.falls_back
def test_weights_that_are_copied_in_forward_are_named():
    x, y = torch.rand(2, 6, 9), torch.arange(3).repeat(2, 2)
    tasks = innerloop.Episodes(x, y, x, y)
    for execution in ("auto", "loop"):
        maml = MAML(CopiesAPart(), 0.1, execution=execution)
        for call in (
            lambda maml: maml.meta_gradient(maml.init_params(), tasks),
            lambda maml: maml.adapt(maml.init_params(), x[0], y[0]),
        ):
            with pytest.raises(UserError, match=r"copy\.deepcopy .* torch\.func\.functional_call"):
                call(maml)
    maml = MAML(CallsAPart(), 0.1)
    grads, _ = maml.meta_gradient(maml.init_params(), tasks)
    assert grads["part.weight"].any()


@pytest.mark.parametrize(
    "call",
    [
        lambda n, way: innerloop.FewShotClassifier(inner_steps=n).fit(np.eye(28)[None], ["a"]),
        lambda n, way: innerloop.MAML(Conv4(2), inner_steps=n),
        lambda n, way: innerloop.IMAML(Conv4(2), cg_steps=n),
        lambda n, way: innerloop.TrainConfig.from_dict({"inner_steps": n}),
        lambda n, way: innerloop.TrainConfig.from_dict({"cg_steps": n}),
        lambda n, way: innerloop.TrainConfig.from_dict({"eval_inner_steps": n}),
        lambda n, way: innerloop.evaluate(*way, tasks=2, inner_steps=n),
        lambda n, way: innerloop.export("omniglot-conv4", "x.onnx", inner_steps=n),
        lambda n, way: fit_head(np.eye(2), np.arange(2), "inner_loop", inner_steps=n),
    ],
)
@pytest.mark.parametrize("steps", [-1, 0, 10_001, 10**12])
def test_steps_without_an_end_are_refused(call, steps):
    """They ran for ever, and kept the weights after each."""
    sampler = innerloop.SinusoidSampler(2)
    maml = innerloop.MAML(MLP(1, 1))
    with pytest.raises(
        UserError, match=r"steps must be (at (least 1|most 10,000)|less than .*), not"
    ):
        call(steps, (maml, maml.init_params(), sampler))
