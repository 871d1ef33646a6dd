"""What a forward pass draws or writes by the attributes of a network stays in the copy."""

from __future__ import annotations

import functools
import random
import types
import weakref
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from innerloop import MAML
from tests.algorithms.users import EPISODES
from tests.helpers import relative_error

falls_back = pytest.mark.falls_back


class Drawn(nn.Module):
    """Outputs times a number that is drawn."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(12, 3)

    def forward(self, x):
        return self.out(x.flatten(1)).tanh() * (0.5 + float(self.draw()))


class ByMethod(Drawn):
    def __init__(self):
        super().__init__()
        self.draw = random.Random(3).random


class ByMethodInPartial(Drawn):
    def __init__(self):
        super().__init__()
        self.draw = functools.partial(random.Random(3).random)


class ByClass(Drawn):
    generator = np.random.default_rng(3)

    def draw(self):
        return self.generator.random()


class Source:
    generator = torch.Generator().manual_seed(3)

    def draw(self):
        return torch.rand((), generator=self.generator)


class ByClassOfObject(Drawn):
    def __init__(self):
        super().__init__()
        self.source = Source()

    def draw(self):
        return self.source.draw()


FIRST = {
    ByMethod: random.Random(3).random(),
    ByMethodInPartial: random.Random(3).random(),
    ByClass: np.random.default_rng(3).random(),
    ByClassOfObject: torch.rand((), generator=torch.Generator().manual_seed(3)).item(),
}


@falls_back
@pytest.mark.parametrize("kind", FIRST)
def test_generators_are_copied_wherever_a_network_holds_them(kind):
    torch.manual_seed(0)
    model, found = kind().double(), []
    for derivative in ("reverse", "mixed", "reverse"):
        maml = MAML(model, 0.1, 2, derivative=derivative)
        found.append(maml.meta_gradient(maml.init_params(), EPISODES, keys=(4, 5, 6))[0])
    assert relative_error(found[1], found[0]) < 1e-10
    assert relative_error(found[2], found[0]) == 0
    assert float(model.draw()) == FIRST[kind]  # nobody has drawn from the user's


class Counts(nn.Module):
    """Writes to what its class shares, also by a bound method of a list."""

    calls: ClassVar[list[int]] = []
    seen = np.zeros(1)
    scale = torch.ones((), dtype=torch.float64)

    def __init__(self):
        super().__init__()
        self.out, self.kept = nn.Linear(12, 3), []
        self.keep = self.kept.append

    def forward(self, x):
        self.calls.append(1)
        self.seen += 1
        self.scale.mul_(2)
        self.keep(1)
        times = len(self.calls) + len(self.kept) + float(self.seen[0])
        return self.out(x.flatten(1)) * times * self.scale


@falls_back
def test_what_is_written_by_class_attributes_and_methods_is_dropped():
    model = Counts().double()
    maml = MAML(model, 0.01, 2)
    params = maml.init_params()
    once, again = (maml.meta_gradient(params, EPISODES)[0] for _ in range(2))
    assert relative_error(once, again) == 0
    assert [*Counts.calls, *model.kept, *Counts.seen, Counts.scale] == [0, 1]


def test_a_method_of_a_weight_is_that_of_the_adapted_weight():
    class Product(nn.Module):
        def __init__(self, bound):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(12, 3, dtype=torch.float64))
            self.turned = self.weight.t if bound else None

        def forward(self, x):
            return x.flatten(1) @ (self.turned().t() if self.turned else self.weight)

    found = []
    for bound in (False, True):
        maml = MAML(Product(bound), 0.1, 2)
        found.append(maml.meta_gradient(maml.init_params(), EPISODES)[0])
    assert relative_error(found[1], found[0]) < 1e-12


class Saves:
    """A hook that keeps what it has seen."""

    seen = None

    def __call__(self, module, inputs, outputs):
        self.seen = outputs


class Passes:
    """A hook that holds the network."""

    def __init__(self, network):
        self.network = network

    def __call__(self, module, inputs, outputs):
        self.network.seen = outputs


class Watched(nn.Module):
    """Outputs times the mean square of what a hook has kept in this very call."""

    seen = None

    def __init__(self, way):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.out = nn.Linear(12, 4), nn.Linear(4, 3)
        WAYS[way](self)

    def keep(self, module, inputs, outputs):
        self.seen = outputs

    def forward(self, x):
        hidden = self.body(x.flatten(1))
        return self.out(hidden.tanh()) * self.last().square().mean()

    def last(self):
        return self.seen


def by_object_of_its_own(network):
    network.saves = Saves()
    network.body.register_forward_hook(network.saves)
    network.last = lambda: network.saves.seen


def by_list_of_its_own(network):
    network.kept = kept = []
    network.body.register_forward_hook(lambda m, i, outputs: kept.append(outputs))
    network.last = lambda: network.kept[-1]


def by_function_in_a_part(network):
    network.kept = kept = {}
    network.body.tell = [lambda outputs: kept.update(last=outputs)]
    network.body.register_forward_hook(lambda module, i, outputs: module.tell[0](outputs))
    network.last = lambda: network.kept["last"]


def by_function_in_a_tuple(network):
    network.kept = kept = {}
    network.body.tell = (lambda outputs: kept.update(last=outputs),)
    network.body.register_forward_hook(lambda module, i, outputs: module.tell[0](outputs))
    network.last = lambda: network.kept["last"]


def by_object_that_holds_it(network):
    network.body.register_forward_hook(Passes(network))


def by_keyword(network):
    def hook(module, inputs, outputs, *, owner=network):
        owner.seen = outputs

    network.body.register_forward_hook(hook)


def by_weak_reference(network):
    there = weakref.ref(network)
    network.body.register_forward_hook(lambda m, i, outputs: setattr(there(), "seen", outputs))


def by_proxy(network):
    there = weakref.proxy(network)
    network.body.register_forward_hook(lambda m, i, outputs: setattr(there, "seen", outputs))


def by_proxy_in_a_part(network):
    network.body.__dict__["parent"] = weakref.proxy(network)
    network.body.register_forward_hook(lambda m, i, outputs: setattr(m.parent, "seen", outputs))


def by_weak_method(network):
    network.callback = weakref.WeakMethod(network.keep)
    network.body.register_forward_hook(lambda *given: network.callback()(*given))


def by_exchanged_forward(network):
    def forward(module, x):
        network.seen = nn.functional.linear(x, module.weight, module.bias)
        return network.seen

    network.body.forward = types.MethodType(forward, network.body)


def by_reference_to_another_object(network):
    network.saves = Saves()
    network.body.__dict__["there"] = weakref.ref(network.saves)
    network.body.register_forward_hook(lambda module, *given: module.there()(module, *given))
    network.last = lambda: network.saves.seen


WAYS = {
    function.__name__: function
    for function in (
        *(by_object_of_its_own, by_list_of_its_own, by_function_in_a_part, by_keyword),
        *(by_object_that_holds_it, by_weak_reference, by_proxy, by_proxy_in_a_part),
        *(
            by_function_in_a_tuple,
            by_weak_method,
            by_exchanged_forward,
            by_reference_to_another_object,
        ),
    )
}


class Unwatched(Watched):
    def __init__(self):
        super().__init__("by_keyword")

    def forward(self, x):
        hidden = self.body(x.flatten(1))
        return self.out(hidden.tanh()) * hidden.square().mean()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("execution", ["auto", "loop"])
def test_what_a_hook_keeps_is_of_the_same_call(way, execution):
    model = Watched(way).double()
    gradients = []
    for network in (Unwatched().double(), model):
        maml = MAML(network, 0.1, 2, execution=execution)
        gradients.append(maml.meta_gradient(maml.init_params(), EPISODES)[0])
    assert relative_error(gradients[1], gradients[0]) < 1e-10
    # Nor has the user's network kept anything.
    assert model.seen is None
    assert not getattr(model, "kept", None)
    assert getattr(getattr(model, "saves", None), "seen", None) is None


class OneOfItsKind:
    """A hook that holds the network, and whose copies are itself."""

    def __init__(self, model):
        self.model = model

    def __copy__(self):
        return self

    def __call__(self, layer, inputs, output):
        return output.tanh()


def test_an_object_that_is_its_own_copy_is_not_written_to():
    model = Drawn().double()
    model.draw = float
    hook = OneOfItsKind(model)
    model.out.register_forward_hook(hook)
    maml = MAML(model, 0.1, 1)
    maml.meta_gradient(maml.init_params(), EPISODES)
    assert hook.model is model
