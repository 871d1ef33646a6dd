"""Functions that `torch.compile` has changed run as they were written."""

from __future__ import annotations

import random
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import MAML, UserError
from innerloop.algorithms.uncompiled import as_written
from tests.helpers import random_episodes, relative_error


def backend(graph, inputs):
    raise AssertionError("it was compiled")


def compiled(function):
    return torch.compile(function, backend=backend, fullgraph=True)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(self.a(x).tanh())


class OfItsClass(Plain):
    forward = compiled(Plain.forward)


class BySuper(OfItsClass):
    def forward(self, x):
        return super().forward(x)


class OfTheFile(Plain):
    def forward(self, x):
        return self.b(squashed(self.a(x)))


squashed = compiled(torch.tanh)


@pytest.mark.parametrize("execution", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("kind", [OfItsClass, BySuper, OfTheFile])
def test_compiled_methods_functions_and_losses_run_as_they_were_written(kind, execution):
    episodes, found = random_episodes(shape=(4,)), []
    for cls, loss in ((Plain, F.cross_entropy), (kind, compiled(F.cross_entropy))):
        torch.manual_seed(0)
        maml = MAML(cls().double(), 0.1, 2, loss=loss, execution=execution)
        found.append(maml.meta_gradient(maml.init_params(), episodes)[0])
    assert relative_error(found[1], found[0]) < 1e-12


@pytest.mark.filterwarnings("ignore:.*Dynamo")  # of what it does not know
def test_a_compiled_function_may_call_a_network():
    class Drawn(Plain):
        def __init__(self):
            super().__init__()
            self.generator = random.Random(0)  # which Dynamo cannot trace

    maml, x = MAML(Drawn(), 0.1, 1), torch.randn(6, 4)
    params = maml.init_params()
    expected = maml.query_outputs(params, x, x).softmax(-1)
    predict = torch.compile(lambda x: maml.query_outputs(params, x, x).softmax(-1), backend="eager")
    torch.testing.assert_close(predict(x), expected)


def test_other_threads_may_leave_first():
    double = torch.compile(lambda x: 2 * x, backend=backend)
    entered, left = threading.Event(), threading.Event()

    def beside():
        with as_written():
            entered.set()
            left.wait(20)

    thread = threading.Thread(target=beside)
    with as_written():
        thread.start()
        entered.wait(20)
        assert double(torch.ones(1)) == 2
    left.set()
    thread.join()
    with pytest.raises(Exception, match="it was compiled"):
        double(torch.ones(1))


def test_a_compiled_part_is_stacked_as_if_it_were_not():
    episodes, found = random_episodes(shape=(4,)), []
    for change in (lambda part: part, compiled):
        torch.manual_seed(0)
        network = Plain().double()
        network.a = change(network.a)
        maml = MAML(network, 0.1, 2)
        found.append(list(maml.meta_gradient(maml.init_params(), episodes)[0].values()))
        assert maml.explain().startswith("stacked")
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("whole", [True, False], ids=["network", "part"])
def test_a_hook_of_what_was_compiled_is_not_left_out_in_silence(whole):
    network = Plain()
    if whole:
        network = compiled(network)
    else:
        network.a = compiled(network.a)
    (network if whole else network.a).register_forward_hook(lambda module, x, y: 2 * y)

    def call():
        maml = MAML(network, 0.1)
        return maml.meta_gradient(maml.init_params(), random_episodes(shape=(4,)))

    with pytest.raises(UserError, match="register it with the module that was compiled"):
        call()
