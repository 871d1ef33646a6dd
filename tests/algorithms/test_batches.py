"""What are no episodes, or no support set, is one clear error of every public method."""

from __future__ import annotations

import pytest
import torch

from innerloop import MAML, UserError, evaluate, fit
from tests.algorithms.test_arguments import episodes, network

BATCHES = {
    "none": (lambda e: None, "must be innerloop.Episodes.*, not None"),
    "text": (lambda e: "abcd", "must be innerloop.Episodes.*, not a str"),
    "dict": (lambda e: {"a": e[0], "b": e[1]}, "must be innerloop.Episodes.*a dict of 'a', 'b'"),
    "empty dict": (lambda e: {}, "must be innerloop.Episodes.*, not a dict of nothing"),
    "two": (lambda e: e[:2], "must be innerloop.Episodes.*, not a tuple of 2"),
    "five": (lambda e: (*e, e[0]), "must be innerloop.Episodes.*, not a tuple of 5"),
    "empty": (lambda e: (), "must be innerloop.Episodes.*, not a tuple of 0"),
    "tensor": (lambda e: e[0], "must be innerloop.Episodes.*, not a Tensor"),
    "number": (lambda e: 4, "must be innerloop.Episodes.*, not a int"),
    "nones": (lambda e: [None] * 4, "support_x of .* must be a tensor, not None"),
    "texts": (lambda e: (*e[:3], "y"), "query_y of .* must be a tensor, not a str"),
    "numbers": (lambda e: (*e[:3], torch.tensor(1)), "query_y of .* is one number"),
    "no tasks": (lambda e: [t[:0] for t in e], "there are no episodes|was asked for . tasks"),
}


class Gives:
    def __init__(self, found):
        self.found = found

    def batch(self, start, count):
        return self.found


@pytest.mark.parametrize(("change", "message"), BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("call", ["meta_gradient", "score_steps", "evaluate", "fit"])
def test_what_are_no_episodes_is_one_clear_error(change, message, call, tmp_path):
    maml, found = MAML(network(), 0.1), change(episodes())
    calls = {
        "evaluate": lambda: evaluate(maml, maml.init_params(), Gives(found), tasks=2),
        "fit": lambda: fit(maml, Gives(found), out=tmp_path / "run", iterations=1),
    }
    with pytest.raises(UserError, match=message):
        calls.get(call, lambda: getattr(maml, call)(maml.init_params(), found))()


@pytest.mark.parametrize("call", ["adapt", "inner_loop_each", "inner_loop"])
@pytest.mark.parametrize("wrong", [None, "abcd", {}, (1, 2), 5, [torch.zeros(5)]], ids=str)
@pytest.mark.parametrize("name", ["support_x", "support_y"])
def test_what_is_no_support_set_is_one_clear_error(call, wrong, name):
    maml, given = MAML(network(), 0.1), episodes()
    if call != "inner_loop_each":
        given = given.task(0)
    sets = {"support_x": given.support_x, "support_y": given.support_y} | {name: wrong}
    with pytest.raises(UserError, match=f"{name} must be a tensor, not"):
        list(getattr(maml, call)(maml.init_params(), **sets))


@pytest.mark.parametrize("call", ["adapt", "inner_loop_each"])
def test_a_support_set_has_a_target_for_each_example(call):
    maml, given = MAML(network(), 0.1), episodes()
    given = given if call == "inner_loop_each" else given.task(0)
    with pytest.raises(UserError, match="give a target for each example"):
        getattr(maml, call)(maml.init_params(), given.support_x, given.support_y[:-1])


@pytest.mark.parametrize("progress", [None, "half", -0.1, 2])
def test_progress_is_a_share_of_training(progress):
    maml = MAML(network(), 0.1)
    for call in (
        lambda: maml.meta_gradient(maml.init_params(), episodes(), progress),
        lambda: maml.explain(progress),
    ):
        with pytest.raises(UserError, match="progress"):
            call()
