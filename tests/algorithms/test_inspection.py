"""What is found out about a network by calling copies of it."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import MAML, UserError
from tests.algorithms.users import EPISODES

GENERATOR = np.random.default_rng(3)


class Repeated(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(12, 3)

    def forward(self, x):
        return self.out(x.flatten(1)) * (1 + self.number())


class Iterates(Repeated):
    def __init__(self):
        super().__init__()
        self.count = itertools.count()

    def number(self):
        return next(self.count)


class Yields(Iterates):
    def __init__(self):
        super().__init__()
        self.count = (i / 10 for i in range(100))


class Draws(Repeated):
    def forward(self, x):
        return self.out(x.flatten(1)) * GENERATOR.random()


class OfClass(Repeated):
    generator = np.random.default_rng(3)

    def number(self):
        return type(self).generator.random() if self.training else 0


class Imaginary(Iterates):
    """The real part repeats, the imaginary one does not."""

    def forward(self, x):
        y = self.out(x.flatten(1))
        return torch.complex(y, y * self.number())


PLACES = {Iterates: "look at 0.count", Yields: "look at 0.count", Draws: "variable GENERATOR"}


@pytest.mark.parametrize("kind", [Iterates, Yields, Draws, OfClass])
def test_outputs_that_change_from_call_to_call_are_refused(kind):
    maml = MAML(nn.Sequential(kind()).double(), 0.1, 2)
    with pytest.raises(UserError, match=PLACES.get(kind, "called again with the same weights")):
        maml.meta_gradient(maml.init_params(), EPISODES)
    if kind is OfClass:
        maml.model.eval()
        maml = MAML(maml.model, 0.1, 2)
        maml.meta_gradient(maml.init_params(), EPISODES)


class Strange(nn.Module):
    """Returns complex numbers and nothing at all beside what counts."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(12, 3)

    def forward(self, x):
        outputs = self.out(x.flatten(1))
        return outputs, torch.fft.fft(outputs).conj(), None


def test_outputs_of_every_kind_are_compared():
    def loss(outputs, targets):
        return F.cross_entropy(outputs[0], targets) + outputs[1].abs().mean()

    maml = MAML(Strange().double(), 0.1, 2, loss=loss, execution="loop")
    grads, _ = maml.meta_gradient(maml.init_params(), EPISODES)
    assert all(g.isfinite().all() for g in grads.values())


def test_imaginary_parts_that_change_from_call_to_call_are_refused():
    maml = MAML(Imaginary().double(), 0.1, 2, loss=lambda out, y: F.cross_entropy(out.abs(), y))
    with pytest.raises(UserError, match="look at count"):
        maml.meta_gradient(maml.init_params(), EPISODES)


class AsksForGradients(Repeated):
    """Computes in another way where no gradients are recorded."""

    def number(self):
        return 1 if torch.is_grad_enabled() else 2


class AsksForItsOwn(Repeated):
    """Computes in another way while its weights are frozen."""

    def number(self):
        return 1 if self.out.weight.requires_grad else 2


class AsksForParameters(Repeated):
    """Looks for its weights among its attributes."""

    def number(self):
        held = self.out._parameters.values()
        return sum(p.mean() for p in held if isinstance(p, nn.Parameter))


class AsksForLittle(AsksForParameters):
    """The same, with an effect that rounding in single precision could have."""

    def number(self):
        return super().number() * 1e-5


class GetsParameters(Repeated):
    def number(self):
        return self.get_parameter("out.weight").mean()


class Descends(Repeated):
    """Takes a step of its own on its weights, as layers that train in use do."""

    def forward(self, x):
        x, weight = x.flatten(1), self.out.weight
        with torch.enable_grad():
            wrong = self.out(x).square().mean()
            (slope,) = torch.autograd.grad(wrong, weight, create_graph=True)
        return F.linear(x, weight - slope)


class Alternates(Repeated):
    def number(self):
        return next(ALTERNATE)


ALTERNATE = itertools.cycle((0.0, 1.0))


ASKING = [
    AsksForGradients,
    AsksForItsOwn,
    AsksForParameters,
    AsksForLittle,
    GetsParameters,
    Descends,
]


@pytest.mark.parametrize("kind", ASKING)
@pytest.mark.parametrize("adapted", ["*", "*bias"])
@pytest.mark.falls_back
def test_weights_are_parameters_where_a_network_asks_for_them(kind, adapted):
    torch.manual_seed(0)
    model = kind().double()
    algorithm = MAML(model, 0.1, 2, adapted=adapted)
    params = algorithm.init_params()
    grads, _ = algorithm.meta_gradient(params, EPISODES)
    assert grads["out.weight"].count_nonzero()
    task = EPISODES.task(0)
    with torch.no_grad():
        expected = F.cross_entropy(model(task.query_x), task.query_y)
    assert not any(isinstance(p, nn.Parameter) for p in params.values())
    # Before the first inner step the losses are those of the network itself.
    scores = algorithm.score_steps(params, EPISODES)
    assert scores["loss"][0, 0].item() == pytest.approx(expected.item(), rel=1e-12)


def test_what_changes_to_and_fro_is_refused():
    algorithm = MAML(Alternates().double(), 0.1, 2)
    with pytest.raises(UserError, match="other outputs"):
        algorithm.meta_gradient(algorithm.init_params(), EPISODES)


class Cut(Repeated):
    """A weight reaches the outputs by its values alone."""

    def __init__(self):
        super().__init__()
        self.scale, self.unused = nn.Linear(12, 3), nn.Linear(2, 2)

    def number(self):
        with torch.no_grad():
            return self.scale.weight.abs().mean()


class CutInTraining(Cut):
    def number(self):
        return super().number() if self.training else self.scale.weight.abs().mean()


class CutByKeeping(Cut):
    kept = None

    def number(self):
        if self.kept is None:
            self.kept = self.scale.weight.detach().abs().mean()
        return self.kept


class Ensemble(nn.Module):
    """The function that stacks the weights of its parts makes leaves of them."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(12, 3) for _ in range(2))

    def forward(self, x):
        weights, _ = torch.func.stack_module_state(list(self.parts))
        found = torch.einsum("bi,moi->bmo", x.flatten(1), weights["weight"]) + weights["bias"]
        return found.mean(1)


@pytest.mark.falls_back
def test_weights_that_are_cut_off_together_are_said(caplog):
    torch.manual_seed(0)
    maml = MAML(Ensemble().double(), 0.1, 2)
    maml.meta_gradient(maml.init_params(), EPISODES)
    (said,) = [r.getMessage() for r in caplog.records if "no gradient leads" in r.getMessage()]
    assert "change with parts.0.bias, parts.0.weight, parts.1.bias, parts.1.weight, but" in said


@pytest.mark.falls_back
@pytest.mark.parametrize("kind", [Cut, CutInTraining, CutByKeeping])
@pytest.mark.parametrize("frozen", [False, True])
def test_weights_that_are_cut_off_are_said(kind, frozen, caplog):
    torch.manual_seed(0)
    model = kind().double()
    model.scale.requires_grad_(not frozen)
    maml = MAML(model, 0.1, 2)
    for _ in range(2):
        maml.meta_gradient(maml.init_params(), EPISODES)
    said = [r.getMessage() for r in caplog.records if "no gradient leads there" in r.getMessage()]
    assert len(said) == (not frozen)
    assert all("change with scale.weight, but" in text for text in said)
    assert ("scale.weight" in maml.explain()) == (not frozen)
    assert "unused.weight, unused.bias" in maml.explain()


KEPT: dict[str, torch.Tensor] = {}


class KeepsGlobally(Cut):
    def number(self):
        if "scale" not in KEPT:
            KEPT["scale"] = self.scale.weight.abs().mean()
        return KEPT["scale"]


def test_what_is_kept_from_one_call_to_the_next_is_refused():
    KEPT.clear()
    maml = MAML(KeepsGlobally().double(), 0.1, 2)
    with pytest.raises(UserError, match=r"keeps what .* parameter scale\.weight in one call"):
        maml.meta_gradient(maml.init_params(), EPISODES)
    KEPT.clear()


class CachedMethod(Cut):
    @functools.lru_cache(maxsize=8)  # noqa: B019
    def number(self):
        return self.scale.weight.abs().mean()


class CachedOnTheObject(Cut):
    def __init__(self):
        super().__init__()
        self.number = functools.cache(self.compute)

    def compute(self):
        return self.scale.weight.abs().mean()


class CachedInAPart(Cut):
    def __init__(self):
        super().__init__()
        self.part = Doubled(self.scale)

    def number(self):
        return self.part.number()


class Doubled:
    def __init__(self, scale):
        self.scale = scale

    @functools.cache  # noqa: B019
    def number(self):
        return self.scale.weight.abs().mean()


class NotCached(Cut):
    def number(self):
        return self.scale.weight.abs().mean()


@pytest.mark.parametrize("kind", [CachedMethod, CachedOnTheObject, CachedInAPart])
@pytest.mark.parametrize("filled", [False, True])
def test_each_call_has_a_cache_of_its_own(kind, filled):
    grads = []
    for cls in (NotCached, kind):
        torch.manual_seed(0)
        model = cls().double()
        if filled:
            model(EPISODES.support_x[0])
        maml = MAML(model, 0.1, 2)
        grads.append(maml.meta_gradient(maml.init_params(), EPISODES)[0])
        if cls is kind:
            cache = {CachedMethod: kind, CachedInAPart: Doubled}.get(kind, model).number
            assert cache.cache_info().currsize == filled
            cache.cache_clear()
    for name, g in grads[0].items():
        torch.testing.assert_close(grads[1][name], g)
        assert g.any() or name.startswith("unused") or name == "scale.bias"


@dataclasses.dataclass
class Outputs:
    logits: torch.Tensor


class InADataclass(Repeated):
    def number(self):
        return 0

    def forward(self, x):
        return Outputs(super().forward(x))


def test_outputs_where_nobody_looks_are_not_said_to_lack_gradients():
    def loss(outputs, targets):
        return F.cross_entropy(outputs.logits, targets)

    maml = MAML(InADataclass().double(), 0.1, 2, loss=loss)
    grads, _ = maml.meta_gradient(maml.init_params(), EPISODES)
    assert all(g.any() for g in grads.values())
    assert "without gradients" not in maml.explain()
