"""One run by several processes: `python -m benchmarks.scaling`.

Times outer steps of MAML on the network of the MAML paper (5-way 1-shot, second order), by
one process and by two of one thread each, in turns: with the same meta-batch (strong scaling)
and with the same share a process (weak scaling).  From the time of a step and the size of
the gradient it predicts how well many GPUs would be used.  Writes
`benchmarks/results/scaling.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from statistics import median
from typing import Any

import torch

import innerloop
from benchmarks.reports import RESULTS, machine
from innerloop.models import Conv4
from innerloop.ops.allocator import keep_memory
from innerloop.training.distributed import World

ROUNDS, STEPS = 3, 12
TASKS = 32
PROCESSES = (8, 64, 256, 1024)


def worker(tasks: int) -> dict[str, float] | None:
    """Median seconds of a step and of its all-reduce alone, from rank 0."""
    torch.set_num_threads(1)
    keep_memory()
    world = World.join()
    world.use("cpu")
    data = innerloop.data.random_images(classes=200)
    sampler = innerloop.EpisodeSampler(data, n_way=5, k_shot=1, k_query=1)
    maml = innerloop.MAML(Conv4(5, head="random"))
    params, share = maml.init_params(), world.share(tasks)
    steps, reduces = [], []
    for i in range(STEPS):
        started = time.perf_counter()
        episodes = sampler.batch(i * tasks + share.start, len(share))
        gradient, metrics = maml.meta_gradient(params, episodes)
        computed = time.perf_counter()
        gradient, metrics, *_ = world.mean(len(share) / tasks, gradient, metrics, 0.0, False)
        reduces.append(time.perf_counter() - computed)
        params = {name: p - 0.001 * gradient[name] for name, p in params.items()}
        steps.append(time.perf_counter() - started)
    # The all-reduce alone, without waiting for the slower of two processes.
    alone = []
    for _ in range(20):
        started = time.perf_counter()
        world.mean(1.0, gradient, metrics, 0.0, False)
        alone.append(time.perf_counter() - started)
    world.leave()
    size = sum(g.numel() * g.element_size() for g in gradient.values())
    return {
        "step_seconds": median(steps[2:]),
        "wait_and_reduce_seconds": median(reduces[2:]),
        "reduce_seconds": median(alone) if world.size > 1 else 0.0,
        "gradient_bytes": size,
    }


def launch(processes: int, tasks: int) -> dict[str, float]:
    """`worker` in so many processes."""
    call = ["-m", "benchmarks.scaling", "--worker", str(tasks)]
    if processes > 1:
        nodes = ["-m", "torch.distributed.run", "--standalone"]
        call = [*nodes, "--nproc-per-node", str(processes), *call]
    out = subprocess.run(
        [sys.executable, *call],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(out.stdout.splitlines()[-1])


def efficiency(step: float, size: float, processes: int, bandwidth: float, latency: float) -> float:
    """The share of the time in which GPUs compute, each with its own tasks (weak scaling).

    A ring all-reduce sends the gradient around twice, a part at a time: every process sends
    2 (p - 1) / p of it, in 2 (p - 1) messages one after the other.

    Args:
        step: seconds that a process computes.
        size: bytes of the gradient.
        processes: p.
        bandwidth: bytes a second that a process can send.
        latency: seconds that a message takes.
    """
    messages = 2 * (processes - 1)
    return step / (step + messages / processes * size / bandwidth + messages * latency)


def predictions(step: float, size: float, bandwidth: float, latency: float) -> dict[str, float]:
    return {str(p): efficiency(step, size, p, bandwidth, latency) for p in PROCESSES}


def on_a_gpu() -> float:
    """Seconds of the same step on a GPU, as `benchmarks.speed --device cuda` found them."""
    runs = json.loads((RESULTS / "speed-gpu.json").read_text())["runs"]
    return runs["B"]["second"]["contestants"]["innerloop"]["median"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--bandwidth", type=float, default=25e9, help="bytes a second and GPU")
    parser.add_argument("--latency", type=float, default=5e-6, help="seconds a message")
    arguments = parser.parse_args()
    if arguments.worker:
        found = worker(arguments.worker)
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps(found))
        return
    kinds = {"one": (1, TASKS), "strong": (2, TASKS), "weak": (2, 2 * TASKS)}
    rounds: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        for kind, (processes, tasks) in kinds.items():
            rounds[kind].append(launch(processes, tasks))
    runs: dict[str, Any] = {
        kind: {
            "processes": kinds[kind][0],
            "tasks": kinds[kind][1],
            **{name: median(r[name] for r in found) for name in found[0]},
        }
        for kind, found in rounds.items()
    }
    one, size = runs["one"]["step_seconds"], runs["one"]["gradient_bytes"]
    runs["strong"]["speed_up"] = one / runs["strong"]["step_seconds"]
    runs["weak"]["efficiency"] = one / runs["weak"]["step_seconds"]
    model = {"bandwidth": arguments.bandwidth, "latency": arguments.latency}
    steps = (round(on_a_gpu(), 4), 0.02, round(one, 3))
    runs["predictions"] = {**model, "steps": {str(s): predictions(s, size, **model) for s in steps}}
    report = {"command": "python -m benchmarks.scaling", "machine": machine(), "runs": runs}
    (RESULTS / "scaling.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(runs, indent=1))


if __name__ == "__main__":
    main()
