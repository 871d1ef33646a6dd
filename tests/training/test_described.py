"""What a run compares of a user's objects when it goes on."""

from __future__ import annotations

import enum
import functools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import innerloop
from innerloop import UserError
from innerloop.training.described import attributes, described, of_parts
from innerloop.training.fingerprint import check_same
from tests.training import own
from tests.training.test_fit import SMALL, StopAt


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Set:
    """An object with one setting."""

    def __init__(self, value):
        self.value = value

    def loss(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets)


def closure(value):
    def function(outputs, targets):
        return value

    return function


def default(value):
    return lambda outputs, targets, held=value: held


def wrapped(value):
    inner = closure(value)

    @functools.wraps(inner)
    def outer(*args):
        return inner(*args)

    return outer


HOLDERS = {
    "an object": Set,
    "an object in an object": lambda value: Set(SimpleNamespace(a=value)),
    "a dict": lambda value: Set({"a": [value]}),
    "a closure": closure,
    "a decorated closure": wrapped,
    "a default": default,
    "a partial": lambda value: functools.partial(default(0), held=value),
    "a bound method": lambda value: Set(value).loss,
}
VALUES = [
    (1, 2),
    ("a", "b"),
    (None, 0),
    ((1, 2), (1, 3)),
    (1 + 1j, 2 + 1j),
    (Colour.RED, Colour.BLUE),
    (np.float32(1), np.float32(2)),
    (np.arange(3), np.arange(1, 4)),
    (torch.zeros(2), torch.ones(2)),
    (torch.float32, torch.float64),
    (torch.tanh, torch.relu),
    (closure(1), closure(2)),
]


@pytest.mark.parametrize("pair", range(len(VALUES)))
@pytest.mark.parametrize("holder", HOLDERS)
def test_another_value_is_seen_wherever_it_is_held(holder, pair):
    value, other = VALUES[pair]
    make = HOLDERS[holder]
    assert described(make(value)) == described(make(value))
    assert described(make(value)) != described(make(other))


@pytest.mark.parametrize("pair", range(len(VALUES)))
def test_so_is_an_attribute_of_any_part_of_a_network(pair):
    value, other = VALUES[pair]

    def made(held):
        part = nn.Linear(2, 2)
        part.held = held
        return nn.Sequential(nn.Linear(2, 2), part)

    assert of_parts(made(value)) == of_parts(made(value))
    assert of_parts(made(value))["1.held"] != of_parts(made(other))["1.held"]


def test_what_differs_each_time_is_not_compared():
    first, again = nn.Linear(2, 2), nn.Linear(2, 2)
    for network in (first, again):
        network.parts, network._kept, network.norm = [network], object(), network.weight.norm()
        network.lock, network.device = torch.Generator(), "cpu"
    again.device = torch.device("cuda:0")
    assert of_parts(first) == of_parts(again)
    assert described("/one/place/w.pt") == described("C:\\another\\w.pt") == "w.pt"
    assert described("a/b") == "a/b"


def test_a_function_that_counts_its_calls_stays_the_same():
    calls = 0

    def loss(outputs, targets):
        nonlocal calls
        calls += 1
        return outputs

    before = described(loss)
    loss(1, 2)
    assert described(loss) == before


def test_what_holds_itself_ends():
    held = Set([])
    held.value.append(held.value)
    held.again = held

    def recursive():
        return recursive

    assert described(held) == described(held)
    assert described(recursive) == described(recursive)
    assert described(closure(recursive)) == described(closure(recursive))


def test_a_setting_of_the_class_of_an_algorithm_is_one_of_the_algorithm():
    class Mine(innerloop.MAML):
        power = 2

    assert attributes(Mine(own.Net()))["power"] == 2
    assert "power" not in attributes(innerloop.MAML(own.Net()))


def test_nan_is_the_same_as_before():
    check_same({"a": math.nan}, {"a": math.nan}, "here")


class Scaled(own.Net):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return super().forward(self.scale * x)


def test_a_run_does_not_go_on_with_other_values(tmp_path):
    def made(scale=1.0, weight=1.0, rate=1.0, power=1):
        def loss(outputs, targets):
            return weight * nn.functional.cross_entropy(outputs, targets)

        algorithm = innerloop.MAML(Scaled(scale), 0.2, 2, loss=loss)
        algorithm.power = power
        return {"algorithm": algorithm, "schedule": lambda share: rate, "train": own.train()}

    kwargs = {"out": tmp_path / "run", **SMALL}
    innerloop.fit(**made(), report=StopAt(1), **kwargs)
    for changes, message in (
        ({"scale": 2.0}, "scale of attributes of network was 1.0 and is 2.0"),
        ({"weight": 2.0}, "weight of loss of algorithm was 1.0 and is 2.0"),
        ({"rate": 2.0}, "rate of schedule was 1.0 and is 2.0"),
        ({"power": 2}, "power of algorithm was 1 and is 2"),
    ):
        with pytest.raises(UserError, match=message):
            innerloop.fit(**made(**changes), resume=True, **kwargs)
    assert not innerloop.fit(**made(), resume=True, **kwargs).interrupted
