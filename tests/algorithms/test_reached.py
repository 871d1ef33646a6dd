"""A loss that does not depend on the weights is refused, or not twice, and no other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

import innerloop
from innerloop import IMAML, MAML, Episodes, UserError
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


def test_of_prototypes_too():
    algorithm = innerloop.ProtoNet(WithoutGradients())
    with pytest.raises(UserError, match="does not depend on the weights"):
        algorithm.meta_gradient(algorithm.init_params(), EPISODES)


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
