"""Optimisers of a user's own: a run that is resumed ends as one that was not interrupted."""

from __future__ import annotations

import json
import logging
from collections import defaultdict, deque

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adafactor, Adagrad, Adam, AdamW, Optimizer, RMSprop

import innerloop
from innerloop import UserError
from innerloop.runs.checkpoint import read_tensors, write_tensors
from innerloop.runs.folder import checkpoints


class Lines:
    """Straight lines through 0, so that a task needs no more than one number."""

    def batch(self, start, count):
        tasks = []
        for number in range(start, start + count):
            generator = torch.Generator().manual_seed(number)
            slope, x = torch.randn(1, generator=generator), torch.randn(10, 3, generator=generator)
            y = slope * x.sum(1, keepdim=True)
            tasks.append((x[:5], y[:5], x[5:], y[5:]))
        return innerloop.Episodes(*(torch.stack(parts) for parts in zip(*tasks, strict=True)))


class Own(Optimizer):
    """Steps that get shorter: each subclass counts in another place."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr, "k": 0})

    def count(self, group, p):
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p -= group["lr"] / float(self.count(group, p)) * p.grad


class InGroup(Own):
    def count(self, group, p):
        group["k"] += 1
        return group["k"]


class InAttribute(Own):
    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.k, self.history, self.made_again = 0, {"seen": [(0, None)]}, lambda: 1

    def count(self, group, p):
        self.k += self.made_again()
        self.history["seen"].append((self.k, None))
        return len(self.history["seen"])


class InMany(Own):
    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.counts, self.last = defaultdict(float), deque([np.float32(1)], maxlen=3)
        self.array, self.whole = np.ones(2), np.int64(1)
        self.generator = torch.Generator().manual_seed(3)

    def count(self, group, p):
        self.counts[len(p)] += 1
        self.whole += 1
        self.last.append(self.whole)
        self.array = self.array + self.last[0]
        drawn = torch.rand((), generator=self.generator)
        return sum(self.counts.values()) + self.array.sum() + drawn


class MadeLater(Own):
    """What is first there at the first step, in many places."""

    of_class = 0

    def count(self, group, p):
        group["later"] = group.get("later", 0) + 1
        self.of_class += 1
        self.made = [*getattr(self, "made", []), group["later"]]
        if "all" not in self.state:
            self.state["all"] = {"last": deque(maxlen=2), "by": {}}
        kept = self.state["all"]
        kept["last"].append(float(self.of_class))
        kept["by"][id(p)] = kept["by"].get(id(p), 0) + 1
        kept.setdefault("generator", torch.Generator().manual_seed(1))
        drawn = torch.rand((), generator=kept["generator"])
        return len(self.made) + sum(kept["last"]) + kept["by"][id(p)] + drawn


class InSlots(Own):
    __slots__ = ("k",)

    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.k = 0

    def count(self, group, p):
        self.k += 1
        return self.k


class Several(Own):
    """A list of optimisers, one for each kind of parameter, and a generator in a dict."""

    def __init__(self, params, lr):
        super().__init__(params, lr)
        params = self.param_groups[0]["params"]
        kinds = ([p for p in params if p.ndim == n] for n in (1, 2))
        self.parts = [SGD(some, lr=lr, momentum=0.9) for some in kinds]
        self.more = {"generator": torch.Generator().manual_seed(2)}

    @torch.no_grad()
    def step(self, closure=None):
        for part in self.parts:
            part.step()
        for p in self.param_groups[0]["params"]:
            p += 0.01 * torch.rand(p.shape, generator=self.more["generator"])


class InNumbers(Own):
    def count(self, group, p):
        kept = self.state[p]
        kept["k"] = kept.get("k", 0) + 1
        return kept["k"]


class ForAll(Own):
    def count(self, group, p):
        kept = self.state["all"]
        kept["k"] = kept.get("k", torch.zeros((), dtype=torch.int64)) + 1
        return kept["k"]


class InDouble(Own):
    def count(self, group, p):
        kept = self.state[p]
        kept["m"] = kept.get("m", torch.ones_like(p, dtype=torch.float64)) * 1.1 + p.double() ** 2
        return kept["m"].sum()


class Remembers(Own):
    """A list of tensors, the last of them twice."""

    def count(self, group, p):
        kept = self.state[p].setdefault("h", [])
        kept.append(p.grad.clone().half())
        self.state[p]["last"] = kept[-1]
        self.state[p]["last"] += 1
        return 1 + torch.stack(kept).float().square().mean()


class Draws(Own):
    def count(self, group, p):
        return 1 + torch.rand(())


class Wraps(Own):
    """Another optimiser inside, and slow weights beside, as Lookahead has them."""

    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.fast = SGD(self.param_groups[0]["params"], lr=lr, momentum=0.9)
        self.slow = [p.detach().clone() for p in self.param_groups[0]["params"]]

    @torch.no_grad()
    def step(self, closure=None):
        self.fast.step()
        for slow, p in zip(self.slow, self.param_groups[0]["params"], strict=True):
            slow += 0.5 * (p - slow)
            p.copy_(slow)


OPTIMIZERS = {
    "momentum": lambda p, lr: SGD(p, lr=lr, momentum=0.9, nesterov=True),
    "amsgrad": lambda p, lr: Adam(p, lr=lr, amsgrad=True),
    "centred": lambda p, lr: RMSprop(p, lr=lr, momentum=0.9, centered=True),
    "adafactor": Adafactor,
    "adamw": AdamW,
    "adagrad": Adagrad,
    "sgd": SGD,
    **{kind.__name__: kind for kind in Own.__subclasses__()},
}


def train(out, optimizer, iterations, **options):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    algorithm = innerloop.MAML(network, 0.05, loss=nn.functional.mse_loss)
    settings = {"schedule": "constant", "val_every": 2, **options}
    return innerloop.fit(
        algorithm,
        Lines(),
        out=out,
        iterations=iterations,
        meta_optimizer=optimizer,
        meta_lr=0.05,
        **settings,
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resume_is_exact(name, tmp_path):
    whole = train(tmp_path / "whole", OPTIMIZERS[name], 6)
    train(tmp_path / "parts", OPTIMIZERS[name], 4)
    resumed = train(tmp_path / "parts", OPTIMIZERS[name], 6, resume=True)
    for key, p in whole.params.items():
        assert torch.equal(resumed.params[key], p), key
    first, second = (read_tensors(checkpoints(tmp_path / n)[0]) for n in ("whole", "parts"))
    assert first[0].keys() == second[0].keys()
    assert all(torch.equal(t, second[0][key]) for key, t in first[0].items())
    assert first[1]["optimizer"] == second[1]["optimizer"]


def test_random_numbers_of_a_step_leave_the_global_generator_alone(tmp_path):
    states = []
    for kind in (SGD, Draws):
        train(tmp_path / kind.__name__, kind, 2)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


class Holds(Own):
    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.itself, self.thing, self.function = [self], object(), lambda: 1

    def count(self, group, p):
        return 1


def test_attributes_that_a_checkpoint_does_not_hold_are_said_once(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "innerloop"):
        train(tmp_path / "run", Holds, 4)
    (record,) = caplog.records
    assert "do not hold itself, thing of Holds" in record.getMessage()
    caplog.clear()


class Strange(Own):
    def count(self, group, p):
        self.state[p]["odd"] = object()
        return 1


class Fails(Own):
    def count(self, group, p):
        raise ValueError("a mistake of the optimiser")


def test_a_first_step_that_fails_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="a mistake of the optimiser"):
        train(tmp_path / "run", Fails, 2)
    assert not (tmp_path / "run").exists()


def test_what_a_checkpoint_cannot_hold_is_said(tmp_path):
    with pytest.raises(UserError, match="state of Strange holds a object, which a checkpoint"):
        train(tmp_path / "run", Strange, 2)


def test_an_optimiser_that_cannot_be_made_is_said_before(tmp_path):
    with pytest.raises(UserError, match="meta_optimizer is called with the parameters and lr="):
        train(tmp_path / "run", lambda params: SGD(params, lr=0.1), 2)
    with pytest.raises(UserError, match="schedule is called with the share of the run"):
        train(tmp_path / "other", SGD, 2, schedule=lambda: 1.0)


@pytest.mark.parametrize(
    "forge",
    [
        lambda plain: plain.pop("state"),
        lambda plain: plain["groups"].append({}),
        lambda plain: plain["state"]["dict"].append([{"parameter": "none"}, {"is": 0}]),
        lambda plain: plain["state"]["dict"].append([{"is": "x"}, {"tensor": 99, "on_cpu": True}]),
        lambda plain: plain["attributes"].update(k={"optimizer": plain["state"]}),
        lambda plain: plain["attributes"].update(k={"is": {}}),
        lambda plain: plain.update(state=3),
    ],
)
def test_a_forged_checkpoint_is_refused(forge, tmp_path):
    train(tmp_path / "run", InAttribute, 2)
    path = checkpoints(tmp_path / "run")[0]
    tensors, metadata = read_tensors(path)
    forge(metadata["optimizer"])
    write_tensors(path, tensors, json.loads(json.dumps(metadata)))
    with pytest.raises(UserError, match="does not fit the optimiser"):
        train(tmp_path / "run", InAttribute, 4, resume=True)


def test_attributes_that_the_optimiser_does_not_have_are_not_made(tmp_path):
    train(tmp_path / "run", InAttribute, 2)
    path = checkpoints(tmp_path / "run")[0]
    tensors, metadata = read_tensors(path)
    metadata["optimizer"]["attributes"] |= {"step": {"is": 0}, "param_groups": {"is": 0}}
    write_tensors(path, tensors, metadata)
    train(tmp_path / "run", InAttribute, 4, resume=True)
