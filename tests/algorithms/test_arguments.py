"""Meta-parameters that are not those of the algorithm: one error that names the first."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from innerloop import MAML, Episodes, MAMLPlusPlus, MetaSGD, ProtoNet, UserError, evaluate
from innerloop.algorithms import arguments
from innerloop.models import Conv4

Y = torch.arange(6).remainder(3).expand(2, 6)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))


def episodes(dtype=torch.float32) -> Episodes:
    x = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    return Episodes(x, Y, x.clone(), Y, n_way=3)


class Source:
    n_way = 3

    def batch(self, start, count):
        return episodes()


CALLS = {
    "meta_gradient": lambda maml, params, e: maml.meta_gradient(params, e),
    "score_steps": lambda maml, params, e: maml.score_steps(params, e),
    "inner_loop_each": lambda maml, params, e: maml.inner_loop_each(params, *e[:2]),
    "adapt": lambda maml, params, e: maml.adapt(params, e.support_x[0], e.support_y[0]),
    "evaluate": lambda maml, params, e: evaluate(maml, params, Source(), tasks=2),
}
WRONG = {
    "double": (
        lambda p: {n: v.double() for n, v in p.items()},
        r"params\['0.weight'\] is of type torch.float64, and in the network it is torch.float32",
    ),
    "shape": (
        lambda p: {**p, "0.weight": torch.ones(8, 4)},
        r"params\['0.weight'\] has shape \(8, 4\) and must have \(8, 5\)",
    ),
    # PyTorch would spread it over the others without a word.
    "one": (lambda p: {**p, "2.bias": torch.ones(1)}, r"'2.bias'\] has shape \(1,\) and must h"),
    "numpy": (
        lambda p: {n: v.numpy() for n, v in p.items()},
        r"params\['0.weight'\] must be a tensor, not a ndarray: use torch.as_tensor",
    ),
    "list": (lambda p: list(p.values()), "params must be weights, a dict .*, not list"),
    "empty": (lambda p: {}, "params must be weights, a dict .*, not an empty dict"),
    "more": (lambda p: {**p, "zz": torch.ones(1)}, "'zz', which is no meta-.* give those of alg"),
    "less": (lambda p: {"2.bias": p["2.bias"]}, "has no 0.weight, 0.bias, 2.weight: give all"),
    "other": (
        lambda p: {f"module.{n}": v for n, v in p.items()},
        "'module.0.weight', which is no meta-parameter .* did you mean '0.weight'",
    ),
}


@pytest.mark.parametrize("first", [True, False], ids=["first call", "later"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(("wrong", "message"), WRONG.values(), ids=WRONG)
def test_wrong_meta_parameters_are_named(wrong, message, call, first):
    maml = MAML(network(), 0.1)
    params = maml.init_params()
    if not first:
        call(maml, params, episodes())
    with pytest.raises(UserError, match=message):
        call(maml, wrong(params), episodes())
    # The right ones are right afterwards.
    call(maml, params, episodes())


@pytest.mark.parametrize("kind", [MetaSGD, MAMLPlusPlus])
def test_the_algorithms_own_are_checked_as_well(kind):
    algorithm = kind(network())
    params = algorithm.init_params()
    without = {n: p for n, p in params.items() if n != "rate@0.weight"}
    with pytest.raises(UserError, match=r"params has no rate@0.weight"):
        algorithm.meta_gradient(without, episodes())
    with pytest.raises(UserError, match=r"params\['rate@0.weight'\] has shape \(7,\)"):
        algorithm.meta_gradient({**params, "rate@0.weight": torch.ones(7)}, episodes())


def test_buffers_are_no_meta_parameters():
    maml = MAML(nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)), bn="frozen")
    with pytest.raises(UserError, match=r"'1.running_mean', which is no meta-parameter"):
        maml.meta_gradient(maml.model.state_dict(), episodes())


def test_meta_parameters_that_serve_are_taken():
    maml = MAML(network(), 0.1, adapted="2.*")
    params = maml.init_params()
    expected = maml.adapt(params, *(t[0] for t in episodes()[:2]))
    # All of one type are right for examples of that type.
    double = {n: p.double() for n, p in params.items()}
    found = maml.adapt(double, *(t[0] for t in episodes(torch.float64)[:2]))
    assert all(found[n].dtype == torch.float64 for n in found)
    torch.testing.assert_close(found, expected, check_dtype=False)
    # A network may be frozen before it is used.
    maml.model.requires_grad_(False)
    torch.testing.assert_close(maml.adapt(params, *(t[0] for t in episodes()[:2])), expected)
    # Those of another algorithm on the same network have a head, too.
    with_head = dict(Conv4(3, width=16).named_parameters())
    x, y = torch.rand(1, 3, 1, 28, 28), torch.arange(3)[None]
    ProtoNet(Conv4(3, width=16)).score_steps(with_head, Episodes(x, y, x, y))


def test_a_network_that_grows_has_new_meta_parameters():
    model = network()
    maml = MAML(model, 0.1, adapted="0.*")
    maml.meta_gradient(maml.init_params(), episodes())
    model[2] = nn.Linear(8, 4)
    assert maml.meta_gradient(maml.init_params(), episodes())[0]["2.weight"].shape == (4, 8)


def test_an_error_that_is_not_about_their_type_stays_what_it_is():
    def wrong(outputs, targets):
        raise RuntimeError("the loss itself")

    maml = MAML(network(), loss=wrong)
    double = {n: p.double() for n, p in maml.init_params().items()}
    with pytest.raises(RuntimeError, match="the loss itself"):
        maml.meta_gradient(double, episodes(torch.float64))


def test_init_params_is_asked_once_and_draws_in_vain():
    """From PyTorch's and NumPy's global generators, the older one of NumPy's."""

    class Random(MAML):
        asked = 0

        def init_params(self):
            self.asked += 1
            params = super().init_params()
            return {n: p + torch.rand(()) + np.random.rand() for n, p in params.items()}  # noqa: NPY002

    maml = Random(network(), 0.1)
    params = maml.init_params()
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for _ in range(3):
        maml.adapt(params, *(t[0] for t in episodes()[:2]))
    assert maml.asked == 2
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


def test_tasks_with_n_way_are_scored_under_vmap():
    maml, (x, y, query_x, query_y) = MAML(network(), 0.1, 1), episodes()
    params = maml.init_params()

    def losses(*task):
        one = Episodes(*(part[None] for part in task), n_way=3)
        return maml.score_steps(params, one)["loss"][0]

    expected = maml.score_steps(params, episodes())["loss"]
    found = torch.func.vmap(losses, randomness="different")(x, y.clone(), query_x, query_y.clone())
    torch.testing.assert_close(found, expected)


def test_under_torch_func_meta_parameters_are_taken_as_they_are():
    maml = MAML(network(), 0.1)
    params, (x, y) = maml.init_params(), (t[0] for t in episodes()[:2])
    several = {n: torch.stack([p, 2 * p]) for n, p in params.items()}

    def adapted(params):
        return maml.adapt(params, x, y, n_way=3)["2.bias"]

    found = torch.func.vmap(adapted)(several)
    torch.testing.assert_close(found[0], adapted(params))
    found = torch.func.grad(lambda p: adapted(p).square().sum())(params)
    assert found.keys() == params.keys()


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, x, mask):
        return self.net(x * mask)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_network_of_two_arguments_is_named(call):
    maml = MAML(Masked(), 0.1)
    with pytest.raises(UserError, match=r"forward of Masked takes \(x, mask\), .* wrap the net"):
        call(maml, maml.init_params(), episodes())


def test_a_second_argument_may_come_from_elsewhere():
    class Given(MAML):
        def forward(self, params, x):
            if x.dtype == torch.float64:
                raise TypeError("of the user")
            return self.network(params, x, lambda module, x: module(x, torch.ones(5)))

    algorithm = Given(Masked(), 0.1)
    algorithm.meta_gradient(algorithm.init_params(), episodes())
    with pytest.raises(TypeError, match="of the user"):
        algorithm.meta_gradient(algorithm.init_params(), episodes(torch.float64))
    model = Masked()
    model.register_forward_pre_hook(
        lambda m, args, kwargs: ((*args, 1.0), kwargs), with_kwargs=True
    )
    maml = MAML(model, 0.1)
    maml.meta_gradient(maml.init_params(), episodes())


def test_what_fits_is_not_looked_at_again(monkeypatch):
    maml = MAML(network(), 0.1)
    params = maml.init_params()
    arguments.check_params(maml, params)
    monkeypatch.setattr(arguments.noise, "generators_kept", None)
    arguments.check_params(maml, {n: p + 1 for n, p in params.items()})


UNUSUAL = {
    "nested": lambda x: torch.nested.nested_tensor(list(x)),
    "jagged": lambda x: torch.nested.nested_tensor(list(x), layout=torch.jagged),
    "sparse": lambda x: x.to_sparse(),
    "compressed": lambda x: x.flatten(0, -2).to_sparse_csr(),
    "quantized": lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8),
}
WAYS_OUT = {
    "nested": r"pad them, by torch\.nested\.to_padded_tensor",
    "jagged": r"pad them, by torch\.nested\.to_padded_tensor",
    "sparse": r"support_x\.to_dense\(\)",
    "compressed": r"support_x\.to_dense\(\)",
    "quantized": r"support_x\.dequantize\(\)",
}


@pytest.mark.filterwarnings("ignore")  # PyTorch's, of what it calls a prototype
@pytest.mark.parametrize("kind", UNUSUAL)
def test_tensors_that_are_not_dense_are_one_clear_error(kind):
    maml, dense = MAML(network(), 0.1, 1), episodes()
    params, other = maml.init_params(), dense._replace(support_x=UNUSUAL[kind](dense.support_x))
    one = UNUSUAL[kind](dense.support_x[0])
    for call in (
        lambda: maml.meta_gradient(params, other),
        lambda: maml.score_steps(params, other),
        lambda: maml.inner_loop_each(params, other.support_x, other.support_y),
        lambda: maml.adapt(params, one, dense.support_y[0]),
    ):
        with pytest.raises(UserError, match=WAYS_OUT[kind]):
            call()


class Writes(MAML):
    """Takes its inner steps in place, which `torch.no_grad()` allows."""

    def update(self, params, fast, gradient, step):
        with torch.no_grad():
            for name, p in fast.items():
                p.sub_(0.1 * gradient[name])
        return fast


class WritesExamples(MAML):
    def inner_loss(self, params, fast, support, step):
        support.x.mul_(0.5)
        return super().inner_loss(params, fast, support, step)


class Fills(MAML):
    def update(self, params, fast, gradient, step):
        params["0.bias"] = params["0.bias"] + 1
        return super().update(params, fast, gradient, step)


@pytest.mark.parametrize("kind", [Writes, WritesExamples, Fills])
@pytest.mark.parametrize("call", CALLS)
def test_hooks_that_write_into_what_they_are_given_are_named(kind, call):
    algorithm = kind(network(), 0.1, 2, execution="loop")
    message = r"changed the meta-parameters or the examples|changed '0.bias' in the dict of weights"
    with pytest.raises(UserError, match=message):
        CALLS[call](algorithm, algorithm.init_params(), episodes())


@pytest.mark.parametrize("what", ["params", "examples"])
def test_tensors_that_were_made_in_inference_mode_are_named(what):
    algorithm, given = MAML(network(), 0.1, 2), episodes()
    params = algorithm.init_params()
    with torch.inference_mode():
        if what == "params":
            params = {name: p.clone() for name, p in params.items()}
        else:
            given = Episodes(*(t.clone() for t in given), n_way=3)
    for call in ("meta_gradient", "score_steps"):
        with pytest.raises(UserError, match=r"made in torch\.inference_mode"):
            CALLS[call](algorithm, params, given)


def test_evaluation_in_inference_mode_is_that_outside():
    class Making(Source):
        def batch(self, start, count):
            return Episodes(*(t[:count].clone() for t in episodes()), n_way=3)

    algorithm = MAML(network(), 0.1, 2)
    params = algorithm.init_params()
    expected = evaluate(algorithm, params, Making(), tasks=2)["loss_per_step"]
    with torch.inference_mode():
        assert evaluate(algorithm, params, Making(), tasks=2)["loss_per_step"] == expected


def filling(hook):
    """A class whose `hook` puts something into the meta-parameters that it is given."""
    usual = getattr(MAML, hook)

    def own(self, params, *rest, **named):
        params["0.bias"] = params["0.bias"] * 1.01
        return usual(self, params, *rest, **named)

    return type("Fills", (MAML,), {hook: own})


@pytest.mark.parametrize("execution", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("derivative", ["reverse", "mixed"])
@pytest.mark.parametrize(
    "hook",
    [
        *("start", "rest", "rates", "inner_loss", "update"),
        *("loss_after_adaptation", "inner_loop", "task_gradient"),
    ],
)
def test_what_a_hook_puts_into_the_meta_parameters_is_not_there_in_silence(
    hook, derivative, execution
):
    """The next step, or the next task, would have begun with it."""
    algorithm = filling(hook)(network(), 0.1, 2, derivative=derivative, execution=execution)
    with pytest.raises(
        UserError, match=r"changed '0.bias' in the dict|changed the meta-parameters"
    ):
        algorithm.meta_gradient(algorithm.init_params(), episodes())


@pytest.mark.parametrize("hook", ["forward", "query_outputs", "query_loss"])
def test_hooks_of_fast_weights_have_a_dict_of_their_own(hook):
    usual = getattr(MAML, hook)

    def clean(self, fast, *rest):
        return usual(self, fast | {"0.bias": fast["0.bias"] * 1.01}, *rest)

    found, wanted = (
        kind(network(), 0.1, 2) for kind in (filling(hook), type("Own", (MAML,), {hook: clean}))
    )
    params = found.init_params()
    grads, _ = found.meta_gradient(params, episodes())
    for name, g in wanted.meta_gradient(params, episodes())[0].items():
        assert torch.equal(grads[name], g)
