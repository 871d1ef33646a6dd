"""Peak memory of a second-order meta-gradient against inner steps: `python -m benchmarks.memory`.

Reverse mode, mixed mode, mixed mode with chunks of one task, and a task-by-task loop with
`higher`, each measurement in a process of its own.  The peak is that of resident memory during two
meta-gradients, less what was there before, when the same code had run on a tiny network.  Writes
`benchmarks/results/memory.json` and `docs/img/memory.png`; with names of ways, only these are
measured again.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F

import innerloop
from benchmarks.reports import RESULTS, in_own_process, write_report
from innerloop.models import Conv4

STEPS = (1, 2, 5, 10, 20, 50)
WAYS = ("reverse", "mixed", "mixed, task by task", "higher")
TASKS, N_WAY, K_QUERY = 4, 5, 15


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
        return {name: p.grad for name, p in model.named_parameters()}

    return meta_gradient


def measure(way: str, steps: int) -> dict[str, float]:
    """Peak bytes and seconds of one meta-gradient, in this process."""
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
    torch.set_num_threads(2)
    data = innerloop.data.random_images()
    sampler = innerloop.EpisodeSampler(data, n_way=N_WAY, k_shot=1, k_query=K_QUERY)
    # What PyTorch loads when it is first asked for such derivatives is not counted.
    prepare(way, Conv4(N_WAY, head="random", width=2), sampler.batch(0, 1), 1)()
    meta_gradient = prepare(way, Conv4(N_WAY, head="random"), sampler.batch(0, TASKS), steps)
    before = resident()
    peak = Peak()
    peak.start()
    meta_gradient()
    started = time.perf_counter()
    gradient = meta_gradient()
    seconds = time.perf_counter() - started
    norm = sum(g.square().sum() for g in gradient.values()).sqrt().item()
    return {"bytes": peak.stop() - before, "seconds": seconds, "gradient_norm": norm}


def prepare(way: str, model: torch.nn.Module, episodes: innerloop.Episodes, steps: int):
    """A function that computes one meta-gradient."""
    if way == "higher":
        return with_higher(model, episodes, steps)
    return with_innerloop(model, episodes, steps, way)


def draw(runs: dict[str, dict[str, dict[str, float]]]) -> None:
    from matplotlib.figure import Figure

    from innerloop.plots.figures import BLUE, GREEN, ORANGE, save

    labels = {
        "reverse": ("all tasks at once, reverse mode", BLUE, "o-"),
        "mixed": ("all tasks at once, mixed mode", GREEN, "s-"),
        "mixed, task by task": ("task by task, mixed mode", GREEN, "s--"),
        "higher": ("task by task, higher", ORANGE, "^--"),
    }
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for way, points in runs.items():
        label, color, style = labels[way]
        axes.plot(
            [int(steps) for steps in points],
            [r["bytes"] / 2**20 for r in points.values()],
            style,
            color=color,
            label=label,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(STEPS, [str(s) for s in STEPS])
    axes.set_yticks([50, 100, 200, 500, 1000, 2000], ["50", "100", "200", "500", "1000", "2000"])
    axes.minorticks_off()
    axes.set_xlabel("inner steps")
    axes.set_ylabel("peak memory of a meta-gradient, MB")
    axes.set_title(f"{TASKS} tasks, {N_WAY}-way 1-shot, {K_QUERY} queries, Conv4-64, second order")
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, RESULTS.parent.parent / "docs" / "img" / "memory.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ways", nargs="*", help=f"of {'; '.join(WAYS)}; all by default")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "STEPS"), help="one measurement, as JSON")
    arguments = parser.parse_args()
    if arguments.one:
        way, steps = arguments.one
        print(json.dumps(measure(way, int(steps))))
        return
    path = RESULTS / "memory.json"
    runs = json.loads(path.read_text())["runs"] if arguments.ways and path.exists() else {}
    for way in arguments.ways or WAYS:
        for steps in STEPS:
            result = in_own_process("benchmarks.memory", way, str(steps))
            print(way, steps, f"{result['bytes'] / 2**20:.0f} MB {result['seconds']:.2f} s")
            runs.setdefault(way, {})[str(steps)] = result
    runs = {way: runs[way] for way in WAYS if way in runs}
    write_report("memory", runs, "python -m benchmarks.memory")
    draw(runs)


if __name__ == "__main__":
    main()
