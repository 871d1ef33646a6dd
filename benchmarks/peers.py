"""MAML's meta-gradient as users of other libraries write it, to be timed beside ours.

Each function takes a network of PyTorch's own layers, with the weights to start from, and
episodes; it returns a function that computes one meta-gradient, by parameter name.
"""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop import Episodes
from innerloop.models import Conv4

Gradient = dict[str, Tensor]
MetaGradient = Callable[[], Gradient]


class Plain(nn.Module):
    """The same function as one of our networks, of PyTorch's own layers alone."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(c.in_channels, c.out_channels, 3, c.stride, c.padding) for c in ours.convs
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(c.out_channels, track_running_stats=False) for c in ours.convs
        )
        self.head = nn.Linear(ours.head.in_features, ours.head.out_features)
        self.load_state_dict(ours.state_dict())
        self.tutorial = not isinstance(ours, Conv4)
        self.pool = self.tutorial or ours.pool == "max"

    def forward(self, x: Tensor) -> Tensor:
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = conv(x)
            if self.tutorial and i == 3:
                x = F.max_pool2d(norm(F.relu(x)), 2)
            else:
                x = norm(x)
                x = F.relu(F.max_pool2d(x, 2) if self.pool else x)
        return self.head(x.flatten(1) if self.pool else x.mean(dim=(-2, -1)))


@contextmanager
def silence():
    """Some of these libraries warn of PyTorch's newer versions when they are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def named(model: nn.Module, gradients) -> Gradient:
    return dict(zip((n for n, _ in model.named_parameters()), gradients, strict=True))


def mean_over_tasks(model: nn.Module, episodes: Episodes, task_gradient) -> MetaGradient:
    """One task after the other; a gradient of None is zero."""
    tasks = [episodes.task(i) for i in range(episodes.num_tasks)]

    def meta_gradient() -> Gradient:
        total = [torch.zeros_like(p) for p in model.parameters()]
        for task in tasks:
            for sum_, g in zip(total, task_gradient(task), strict=True):
                if g is not None:
                    sum_ += g / len(tasks)
        return named(model, total)

    return meta_gradient


def tutorial(
    model: nn.Module, episodes: Episodes, lr: float, steps: int, first_order: bool
) -> MetaGradient:
    """The tutorial's loop: first order, every step's query loss computed with its graph."""
    assert first_order

    def meta_gradient() -> Gradient:
        names = [n for n, _ in model.named_parameters()]
        theta = list(model.parameters())

        def loss(weights, x, y):
            outputs = torch.func.functional_call(
                model, dict(zip(names, weights, strict=True)), (x,)
            )
            return F.cross_entropy(outputs, y), outputs

        last = []
        accuracies = torch.zeros(steps + 1)
        for i in range(episodes.num_tasks):
            task = episodes.task(i)
            weights, losses = theta, []
            for step in range(steps + 1):
                query, outputs = loss(weights, task.query_x, task.query_y)
                losses.append(query)
                with torch.no_grad():
                    right = outputs.argmax(dim=1).eq(task.query_y).sum().item()
                    accuracies[step] += right / len(task.query_y)
                if step < steps:
                    support, _ = loss(weights, task.support_x, task.support_y)
                    gradients = torch.autograd.grad(support, weights, allow_unused=True)
                    weights = [
                        w if g is None else w - lr * g
                        for w, g in zip(weights, gradients, strict=True)
                    ]
            last.append(losses[-1])
        mean = torch.stack(last).mean()
        return named(model, torch.autograd.grad(mean, theta))

    return meta_gradient


def loop(
    model: nn.Module, episodes: Episodes, lr: float, steps: int, first_order: bool
) -> MetaGradient:
    """A loop over tasks, as one writes it without a library."""
    names = [n for n, _ in model.named_parameters()]
    theta = list(model.parameters())

    def loss(weights: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
        by_name = dict(zip(names, weights, strict=True))
        return F.cross_entropy(torch.func.functional_call(model, by_name, (x,)), y)

    def task_gradient(task: Episodes):
        weights: Sequence[Tensor] = theta
        for _ in range(steps):
            gradients = torch.autograd.grad(
                loss(weights, task.support_x, task.support_y),
                weights,
                create_graph=not first_order,
                allow_unused=True,
            )
            weights = [
                w if g is None else w - lr * g for w, g in zip(weights, gradients, strict=True)
            ]
        query = loss(weights, task.query_x, task.query_y)
        return torch.autograd.grad(query, theta, allow_unused=True)

    return mean_over_tasks(model, episodes, task_gradient)


def higher(
    model: nn.Module, episodes: Episodes, lr: float, steps: int, first_order: bool
) -> MetaGradient:
    with silence():
        import higher as library
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)

    def task_gradient(task: Episodes):
        with library.innerloop_ctx(
            model,
            optimizer,
            copy_initial_weights=False,
            track_higher_grads=not first_order,
        ) as (fast, inner):
            for _ in range(steps):
                inner.step(F.cross_entropy(fast(task.support_x), task.support_y))
            loss = F.cross_entropy(fast(task.query_x), task.query_y)
            # Without the higher gradients the last weights stand for the first.
            of = fast.parameters(time=-1 if first_order else 0)
            return torch.autograd.grad(loss, list(of), allow_unused=True)

    return mean_over_tasks(model, episodes, task_gradient)


def torchopt(
    model: nn.Module, episodes: Episodes, lr: float, steps: int, first_order: bool
) -> MetaGradient:
    with silence():
        import torchopt as library
    assert not first_order
    model = copy.deepcopy(model)
    theta = dict(model.named_parameters())
    inner = library.MetaSGD(model, lr=lr)

    def meta_gradient() -> Gradient:
        start = library.extract_state_dict(model, by="reference", detach_buffers=True)
        start_inner = library.extract_state_dict(inner, by="reference")
        total = {name: torch.zeros_like(p) for name, p in theta.items()}
        for i in range(episodes.num_tasks):
            task = episodes.task(i)
            for _ in range(steps):
                inner.step(F.cross_entropy(model(task.support_x), task.support_y))
            loss = F.cross_entropy(model(task.query_x), task.query_y)
            gradients = torch.autograd.grad(loss, list(theta.values()))
            for sum_, g in zip(total.values(), gradients, strict=True):
                sum_ += g / episodes.num_tasks
            library.recover_state_dict(model, start)
            library.recover_state_dict(inner, start_inner)
        return total

    return meta_gradient


def learn2learn(
    model: nn.Module, episodes: Episodes, lr: float, steps: int, first_order: bool
) -> MetaGradient:
    with silence():
        import learn2learn as library
    maml = library.algorithms.MAML(copy.deepcopy(model), lr=lr, first_order=first_order)

    def task_gradient(task: Episodes):
        learner = maml.clone()
        for _ in range(steps):
            learner.adapt(F.cross_entropy(learner(task.support_x), task.support_y))
        loss = F.cross_entropy(learner(task.query_x), task.query_y)
        return torch.autograd.grad(loss, list(maml.parameters()))

    return mean_over_tasks(model, episodes, task_gradient)


def vmap(
    model: nn.Module, episodes: Episodes, lr: float, steps: int, first_order: bool
) -> MetaGradient:
    """Plain `torch.func`.  The gradient is taken inside vmap, which is the exact order.

    The second derivative of PyTorch's max-pooling has no vmap rule, though, and runs as a loop over
    samples.  With pooling and second order the gradient is therefore taken outside, as most code
    does; with batch norm the result is slightly wrong.
    """
    params = {name: p.detach() for name, p in model.named_parameters()}

    def query_loss(params: Gradient, sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor) -> Tensor:
        def support_loss(fast: Gradient) -> Tensor:
            return F.cross_entropy(torch.func.functional_call(model, fast, (sx,)), sy)

        fast = params
        for _ in range(steps):
            gradients = torch.func.grad(support_loss)(fast)
            if first_order:
                gradients = {name: g.detach() for name, g in gradients.items()}
            fast = {name: p - lr * gradients[name] for name, p in fast.items()}
        return F.cross_entropy(torch.func.functional_call(model, fast, (qx,)), qy)

    dims = (None, 0, 0, 0, 0)
    data = (episodes.support_x, episodes.support_y, episodes.query_x, episodes.query_y)
    if exact_vmap(model, first_order):
        per_task = torch.func.vmap(torch.func.grad(query_loss), in_dims=dims)
        return lambda: {name: g.mean(0) for name, g in per_task(params, *data).items()}
    losses = torch.func.vmap(query_loss, in_dims=dims)
    return lambda: torch.func.grad(lambda p: losses(p, *data).mean())(params)


def exact_vmap(model: nn.Module, first_order: bool) -> bool:
    """Whether `vmap` above takes the exact order."""
    return first_order or not model.pool


# Which peers there are, for first and for second order.
PEERS = {
    "tutorial": (tutorial, True, False),
    "higher": (higher, True, True),
    "TorchOpt": (torchopt, False, True),
    "learn2learn": (learn2learn, True, True),
    "torch.func vmap": (vmap, True, True),
}
# Those that go through the tasks one at a time.
TASK_BY_TASK = ("higher", "TorchOpt", "learn2learn")


def installed(name: str) -> bool:
    """Whether a peer can be imported."""
    if name in ("tutorial", "torch.func vmap"):
        return True
    return importlib.util.find_spec(name.lower()) is not None
