"""A loss that does not depend on the weights is refused, and no other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import innerloop
from innerloop import Episodes, UserError

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
