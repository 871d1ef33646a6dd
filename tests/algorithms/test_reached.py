"""A loss that does not depend on the weights is refused, or not twice, and no other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

import innerloop
from innerloop import IMAML, MAML, Episodes, Reptile, UserError
from tests.helpers import relative_error

X = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
Y = (torch.arange(6) % 3).expand(2, 6)
EPISODES = Episodes(X, Y, X.flip(1), Y.flip(1))


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(self.a(x).tanh())


class WithoutGradients(Plain):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class Inference(Plain):
    @torch.inference_mode()
    def forward(self, x):
        return super().forward(x)


class Cut(Plain):
    """A part of the weights is cut off, which its user may want."""

    def forward(self, x):
        return self.b(self.a(x).tanh().detach())


def errors(outputs, targets):
    return (outputs.argmax(dim=1) != targets).float().mean()


ALGORITHMS = {
    "MAML": lambda *given, **loss: innerloop.MAML(*given, 0.1, 2, **loss),
    "first order": lambda *given, **loss: innerloop.MAML(*given, 0.1, 2, True, **loss),
    "IMAML": lambda *given, **loss: innerloop.IMAML(*given, 0.1, 2, **loss),
    "MAMLPlusPlus": lambda *given, **loss: innerloop.MAMLPlusPlus(*given, 0.1, 2, **loss),
    "Reptile": lambda *given, **loss: innerloop.Reptile(*given, 0.1, 2, **loss),
}


@pytest.mark.parametrize("make", ALGORITHMS.values(), ids=ALGORITHMS)
@pytest.mark.parametrize("execution", ["auto", "loop"])
@pytest.mark.parametrize(
    ("network", "loss"),
    [
        (WithoutGradients, F.cross_entropy),
        (Inference, F.cross_entropy),
        (Plain, lambda outputs, targets: F.cross_entropy(outputs.detach(), targets)),
        (Plain, errors),
        (Plain, lambda outputs, targets: torch.tensor(1.0)),
    ],
)
@pytest.mark.falls_back
def test_a_loss_that_does_not_depend_on_the_weights_is_refused(make, execution, network, loss):
    algorithm = make(network(), loss=loss, execution=execution)
    with pytest.raises(UserError, match=r"does not depend on the weights.*torch\.no_grad"):
        algorithm.meta_gradient(algorithm.init_params(), EPISODES)


@pytest.mark.falls_back
def test_of_prototypes_too():
    algorithm = innerloop.ProtoNet(WithoutGradients())
    with pytest.raises(UserError, match="does not depend on the weights"):
        algorithm.meta_gradient(algorithm.init_params(), EPISODES)


@pytest.mark.falls_back
@pytest.mark.parametrize("make", ALGORITHMS.values(), ids=ALGORITHMS)
def test_gradients_may_be_zero_by_right(make):
    """Where the loss has none left, where a part is cut off, and where nothing is trained."""

    def none_left(outputs, targets):
        return (outputs * 0).sum()

    for network, loss in ((Plain(), none_left), (Cut(), F.cross_entropy)):
        algorithm = make(network, loss=loss)
        grads, _ = algorithm.meta_gradient(algorithm.init_params(), EPISODES)
        assert not grads["a.weight"].any()


class Once(torch.autograd.Function):
    """The square, with a derivative that cannot be differentiated."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x**2

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad


class Squared(nn.Linear):
    def forward(self, x):
        return super().forward(Once.apply(super().forward(x)))


@pytest.mark.falls_back
@pytest.mark.parametrize("cls", [MAML, IMAML])
@pytest.mark.parametrize("place", ["network", "loss"])
def test_functions_that_are_once_differentiable_are_refused_for_second_derivatives(cls, place):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    episodes = Episodes(x, x.flip(1), x.flip(0), x.tanh())
    kind, mean = (Squared, F.mse_loss) if place == "network" else (nn.Linear, once_squared)
    model = kind(4, 4).double()
    for execution in ("auto", "vmap", "loop"):
        maml = cls(model, 0.1, 2, loss=mean, execution=execution)
        with pytest.raises(UserError, match="Once is marked @once_differentiable"):
            maml.meta_gradient(maml.init_params(), episodes)
    first, *others = (
        MAML(model, 0.1, 2, loss=mean, first_order=True, execution=execution)
        for execution in ("vmap", "loop")
    )
    expected, _ = first.meta_gradient(first.init_params(), episodes)
    for maml in others:
        found, _ = maml.meta_gradient(maml.init_params(), episodes)
        assert relative_error(found, expected) < 1e-10


def once_squared(outputs, targets):
    return Once.apply(outputs - targets).mean()


class Cubed(torch.autograd.Function):
    """The cube, by a derivative that second ones can pass through."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        return 3 * grad * ctx.saved_tensors[0] ** 2


class ByData(Cubed):
    @staticmethod
    def backward(ctx, grad):
        return 3 * grad * ctx.saved_tensors[0].data ** 2


class ByNumpy(Cubed):
    @staticmethod
    def backward(ctx, grad):
        x = ctx.saved_tensors[0].detach().numpy()
        return torch.from_numpy(3 * grad.detach().numpy() * x**2)


class Between(Cubed):
    """What forward computed on its way is a constant in backward."""

    @staticmethod
    def forward(ctx, x):
        square = x**2
        ctx.save_for_backward(x, square)
        return x * square

    @staticmethod
    def backward(ctx, grad):
        x, square = ctx.saved_tensors
        return grad * (square + 2 * x**2)


class StraightThrough(Cubed):
    """No derivative of what it computes, by intent."""

    @staticmethod
    def forward(ctx, x):
        return x.round(decimals=1)

    @staticmethod
    def backward(ctx, grad):
        return grad


class Through(Plain):
    def __init__(self, functions):
        super().__init__()
        self.functions = functions

    def forward(self, x):
        x = self.a(x).relu()
        for function in self.functions:
            x = function.apply(x)
        return self.b(x)


@pytest.mark.falls_back
@pytest.mark.parametrize("place", ["network", "loss"])
@pytest.mark.parametrize("derivative", ["reverse", "mixed"])
@pytest.mark.parametrize(
    ("functions", "loses"),
    [
        ([Cubed], False),
        ([ByData], True),
        ([ByNumpy], True),
        ([Between], True),
        ([StraightThrough], False),
        ([StraightThrough, Cubed], False),
    ],
)
def test_second_derivatives_that_get_lost_in_a_function_are_said(
    functions, loses, derivative, place, caplog
):
    def loss(outputs, targets):
        for function in functions:
            outputs = function.apply(outputs)
        return F.cross_entropy(outputs, targets)

    torch.manual_seed(0)
    how = {"derivative": derivative} | ({"loss": loss} if place == "loss" else {})
    model = Through(functions if place == "network" else [])
    maml = MAML(model, 0.1, 2, **how)
    for _ in range(2):
        maml.meta_gradient(maml.init_params(), EPISODES)
    said = [r.getMessage() for r in caplog.records if "not those of its first" in r.getMessage()]
    assert len(said) == loses
    assert all(functions[0].__name__ in text for text in said)


@pytest.mark.falls_back
def test_first_derivatives_alone_lose_nothing(caplog):
    maml = MAML(Through([ByNumpy]), 0.1, 2, first_order=True)
    maml.meta_gradient(maml.init_params(), EPISODES)
    assert "not those of its first" not in caplog.text


class Penalised(nn.Module):
    """A loss that holds the network whose weights it shall keep small."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, outputs, targets):
        return F.cross_entropy(outputs, targets) + self.network.b.weight.square().sum()


def _closure(network):
    def penalised(outputs, targets):
        penalty = sum(p.square().sum() for p in network.parameters())
        return F.cross_entropy(outputs, targets) + penalty

    return penalised


def _distilled(network):
    """Uses the first weights as a constant, which is said."""

    def loss(outputs, targets):
        kept = sum(p.detach().square().sum() for p in network.parameters())
        return F.cross_entropy(outputs, targets) * kept

    return loss


@pytest.mark.parametrize("make", [MAML, Reptile, IMAML])
@pytest.mark.parametrize("loss", [Penalised, _closure])
def test_a_loss_that_uses_the_networks_own_weights_is_refused(make, loss):
    network = Plain()
    algorithm = make(network, 0.1, 2, loss=loss(network))
    with pytest.raises(UserError, match=r"the loss uses the network's parameter \S+ itself"):
        algorithm.meta_gradient(algorithm.init_params(), EPISODES)
    algorithm = make(network, 0.1, 2, loss=_distilled(network))
    algorithm.meta_gradient(algorithm.init_params(), EPISODES)


class PenalisedSupport(MAML):
    def support_loss(self, outputs, targets):
        penalty = sum(p.square().sum() for p in self.model.parameters())
        return super().support_loss(outputs, targets) + penalty


class PenalisedInner(MAML):
    def inner_loss(self, params, fast, support, step):
        return super().inner_loss(params, fast, support, step) + self.model.b.weight.square().sum()


class PenalisedTogether(MAML):
    def support_loss_each(self, outputs, targets):
        penalty = self.model.b.weight.square().sum()
        return super().support_loss_each(outputs, targets) + penalty


class PenalisedRightly(MAML):
    def inner_loss(self, params, fast, support, step):
        penalty = sum(p.square().sum() for p in fast.values())
        return super().inner_loss(params, fast, support, step) + penalty


@pytest.mark.parametrize("way", ["auto", "stacked", "vmap", "loop"])
@pytest.mark.parametrize("kind", [PenalisedSupport, PenalisedInner, PenalisedTogether])
def test_hooks_that_use_the_networks_own_weights_are_refused(kind, way):
    algorithm = kind(Plain(), 0.1, 2, execution=way)
    with pytest.raises(UserError, match=r"the inner loss uses the network's parameter \S+ itself"):
        algorithm.meta_gradient(algorithm.init_params(), EPISODES)


class OwnForward(MAML):
    def forward(self, params, x):
        return self.model(x)


class OwnOutputs(MAML):
    def query_outputs(self, params, support_x, query_x):
        return self.model(query_x)


class OwnQueryLoss(MAML):
    def query_loss(self, params, task):
        return self.score(self.model(task.query_x), task.query_y)


@pytest.mark.parametrize("way", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("call", ["meta_gradient", "score_steps", "inner_loop_each", "adapt"])
@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        (OwnForward, "inner"),
        (PenalisedSupport, "inner"),
        (PenalisedInner, "inner"),
        (OwnOutputs, "query"),
        (OwnQueryLoss, "query"),
    ],
)
def test_the_networks_own_weights_are_refused_in_use_as_in_training(kind, loss, call, way):
    """Meta-gradients were zero where the queries did not see the adapted weights."""
    algorithm = kind(Plain(), 0.1, 2, execution=way)
    params = algorithm.init_params()
    calls = {
        "inner_loop_each": lambda: algorithm.inner_loop_each(params, X, Y),
        "adapt": lambda: algorithm.adapt(params, X[0], Y[0]),
    }
    found = calls.get(call, lambda: getattr(algorithm, call)(params, EPISODES))
    if loss == "query" and call in calls:
        found()  # no query is seen
        return
    with pytest.raises(UserError, match=f"the {loss} loss uses the network's parameter"):
        found()


@pytest.mark.parametrize("way", ["auto", "loop"])
def test_hooks_may_use_the_weights_that_they_are_given(way):
    """Also where these are the network's own, in an inner loop that is called directly."""
    algorithm = PenalisedRightly(Plain(), 0.1, 2, execution=way)
    own = dict(algorithm.model.named_parameters())
    last = list(algorithm.inner_loop(own, X[0], Y[0], n_way=3))[-1]
    assert set(last) == set(own)
    grads, _ = algorithm.meta_gradient(algorithm.init_params(), EPISODES)
    assert all(bool(g.count_nonzero()) for g in grads.values())


def test_hooks_of_this_package_are_not_looked_at_step_by_step(monkeypatch):
    """Nor in a network that is never trained, as a classifier's is not."""
    looked = []
    place = "innerloop.algorithms.gradient_based.refuse_own_weights"
    monkeypatch.setattr(place, lambda *_: looked.append(1))
    for kind in (MAML, PenalisedRightly):
        algorithm = kind(Plain(), 0.1, 2)
        list(algorithm.inner_loop(algorithm.init_params(), X[0], Y[0], n_way=3))
        assert bool(looked) == (kind is PenalisedRightly)
