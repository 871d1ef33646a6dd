"""Time of a step where the support set normalises: `python -m benchmarks.query_statistics`.

With `bn="support"` each query is told by itself, and support and query set go through the network
together.  Timed beside `bn="transductive"`, which treats the queries as a batch of their own, and
beside `bn="support"` without stacking and kernels.  All take turns in one run, after their
meta-gradients have been compared in double precision.  Writes
`benchmarks/results/query_statistics.json`.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

import innerloop
from benchmarks.contest import ROUNDS, MetaGradient, Workload, agreed, in_turns
from benchmarks.own_networks import resnet12
from benchmarks.reports import write_report
from innerloop.build import build_model
from innerloop.config import TrainConfig
from innerloop.models import Conv4, replace_batch_norm
from innerloop.ops import kernels
from innerloop.ops.allocator import keep_memory

SUPPORT, TRANSDUCTIVE, PLAIN = "support", "transductive", "support, PyTorch's operators"


COLOUR = (3, 32, 32)
WORKLOADS = {
    "emoji": Workload(
        lambda: build_model(TrainConfig.preset("emoji"), COLOUR), 1, 120, 1, 1, 1, 0.02, COLOUR
    ),
    "five steps": Workload(
        lambda: Conv4(5, width=32, pool="max", head="random"), 4, 5, 1, 15, 5, 0.02
    ),
    "residual": Workload(lambda: replace_batch_norm(resnet12()), 4, 5, 1, 15, 2, 0.01, COLOUR),
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
    found = in_turns(made, dict.fromkeys(made, ROUNDS))
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
