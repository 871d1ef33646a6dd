"""Contract tests for anyone's algorithm, like scikit-learn's `check_estimator`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.algorithms.base import Algorithm
from innerloop.errors import UserError
from innerloop.functional import Params
from innerloop.models.layers import HeadedModel
from innerloop.tasks.episodes import Episodes
from innerloop.training.fit import fit
from innerloop.training.report import Report

__all__ = ["check_algorithm"]

Make = Callable[[nn.Module], Algorithm]
# Relative, in float64.
CLOSE = 1e-8


def check_algorithm(make: Callable[[nn.Module], Algorithm], *, is_gradient: bool = True) -> None:
    """Check that an algorithm does what training, evaluation and resuming rely on.

    The algorithm is computed in float64 on small networks and three-way tasks.  Checked are: what
    is passed in is not changed; gradients have the names, shapes and types of the parameters, and
    no graph; the same call gives the same numbers; tasks do not depend on each other, and the
    gradient is the mean of theirs; chunks and every way of execution give the same numbers; the
    meta-gradient is the derivative of the loss; frozen and unused parameters; how many inner
    steps there are; a run that is interrupted and resumed equals one that is not.

    Args:
        make: the algorithm on a network, for instance `lambda model: MyMAML(model, 0.1, 2)`.  The
            network takes `[B, 6]` and gives logits `[B, 3]`; its last layer is `head`.
        is_gradient: whether the meta-gradient is the derivative of the loss that is reported; it
            is not in first-order methods and in Reptile.

    Raises:
        AssertionError: the algorithm fails a check; it says which, and what to look at.
        UserError: the algorithm refuses the network or the tasks.

    Example:
        >>> import innerloop, innerloop.testing
        >>> innerloop.testing.check_algorithm(lambda model: innerloop.MAML(model, 0.1, 2))
    """
    checks = [
        _inner_steps_are_counted,
        _leaves_what_it_is_given,
        _gradients_fit_the_parameters,
        _repeats_itself,
        _keeps_tasks_apart,
        _chunks_change_nothing,
        _ways_of_execution_agree,
        _frozen_and_unused_parameters,
        _resumes_exactly,
    ]
    for check in checks:
        check(make)
    _is_the_derivative(make, is_gradient)


class _Net(HeadedModel):
    """A body and a head; one parameter is frozen, one is unused."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 5), nn.Linear(5, 3)
        self.frozen, self.unused = nn.Parameter(torch.ones(6)), nn.Parameter(torch.ones(2))
        generator = torch.Generator().manual_seed(0)
        for layer in (self.body, self.head):
            for p in layer.parameters():
                nn.init.normal_(p, 0.0, 0.4, generator=generator)
        self.frozen.requires_grad_(False)
        self.double()

    def features(self, x: Tensor) -> Tensor:
        """`[B, 6]` to `[B, 5]`."""
        return torch.tanh(self.body(x * self.frozen))


class _Tasks:
    """Three classes around means of their own; episode i is a function of i."""

    n_way = 3

    def __init__(self, first: int = 0) -> None:
        self.first = first

    def batch(self, start: int, count: int) -> Episodes:
        y = torch.arange(3).repeat(2)
        tasks = []
        for number in range(self.first + start, self.first + start + count):
            generator = torch.Generator().manual_seed(number)
            means = torch.randn(3, 6, generator=generator, dtype=torch.float64)
            noise = torch.randn(2, 6, 6, generator=generator, dtype=torch.float64)
            tasks.append((means[y] + 0.5 * noise[0], y, means[y] + 0.5 * noise[1], y))
        return Episodes(*(torch.stack(t) for t in zip(*tasks, strict=True)), n_way=3)


class _StopAt(Report):
    """Stops the run by an error, as if the process were killed."""

    def validated(self, line: dict[str, Any]) -> None:
        if line["iteration"] == 4:
            raise InterruptedError


def _made(make: Make) -> tuple[Algorithm, Params, Episodes]:
    algorithm = make(_Net())
    assert isinstance(algorithm, Algorithm), (
        f"make must return an innerloop.Algorithm, not {type(algorithm).__name__}"
    )
    return algorithm, algorithm.init_params(), _Tasks().batch(0, 3)


def _leaves_what_it_is_given(make: Make) -> None:
    algorithm, params, episodes = _made(make)
    before = _copied(params), _copied(dict(algorithm.model.named_parameters()))
    inputs = [t.clone() for t in episodes]
    algorithm.meta_gradient(params, episodes)
    algorithm.score_steps(params, episodes)
    task = episodes.task(0)
    algorithm.adapt(params, task.support_x, task.support_y, n_way=3)
    assert _distance(params, before[0]) == 0, (
        "the meta-parameters that were passed in are changed: work on new tensors"
    )
    assert _distance(dict(algorithm.model.named_parameters()), before[1]) == 0, (
        "the network's own parameters are changed: use self.forward(params, x)"
    )
    assert all(torch.equal(a, b) for a, b in zip(episodes, inputs, strict=True)), (
        "the episodes that were passed in are changed"
    )


def _gradients_fit_the_parameters(make: Make) -> None:
    algorithm, params, episodes = _made(make)
    grads, metrics = algorithm.meta_gradient(params, episodes)
    assert grads.keys() == params.keys(), (
        f"gradients must have the names of init_params(); {sorted(grads.keys() ^ params.keys())} "
        "differ"
    )
    for name, p in params.items():
        assert grads[name].shape == p.shape, f"the gradient of {name} has another shape"
        assert grads[name].dtype == p.dtype, f"the gradient of {name} has another type"
        assert not grads[name].requires_grad, f"the gradient of {name} has a graph: detach it"
    assert "loss" in metrics, "metrics must have the loss"
    for name, value in metrics.items():
        assert value.ndim == 0, f"the metric {name} must be a scalar"
        assert not value.requires_grad, f"the metric {name} has a graph: detach it"


def _repeats_itself(make: Make) -> None:
    algorithm, params, episodes = _made(make)
    a, b = (algorithm.meta_gradient(params, episodes)[0] for _ in range(2))
    assert _distance(a, b) == 0, (
        "the same call gives other numbers: what changes from call to call cannot be resumed"
    )


def _keeps_tasks_apart(make: Make) -> None:
    algorithm, params, episodes = _made(make)
    together = algorithm.meta_gradient(params, episodes)[0]
    apart = [algorithm.meta_gradient(params, t.with_task(3))[0] for t in episodes.tasks()]
    mean = {name: sum(g[name] for g in apart) / len(apart) for name in together}
    assert _distance(together, mean) < CLOSE, (  # type: ignore[arg-type]
        "the gradient of three tasks is not the mean of those of each: processes that share a "
        "meta-batch would learn something else than one"
    )


def _chunks_change_nothing(make: Make) -> None:
    algorithm, params, episodes = _made(make)
    whole = algorithm.meta_gradient(params, episodes)[0]
    algorithm.chunk_size = 2
    assert _distance(whole, algorithm.meta_gradient(params, episodes)[0]) < CLOSE, (
        "chunk_size changes the gradient"
    )


def _ways_of_execution_agree(make: Make) -> None:
    algorithm, params, episodes = _made(make)
    algorithm.execution = "loop"
    expected = algorithm.meta_gradient(params, episodes)[0]
    for way in ("auto", "stacked", "vmap"):
        algorithm = make(_Net())
        algorithm.execution = way
        try:
            found = algorithm.meta_gradient(params, episodes)[0]
        except UserError:
            continue  # not for this algorithm
        assert _distance(found, expected) < CLOSE, (
            f"execution={way!r} gives another gradient than 'loop'; algorithm.explain() says what "
            "is computed"
        )


def _inner_steps_are_counted(make: Make) -> None:
    algorithm, params, episodes = _made(make)
    task = episodes.task(0)
    for asked in (None, 3):
        steps = list(
            algorithm.inner_loop(params, task.support_x, task.support_y, inner_steps=asked, n_way=3)
        )
        number = algorithm.inner_steps
        if asked is not None and number:
            number = asked
        assert len(steps) == number + 1, (
            f"inner_loop must yield the weights before the first and after each of {number} steps, "
            f"not {len(steps)} times"
        )
    for asked in (None, 3):
        number = algorithm.inner_steps if asked is None or not algorithm.inner_steps else asked
        scores = algorithm.score_steps(params, episodes, inner_steps=asked)
        assert scores["loss"].shape == (3, number + 1), (
            f"score_steps must give [T, steps + 1] = [3, {number + 1}], not "
            f"{list(scores['loss'].shape)}"
        )


def _frozen_and_unused_parameters(make: Make) -> None:
    algorithm, params, episodes = _made(make)
    assert "frozen" not in params, "a parameter with requires_grad=False is learnt"
    grads = algorithm.meta_gradient(params, episodes)[0]
    if "unused" in grads:
        assert not grads["unused"].any(), "a parameter that is not used has a gradient"


def _is_the_derivative(make: Make, is_gradient: bool) -> None:
    algorithm, params, episodes = _made(make)
    grads = algorithm.meta_gradient(params, episodes)[0]
    generator = torch.Generator().manual_seed(1)
    along = {
        name: torch.zeros_like(p)
        if name in algorithm.moving_averages
        else torch.randn(p.shape, generator=generator, dtype=p.dtype)
        for name, p in params.items()
    }
    ends = []
    for step in (1e-5, -1e-5):
        moved = {name: p + step * along[name] for name, p in params.items()}
        ends.append(algorithm.meta_gradient(moved, episodes)[1]["loss"].item())
    numeric = (ends[0] - ends[1]) / 2e-5
    found = sum((grads[n] * along[n]).sum().item() for n in grads)
    if is_gradient:
        assert abs(found - numeric) <= 1e-5 * max(1.0, abs(numeric)), (
            f"the meta-gradient is not the derivative of the loss: along one direction it is "
            f"{found:.8g}, and by finite differences {numeric:.8g}. Where that is meant, pass "
            "is_gradient=False"
        )


def _resumes_exactly(make: Make) -> None:
    with tempfile.TemporaryDirectory() as folder:

        def run(name: str, report: Report | None = None) -> Params:
            return fit(
                make(_Net()),
                _Tasks(),
                val=_Tasks(first=1000),
                out=Path(folder) / name,
                resume=True,
                report=report,
                iterations=6,
                val_every=2,
                val_tasks=2,
            ).params

        whole = run("whole")
        try:
            run("stopped", _StopAt())
        except InterruptedError:
            resumed = run("stopped")
        assert _distance(resumed, whole) == 0, (
            "a run that was stopped and resumed ends with other weights: the algorithm keeps "
            "something between calls that is not in init_params()"
        )


def _copied(tensors: Params) -> Params:
    return {name: t.detach().clone() for name, t in tensors.items()}


def _distance(a: Params, b: Params) -> float:
    """The norm of the difference over that of `b`."""
    difference = sum(((a[n] - b[n]).detach().square().sum() for n in b), torch.zeros(()))
    size = sum((b[n].detach().square().sum() for n in b), torch.zeros(()))
    return float((difference / size.clamp(min=1e-300)).sqrt())
