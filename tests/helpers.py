"""Small networks, episodes and reference computations shared by tests."""

from __future__ import annotations

import threading

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from innerloop import Episodes


def in_threads(work, count=8):
    """What `work` gives in so many threads at once, called with their numbers."""
    found = {}

    def run(i):
        found[i] = work(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == count
    return [found[i] for i in range(count)]


def random_episodes(
    tasks=3, n_way=3, k_shot=2, k_query=2, shape=(1, 16, 16), seed=0, dtype=torch.float64
) -> Episodes:
    """Noise with a class-dependent mean, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)

    def images(per_class):
        y = torch.arange(n_way).repeat_interleave(per_class).expand(tasks, -1)
        means = torch.randn(tasks, n_way, *shape, generator=generator, dtype=dtype)
        noise = torch.randn(tasks, n_way * per_class, *shape, generator=generator, dtype=dtype)
        index = y.reshape(tasks, -1, *[1] * len(shape)).expand_as(noise)
        return means.gather(1, index) + 0.5 * noise, y.clone()

    sx, sy = images(k_shot)
    qx, qy = images(k_query)
    return Episodes(sx, sy, qx, qy)


@sdpa_kernel(SDPBackend.MATH)  # fused attention has no second derivative
def loop_meta_gradient(
    model: nn.Module,
    params: dict[str, torch.Tensor],
    episodes: Episodes,
    *,
    inner_lr: float,
    inner_steps: int,
    first_order: bool = False,
    loss=F.cross_entropy,
    expand=lambda params: params,
):
    """MAML's meta-gradient one task at a time with `torch.autograd`: no vmap, no torch.func.grad.

    Written apart from the package, to be compared with it.
    """
    leaves = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
    total = 0.0
    for i in range(episodes.num_tasks):
        task = episodes.task(i)
        fast = expand(leaves)
        for _ in range(inner_steps):
            value = loss(torch.func.functional_call(model, fast, (task.support_x,)), task.support_y)
            grads = torch.autograd.grad(
                value, list(fast.values()), create_graph=not first_order, allow_unused=True
            )
            fast = {
                name: p if g is None else p - inner_lr * g
                for (name, p), g in zip(fast.items(), grads, strict=True)
            }
        total = total + loss(torch.func.functional_call(model, fast, (task.query_x,)), task.query_y)
    total = total / episodes.num_tasks
    grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(leaves.items(), grads, strict=True)
    }, total.detach()


def relative_error(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Norm of the difference over the norm of `b`, over all entries."""
    assert a.keys() == b.keys()
    difference = sum((a[n] - b[n]).abs().square().sum() for n in a).sqrt()
    return (difference / sum(b[n].abs().square().sum() for n in b).sqrt()).item()


def directional_derivative(function, params, direction, epsilon=1e-6) -> float:
    """Central finite difference of a scalar function of a dict of tensors."""
    ends = [
        function({n: p + sign * epsilon * direction[n] for n, p in params.items()})
        for sign in (1, -1)
    ]
    return ((ends[0] - ends[1]) / (2 * epsilon)).item()


class NormNet(nn.Module):
    """Two convolutions with a normalisation of choice; smooth, for finite differences."""

    def __init__(self, norm: str, n_way: int = 3) -> None:
        super().__init__()
        make = {
            "batch": lambda: nn.BatchNorm2d(4, track_running_stats=False),
            "layer": lambda: nn.LayerNorm([4, 4, 4]),
            "group": lambda: nn.GroupNorm(2, 4),
            "instance": lambda: nn.InstanceNorm2d(4, affine=True),
            "none": nn.Identity,
        }[norm]
        generator = torch.Generator().manual_seed(1)
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, 4, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.norm1, self.norm2 = make(), make()
        self.head = nn.Linear(64, n_way)
        for module in (self.conv1, self.conv2, self.head):
            for p in module.parameters():
                nn.init.normal_(p, 0.0, 0.3, generator=generator)

    def forward(self, x):
        x = torch.tanh(self.norm1(self.conv1(x)))
        x = torch.tanh(self.norm2(self.conv2(x)))
        return self.head(x.flatten(1))
