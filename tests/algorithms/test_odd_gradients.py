"""Gradients that are sparse, cut off by `.data`, or that PyTorch itself gets wrong."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop import MAML, Episodes, UserError
from tests.algorithms import naive
from tests.algorithms.users import EPISODES
from tests.helpers import relative_error

falls_back = pytest.mark.falls_back


@falls_back
@pytest.mark.parametrize("first_order", [True, False])
def test_sparse_gradients_of_an_embedding_are_those_of_a_dense_one(first_order):
    x = torch.tensor([[[0, 2], [1, 1], [3, 0]]])
    episodes = Episodes(x, torch.tensor([[0, 1, 2]]), x.flip(1), torch.tensor([[2, 1, 0]]))
    found = []
    for sparse in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(4, 5, sparse=sparse), nn.Flatten(), nn.Linear(10, 3))
        maml = MAML(model.double(), 0.3, 2, first_order=first_order)
        found.append(maml.meta_gradient(maml.init_params(), episodes)[0])
    for name, g in found[0].items():
        torch.testing.assert_close(found[1][name], g)


class StraightThrough(nn.Module):
    """Rounds in the forward pass, and passes gradients on unchanged."""

    def __init__(self, cut):
        super().__init__()
        self.cut, self.a, self.o = cut, nn.Linear(12, 16), nn.Linear(16, 3)

    def forward(self, x):
        h = self.a(x.flatten(1))
        return self.o(h * self.a.weight.data.mean() + self.cut((h > 0).to(h) - h))


@pytest.mark.parametrize("execution", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("derivative", ["reverse", "mixed"])
def test_data_is_cut_off_like_a_detached_tensor(execution, derivative):
    found = []
    for cut in (lambda h: h.data, lambda h: h.detach()):
        torch.manual_seed(0)
        model = StraightThrough(cut).double()
        # With .detach() all ways are right.
        how = {"execution": execution, "derivative": derivative} if not found else {}
        maml = MAML(model, 0.3, 2, **how)
        found.append(maml.meta_gradient(maml.init_params(), EPISODES)[0])
    for name, g in found[1].items():
        torch.testing.assert_close(found[0][name], g)


@torch.jit.script
def scripted(x):
    return x * torch.sigmoid(x)


def hooked(x):
    """Gradients are halved on their way back."""
    if x.requires_grad:
        x.register_hook(lambda g: g * 0.5)
    return x.tanh()


class With(nn.Module):
    """An activation, in training alone if so said."""

    def __init__(self, activation, always=True):
        super().__init__()
        self.a, self.o, self.activation = nn.Linear(12, 8), nn.Linear(8, 3), activation
        self.always = always

    def forward(self, x):
        x = self.a(x.flatten(1))
        return self.o(self.activation(x) if self.always or self.training else x)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("activation", "how"),
    [
        (scripted, {}),
        (scripted, {"derivative": "mixed"}),
        (scripted, {"first_order": True}),
        (hooked, {}),
        (hooked, {"first_order": True}),
    ],
)
@pytest.mark.parametrize("always", [True, False])
@falls_back
def test_what_torch_func_differentiates_wrongly_is_left_to_autograd(activation, how, always):
    model = With(activation, always).double()
    maml, alone = MAML(model, 0.3, 2, **how), MAML(model, 0.3, 2, execution="loop", **how)
    grads = maml.meta_gradient(maml.init_params(), EPISODES)[0]
    for name, g in alone.meta_gradient(alone.init_params(), EPISODES)[0].items():
        torch.testing.assert_close(grads[name], g)
    assert "not vmap: its derivatives under torch.func are not those of autograd" in maml.explain()
    forced = MAML(model, 0.3, 2, execution="vmap", **how)
    with pytest.raises(UserError, match="execution='vmap' is not possible here: its derivatives"):
        forced.meta_gradient(forced.init_params(), EPISODES)


def weight_normed(kind, **how):
    if kind == "convolution":
        parts = [nn.Conv1d(3, 16, 3), nn.Tanh(), nn.Flatten(), nn.Linear(32, 3)]
    else:
        parts = [nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 3)]
    place = 0 if kind == "convolution" else 1
    old = kind == "hook"
    normed = nn.utils.weight_norm if old else nn.utils.parametrizations.weight_norm
    parts[place] = normed(parts[place], **how)
    return nn.Sequential(*parts).double()


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("execution", ["auto", "vmap", "loop"])
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("linear", {}),
        ("linear", {"dim": 1}),
        ("linear", {"dim": None}),
        ("convolution", {}),
        ("hook", {}),
    ],
)
def test_the_second_derivative_of_weight_norm(kind, how, execution):
    """Against finite differences: that of PyTorch's own operation is wrong."""
    model = weight_normed(kind, **how)
    maml = MAML(model, 0.5, 2, execution=execution)
    params = maml.init_params()
    x = next(iter(EPISODES.support_x))
    torch.testing.assert_close(maml.network(params, x), model(x))
    grads = maml.meta_gradient(params, EPISODES)[0]
    generator = torch.Generator().manual_seed(0)
    step = {n: 1e-5 * torch.randn(p.shape, generator=generator).to(p) for n, p in params.items()}
    losses = [
        maml.meta_gradient({n: p + sign * step[n] for n, p in params.items()}, EPISODES)[1]["loss"]
        for sign in (1, -1)
    ]
    along = sum((grads[n] * step[n]).sum() for n in params)
    torch.testing.assert_close((losses[0] - losses[1]) / 2, along, rtol=1e-6, atol=0)


@falls_back
def test_a_forced_way_that_fails_in_training_alone_is_one_clear_error():
    model = nn.Sequential(
        nn.Flatten(), nn.utils.parametrizations.spectral_norm(nn.Linear(12, 8)), nn.Linear(8, 3)
    )
    maml = MAML(model.double(), 0.3, 2, execution="stacked")
    with pytest.raises(UserError, match="execution='stacked' is not possible here"):
        maml.meta_gradient(maml.init_params(), EPISODES)


@pytest.mark.parametrize("method", ["meta_gradient", "score_steps", "inner_loop_each"])
def test_a_forced_vmap_that_fails_is_one_clear_error(method):
    maml = MAML(Branches().double(), 0.3, 2, execution="vmap")
    sets = EPISODES if method != "inner_loop_each" else EPISODES[:2]
    given = sets if method == "inner_loop_each" else [sets]
    with pytest.raises(UserError, match=r"execution='vmap' is not possible here: .*control flow"):
        getattr(maml, method)(maml.init_params(), *given)


class Branches(nn.Linear):
    def __init__(self):
        super().__init__(12, 3)

    def forward(self, x):
        return super().forward(x.flatten(1) if x.sum() > 0 else -x.flatten(1))


def test_where_a_loop_fails_too_the_error_is_the_networks_own():
    class Fails(nn.Linear):
        def forward(self, x):
            if self.training:
                raise ZeroDivisionError("of its own")
            return super().forward(x.flatten(1))

    maml = MAML(Fails(12, 3).double(), 0.3, 2, execution="vmap")
    with pytest.raises(ZeroDivisionError, match="of its own"):
        maml.meta_gradient(maml.init_params(), EPISODES)


def test_inputs_in_a_dict_are_one_clear_error():
    x, y = {"x": EPISODES.support_x}, EPISODES.support_y
    maml = MAML(With(torch.tanh).double(), 0.3, 2)
    with pytest.raises(UserError, match="support_x of the episodes must be a tensor, not a dict"):
        maml.meta_gradient(maml.init_params(), Episodes(x, y, x, y))


class Aliased(nn.Module):
    """It computes with the memory of a weight, which no inner step reaches."""

    def __init__(self, alias):
        super().__init__()
        self.a, self.o = nn.Linear(12, 8), nn.Linear(8, 3)
        self.kept = alias(self.a.weight)

    def forward(self, x):
        return self.o(x.flatten(1) @ self.kept.mT + self.a(x.flatten(1)))


@falls_back
@pytest.mark.parametrize(
    ("alias", "warned"),
    [
        (lambda w: w.data, True),
        (lambda w: w.detach()[:], True),
        (lambda w: w.detach().clone(), False),
    ],
)
def test_the_memory_of_a_weight_under_another_name_is_a_warning(alias, warned, caplog):
    maml = MAML(Aliased(alias).double(), 0.3, 2)
    if warned:
        maml.model.kept = alias(maml.model.a.weight)
    else:
        maml.model.kept = maml.model.kept.double()
    maml.meta_gradient(maml.init_params(), EPISODES)
    said = [r.getMessage() for r in caplog.records if "is the memory of" in r.getMessage()]
    assert len(said) == warned
    if warned:
        assert "kept is the memory of the parameter a.weight under another name" in said[0]


class Rewritten(Aliased):
    """Every call computes what is kept, as the older spectral norm of PyTorch does."""

    def forward(self, x):
        self.kept = self.a.weight * 2
        return super().forward(x)


def test_what_every_call_overwrites_is_no_memory_of_a_weight():
    network = Rewritten(lambda w: w.data).double()
    network.kept = network.a.weight.data
    maml = MAML(network, naive.LR, naive.STEPS)
    params = maml.init_params()
    found, _ = maml.meta_gradient(params, EPISODES)
    assert relative_error(found, naive.maml(network, params, EPISODES)) < 1e-10


class HalfCut(nn.Module):
    """Takes a weight with its gradient, and again without."""

    def __init__(self, cut):
        super().__init__()
        self.cut, self.a, self.o = cut, nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = torch.tanh(self.a(x.flatten(1)))
        return self.o(x) + torch.tanh(self.cut(F.linear, x, self.o.weight))


def _under_no_grad(function, x, weight):
    with torch.no_grad():
        return function(x, weight)


CUTS = {
    "detach": lambda function, x, weight: function(x, weight.detach()),
    "data": lambda function, x, weight: function(x, weight.data),
    "no_grad": _under_no_grad,
    "half of the output": lambda function, x, weight: function(x, weight).detach(),
}


@pytest.mark.parametrize("execution", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("derivative", ["reverse", "mixed"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_weight_with_and_without_gradient_is_differentiated_as_written(
    cut, derivative, execution
):
    """And nothing is logged: to stop a gradient is a method."""
    network = HalfCut(CUTS[cut]).double()
    how = {"derivative": derivative, "execution": execution}
    maml = MAML(network, naive.LR, naive.STEPS, **how)
    params = maml.init_params()
    found, _ = maml.meta_gradient(params, EPISODES)
    assert relative_error(found, naive.maml(network, params, EPISODES)) < 1e-10
    assert "unused or cut off" not in maml.explain()
