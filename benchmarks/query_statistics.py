"""Time of a step where the support set normalises: `python -m benchmarks.query_statistics`.

With `bn="support"` each query is told by itself, and support and query set go through the network
together.  Timed beside `bn="transductive"`, which treats the queries as a batch of their own, and
beside `bn="support"` without stacking and kernels.  All take turns in one run, after their
meta-gradients have been compared in double precision.  Writes
`benchmarks/results/query_statistics.json`.
"""

from __future__ import annotations

import argparse
from statistics import median
from typing import Any

import torch
from torch import nn

import innerloop
from benchmarks.contest import ROUNDS, MetaGradient, Workload, agreed, seconds
from benchmarks.reports import write_report
from innerloop.config import TrainConfig
from innerloop.models import BatchNorm, Conv4
from innerloop.ops import kernels
from innerloop.ops.allocator import keep_memory

SUPPORT, TRANSDUCTIVE, PLAIN = "support", "transductive", "support, PyTorch's operators"


class Residual(nn.Module):
    """Three convolutions, the last one with a way past it, as a user would write them."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (1, 32), (32, 32), (32, 32)
        self.convs = nn.ModuleList(nn.Conv2d(*size, 3, padding=1, bias=False) for size in sizes)
        self.norms = nn.ModuleList(BatchNorm(32) for _ in sizes)
        self.head = nn.Linear(32 * 7 * 7, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm in zip(self.convs[:2], self.norms, strict=False):
            x = nn.functional.max_pool2d(torch.relu(norm(conv(x))), 2)
        x = torch.relu(x + self.norms[2](self.convs[2](x)))
        return self.head(x.flatten(1))


def emoji() -> Conv4:
    """The network of the preset `emoji`, for as many classes as its training tasks have."""
    config = TrainConfig.preset("emoji")
    assert isinstance(config.train_n_way, int)
    return Conv4(
        config.train_n_way,
        channels=3,
        image_size=32,
        width=config.width,
        pool=config.pool,
        head=config.head,
        unit_features=config.unit_features,
    )


WORKLOADS = {
    "emoji": Workload(emoji, 1, 120, 1, 1, 1, 0.02, (3, 32, 32)),
    "five steps": Workload(
        lambda: Conv4(5, width=32, pool="max", head="random"), 4, 5, 1, 15, 5, 0.02
    ),
    "residual": Workload(Residual, 4, 5, 1, 15, 5, 0.02),
}


def contestants(work: Workload, dtype: torch.dtype) -> dict[str, MetaGradient]:
    """Functions that compute one meta-gradient, by name."""
    model, episodes = work.make().to(dtype), work.episodes(dtype)

    def maml(**options: Any) -> MetaGradient:
        algorithm = innerloop.MAML(model, work.lr, work.steps, **options)
        params = algorithm.init_params()
        return lambda: algorithm.meta_gradient(params, episodes)[0]

    without = maml(bn="support", execution="vmap")

    def plain() -> Any:
        with kernels.without():
            return without()

    return {SUPPORT: maml(bn="support"), TRANSDUCTIVE: maml(), PLAIN: plain}


def measure(work: Workload) -> dict[str, Any]:
    """Seconds of every contestant, interleaved."""
    exact = contestants(work, torch.float64)
    apart = agreed(PLAIN, exact[SUPPORT](), exact[PLAIN]())
    made = contestants(work, torch.float32)
    for meta_gradient in made.values():
        meta_gradient()
    times: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(ROUNDS):
        for name, meta_gradient in made.items():
            times[name].append(seconds(meta_gradient, "cpu"))
    found: dict[str, Any] = {
        name: {"median": median(t), "seconds": [round(s, 5) for s in t]}
        for name, t in times.items()
    }
    found[PLAIN]["difference"] = apart
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    keep_memory()
    runs = {}
    for name, work in WORKLOADS.items():
        runs[name] = measure(work)
        for contestant, row in runs[name].items():
            times = row["median"] / runs[name][SUPPORT]["median"]
            print(f"{name:12}{contestant:30}{1000 * row['median']:9.1f} ms {times:7.2f}x")
    write_report("query_statistics", runs, "python -m benchmarks.query_statistics")


if __name__ == "__main__":
    main()
