"""Weights that a user gives are checked by name and shape, also by the hooks of one task."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from innerloop import MAML, ProtoNet, UserError
from innerloop.algorithms import Algorithm
from innerloop.models import Conv4
from tests.helpers import random_episodes

TASK = random_episodes().task(0)
WRONG = {
    "missing": (lambda p: {n: v for n, v in p.items() if n != "1.weight"}, "no 1.weight: give all"),
    "unknown": (lambda p: {**p, "zz": torch.ones(1)}, "'zz', which is no meta-parameter"),
    "shape": (lambda p: {**p, "1.bias": torch.ones(1)}, r"has shape \(1.*\) and must have \(3,\)"),
    "array": (lambda p: {n: v.numpy() for n, v in p.items()}, "must be a tensor, not a ndarray"),
    "empty": (lambda p: {}, "params must be weights, .* not an empty dict"),
    "none": (lambda p: None, "params must be weights, .* not NoneType"),
}
HOOKS = {
    "forward": lambda maml, params: maml.forward(params, TASK.query_x),
    "query_outputs": lambda maml, params: maml.query_outputs(params, *TASK[::2]),
    "query_loss": lambda maml, params: maml.query_loss(params, TASK),
    "forward_each": lambda maml, params: maml.forward_each(
        params and {n: torch.as_tensor(p)[None] for n, p in params.items()}, TASK.query_x[None]
    ),
}


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(TASK.query_x[0].numel(), 3)).to(TASK.query_x)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(("wrong", "message"), WRONG.values(), ids=WRONG)
def test_hooks_of_one_task_name_wrong_weights(wrong, message, hook):
    """The module's own stood in for those that were missing."""
    if hook == "forward_each" and "ndarray" in message:
        return  # the call makes tensors of them
    maml = MAML(network(), 0.1)
    with pytest.raises(UserError, match=message):
        HOOKS[hook](maml, wrong(maml.init_params()))


def test_weights_that_serve_are_taken():
    maml = MAML(network(), 0.1)
    params = maml.init_params()
    one = maml.forward(params, TASK.query_x)
    each = maml.forward_each({n: p[None] for n, p in params.items()}, TASK.query_x[None])
    assert torch.equal(each[0], one)
    # Those that are not trained may be left out, and be among them.
    frozen = network()
    frozen[1].bias.requires_grad_(False)
    maml = MAML(frozen, 0.1)
    params = maml.init_params()
    assert "1.bias" not in params
    with_bias = params | {"1.bias": frozen[1].bias.detach()}
    assert torch.equal(maml.forward(params, TASK.query_x), maml.forward(with_bias, TASK.query_x))


@pytest.mark.parametrize("kind", [MAML, ProtoNet])
def test_a_shared_head_has_any_number_of_rows(kind):
    algorithm: Algorithm = kind(Conv4(5, head="shared", width=16))
    x, y = torch.randn(10, 1, 28, 28), torch.arange(5).repeat(2)
    fast = algorithm.adapt(algorithm.init_params(), x, y, n_way=5)
    assert algorithm.forward(fast, x).shape == (10, 5)
