"""Peak memory of a second-order meta-gradient against inner steps: `python -m benchmarks.memory`.

Reverse mode, mixed mode, mixed mode with chunks of one task, and a task-by-task loop with
`higher`, each measurement in a process of its own.  The peak is that of resident memory during two
meta-gradients, minus the memory in use before them, after the same code has run on a tiny network.
Measurements that would not fit into the machine's memory are left out, and the report says so.

`--network` picks the network: `conv4`, ours; `plain`, Conv4 in plain `torch.nn`; or `resnet12`, of
full width in plain `torch.nn`, on 84 x 84 colour images.  Writes `benchmarks/results/memory.json`
and `docs/img/memory.png`, for the other networks `memory_NETWORK`; with names of ways, only these
are measured again.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import innerloop
from benchmarks.own_networks import resnet12
from benchmarks.peers import Plain
from benchmarks.reports import RESULTS, in_own_process, write_report
from innerloop.models import Conv4

T = TypeVar("T")
STEPS = (1, 2, 5, 10, 20, 50, 100, 200)
WAYS = ("reverse", "mixed", "mixed, task by task", "higher")
K_QUERY = 15


class Network(NamedTuple):
    """What is measured: a network, a tiny one of its kind, its images, and how many tasks."""

    make: Callable[[], nn.Module]
    tiny: Callable[[], nn.Module]
    tasks: int
    shape: tuple[int, int, int]
    title: str


N_WAY = 5
NETWORKS = {
    "conv4": Network(
        lambda: Conv4(N_WAY, head="random"),
        lambda: Conv4(N_WAY, head="random", width=2),
        *(4, (1, 28, 28), "Conv4-64"),
    ),
    "plain": Network(
        lambda: Plain(Conv4(N_WAY, head="random", pool="max")),
        lambda: Plain(Conv4(N_WAY, head="random", pool="max", width=2)),
        *(4, (1, 28, 28), "Conv4-64 in torch.nn"),
    ),
    "resnet12": Network(
        lambda: resnet12((64, 160, 320, 640), N_WAY),
        lambda: resnet12((2, 2, 2, 2), N_WAY),
        *(1, (3, 84, 84), "ResNet-12 in torch.nn"),
    ),
}


def available() -> int:
    """Bytes of memory that are free for a new process, on Linux."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith("MemAvailable")) * 1024


def resident() -> int:
    """Bytes of resident memory, on Linux."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


class Peak(threading.Thread):
    """Watches resident memory until `stop`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.highest, self.going = 0, True

    def run(self) -> None:
        while self.going:
            self.highest = max(self.highest, resident())
            time.sleep(0.002)

    def stop(self) -> int:
        self.going = False
        self.join()
        return self.highest


def cost(compute: Callable[[], T]) -> tuple[dict[str, float], T]:
    """Peak bytes of `compute` called twice, seconds of the second call, and what that gave."""
    before, peak = resident(), Peak()
    peak.start()
    compute()
    started = time.perf_counter()
    found = compute()
    seconds = time.perf_counter() - started
    return {"bytes": peak.stop() - before, "seconds": seconds}, found


def with_innerloop(model: torch.nn.Module, episodes: innerloop.Episodes, steps: int, way: str):
    mode, alone = way.split(",")[0], "task by task" in way
    maml = innerloop.MAML(model, 0.01, steps, derivative=mode, chunk_size=1 if alone else None)
    params = maml.init_params()
    return lambda: maml.meta_gradient(params, episodes)[0]


def with_higher(model: torch.nn.Module, episodes: innerloop.Episodes, steps: int):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import higher
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def meta_gradient():
        model.zero_grad()
        for i in range(episodes.num_tasks):
            task = episodes.task(i)
            loop = higher.innerloop_ctx(model, optimizer, copy_initial_weights=False)
            with loop as (fast, inner):
                for _ in range(steps):
                    inner.step(F.cross_entropy(fast(task.support_x), task.support_y))
                loss = F.cross_entropy(fast(task.query_x), task.query_y)
                (loss / episodes.num_tasks).backward()
        return {
            name: torch.zeros_like(p) if p.grad is None else p.grad
            for name, p in model.named_parameters()
        }

    return meta_gradient


def measure(name: str, way: str, steps: int) -> dict[str, float]:
    """Peak bytes and seconds of one meta-gradient, in this process."""
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
    torch.set_num_threads(2)
    torch.manual_seed(0)
    network = NETWORKS[name]
    # A tiny network first, so that what PyTorch loads for such derivatives is not counted.
    prepare(way, network.tiny(), random_tasks(1, network.shape), 1)()
    meta_gradient = prepare(way, network.make(), random_tasks(network.tasks, network.shape), steps)
    found, gradient = cost(meta_gradient)
    norm = sum(g.square().sum() for g in gradient.values()).sqrt().item()
    return {**found, "gradient_norm": norm}


def random_tasks(tasks: int, shape: tuple[int, int, int]) -> innerloop.Episodes:
    """1-shot tasks of noise."""
    generator = torch.Generator().manual_seed(0)

    def images(per_class: int) -> tuple[Tensor, Tensor]:
        y = torch.arange(N_WAY).repeat_interleave(per_class).repeat(tasks, 1)
        return torch.rand(tasks, N_WAY * per_class, *shape, generator=generator), y

    return innerloop.Episodes(*images(1), *images(K_QUERY))


def prepare(way: str, model: torch.nn.Module, episodes: innerloop.Episodes, steps: int):
    """A function that computes one meta-gradient."""
    if way == "higher":
        return with_higher(model, episodes, steps)
    return with_innerloop(model, episodes, steps, way)


def measured(name: str, way: str, most: int = STEPS[-1]) -> dict[str, dict[str, Any]]:
    """One way at the numbers of steps up to `most` that fit into the machine's memory."""
    found: dict[str, dict[str, Any]] = {}
    before: tuple[int, float] | None = None
    for steps in (n for n in STEPS if n <= most):
        # Memory grows at most in proportion to the steps.
        needed = before[1] * steps / before[0] if before else 0.0
        if needed > 0.8 * available():
            found[str(steps)] = {"left_out": f"up to {needed / 2**30:.0f} GB of memory"}
            print(name, way, steps, "left out:", found[str(steps)]["left_out"])
            continue
        result = in_own_process("benchmarks.memory", name, way, str(steps))
        print(name, way, steps, f"{result['bytes'] / 2**20:.0f} MB {result['seconds']:.2f} s")
        found[str(steps)], before = result, (steps, result["bytes"])
    return found


def draw(name: str, runs: dict[str, dict[str, dict[str, Any]]]) -> None:
    from matplotlib.figure import Figure

    from benchmarks.pictures import save_both
    from innerloop.plots.figures import BLUE, GREEN, ORANGE

    labels = {
        "reverse": ("all tasks at once, reverse mode", BLUE, "o-"),
        "mixed": ("all tasks at once, mixed mode", GREEN, "s-"),
        "mixed, task by task": ("task by task, mixed mode", GREEN, "s--"),
        "higher": ("task by task, higher", ORANGE, "^--"),
    }
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    drawn: dict[int, float] = {}
    for way, points in runs.items():
        label, color, style = labels[way]
        there = {int(steps): r["bytes"] / 2**20 for steps, r in points.items() if "bytes" in r}
        drawn |= there
        axes.plot(list(there), list(there.values()), style, color=color, label=label)
    axes.set_xscale("log")
    if max(drawn.values()) > 10 * min(drawn.values()):
        axes.set_yscale("log")
    axes.set_xticks(list(drawn), [str(s) for s in drawn])
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.minorticks_off()
    axes.set_xlabel("inner steps")
    axes.set_ylabel("peak memory of a meta-gradient, MB")
    tasks, title = NETWORKS[name].tasks, NETWORKS[name].title
    several = f"{tasks} task{'s' if tasks > 1 else ''}"
    axes.set_title(f"{several}, {N_WAY}-way 1-shot, {K_QUERY} queries, {title}, second order")
    axes.grid(alpha=0.3)
    axes.legend()
    save_both(figure, file_name(name))


def file_name(network: str) -> str:
    return "memory" if network == "conv4" else f"memory_{network}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ways", nargs="*", help=f"of {'; '.join(WAYS)}; all by default")
    parser.add_argument("--network", choices=NETWORKS, default="conv4")
    parser.add_argument(
        "--one", nargs=3, metavar=("NETWORK", "WAY", "STEPS"), help="one measurement, as JSON"
    )
    parser.add_argument(
        "--most-steps", type=int, default=STEPS[-1], help="leave out larger numbers of steps"
    )
    arguments = parser.parse_args()
    if arguments.one:
        name, way, steps = arguments.one
        print(json.dumps(measure(name, way, int(steps))))
        return
    name = arguments.network
    path = RESULTS / f"{file_name(name)}.json"
    runs = json.loads(path.read_text())["runs"] if arguments.ways and path.exists() else {}
    for way in arguments.ways or WAYS:
        runs[way] = measured(name, way, arguments.most_steps)
    runs = {way: runs[way] for way in WAYS if way in runs}
    command = "python -m benchmarks.memory" + (f" --network {name}" if name != "conv4" else "")
    if arguments.most_steps != STEPS[-1]:
        command += f" --most-steps {arguments.most_steps}"
    write_report(file_name(name), runs, command)
    draw(name, runs)


if __name__ == "__main__":
    main()
