"""Time of a meta-gradient in two versions: `python -m benchmarks.versions OLD [A B C D one]`.

OLD is the folder of a checkout of another version, with its kernels compiled (`make setup` there,
or `python setup.py build_ext --inplace`).  Both versions compute the workloads of
`benchmarks.speed`, and a single task (`one`).  In every round each has a process of its own; both
run at the same time and take turns at computing, so that whatever slows the machine down slows down
both.  A round gives the ratio of the medians of all turns, and the result is the median of the
rounds.  Gradients are compared first, in double precision.  Writes
`benchmarks/results/versions.json`; workloads that are not named keep what stands there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.answering import Answering
from benchmarks.reports import RESULTS, check_names, write_report

HERE = Path(__file__).resolve().parent.parent
NAMES = ("A", "B", "C", "D", "one")
ORDERS = ("first", "second")
# Of the difference of the gradients, relative to their length.
TOLERANCE = 1e-8
# Of a turn, at least.
SECONDS = 0.25

# Runs in both versions, so it uses only what both have.  To every number of repeats it answers with
# the times that they took.
STEP = """
import json, sys, time
import torch, innerloop
try:
    from innerloop.ops.allocator import keep_memory
except ImportError:  # in 0.1.0
    from innerloop.allocator import keep_memory
from innerloop import Episodes
from innerloop.models import Conv4, TutorialConv

keep_memory()
name, order, double = sys.argv[1], sys.argv[2], len(sys.argv) > 3
MAKE = {
    "A": lambda: TutorialConv(5),
    "B": lambda: Conv4(5, head="random"),
    "C": lambda: Conv4(20, head="random"),
    "one": lambda: Conv4(5, head="random"),
    "D": lambda: Conv4(
        5, channels=3, image_size=84, width=32, pool="max", head="random"
    ),
}
T, N, K, Q, steps, lr, shape = {
    "A": (8, 5, 1, 15, 5, 0.04, (1, 28, 28)),
    "B": (32, 5, 1, 1, 1, 0.4, (1, 28, 28)),
    "C": (16, 20, 1, 1, 5, 0.1, (1, 28, 28)),
    "D": (4, 5, 5, 15, 5, 0.01, (3, 84, 84)),
    "one": (1, 5, 1, 15, 5, 0.1, (1, 28, 28)),
}[name]
if double:
    T = min(T, 2)
generator, dtype = torch.Generator().manual_seed(0), torch.float64 if double else torch.float32

def part(per_class):
    labels = torch.arange(N).repeat_interleave(per_class)
    x = torch.rand((T, N * per_class, *shape), generator=generator).to(dtype)
    return x, labels.repeat(T, 1)

episodes = Episodes(*part(K), *part(Q))
torch.manual_seed(0)
maml = innerloop.MAML(MAKE[name]().to(dtype), lr, steps, order == "first")
params = maml.init_params()
for line in sys.stdin:
    times = []
    for _ in range(int(line)):
        start = time.perf_counter()
        grads, _ = maml.meta_gradient(params, episodes)
        times.append(time.perf_counter() - start)
    if double:
        torch.save({n: g.contiguous() for n, g in grads.items()}, sys.argv[3])
    print(json.dumps(times), flush=True)
"""


def version(checkout: Path, *arguments: str) -> Answering:
    """A process that answers a number of repeats with the seconds of so many meta-gradients."""
    return Answering(
        [sys.executable, "-c", STEP, *arguments],
        f"the version in {checkout} failed, see above",
        env={**os.environ, "PYTHONPATH": str(checkout / "src")},
        cwd=checkout,
    )


def difference(old: Path, name: str, order: str, folder: Path) -> float:
    """How far the gradients of the two versions are apart, relative to their length."""
    import torch

    found = []
    for i, checkout in enumerate((old, HERE)):
        file = folder / f"{i}.pt"
        with version(checkout, name, order, str(file)) as process:
            process.ask(1)
        found.append(torch.load(file, weights_only=True))
    theirs, ours = found
    apart = sum((ours[n] - g).square().sum() for n, g in theirs.items()).sqrt()
    return (apart / sum(g.square().sum() for g in theirs.values()).sqrt()).item()


def measure(old: Path, name: str, order: str, rounds: int, turns: int) -> dict[str, Any]:
    found: list[dict[str, float]] = []
    for round_ in range(rounds):
        times: dict[str, list[float]] = {"old": [], "new": []}
        with version(old, name, order) as theirs, version(HERE, name, order) as ours:
            processes = {"old": theirs, "new": ours}
            # The first call also does what is done only once.
            step = max(max(process.ask(3)[1:]) for process in processes.values())
            repeats = max(1, round(SECONDS / step))
            for turn in range(turns):
                # They take turns at going first.
                for which in sorted(processes, reverse=(round_ + turn) % 2 == 0):
                    times[which] += processes[which].ask(repeats)
        found.append({which: 1000 * statistics.median(each) for which, each in times.items()})
    ratios = [each["old"] / each["new"] for each in found]
    return {
        "old_ms": round(min(each["old"] for each in found), 2),
        "new_ms": round(min(each["new"] for each in found), 2),
        "old_by_new": round(statistics.median(ratios), 3),
        "rounds": [{which: round(ms, 2) for which, ms in each.items()} for each in found],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path, help="folder of a checkout of the other version")
    parser.add_argument("names", nargs="*", help=f"of {' '.join(NAMES)}; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=8, help="of each version, in a round")
    arguments = parser.parse_args()
    check_names(parser, "workload", arguments.names, NAMES)
    names = arguments.names or list(NAMES)
    old_version = subprocess.run(
        [sys.executable, "-c", "import innerloop; print(innerloop.__version__)"],
        env={**os.environ, "PYTHONPATH": str(arguments.old / "src")},
        capture_output=True,
        text=True,
    ).stdout.strip()
    path = RESULTS / "versions.json"
    runs = json.loads(path.read_text())["runs"] if arguments.names and path.exists() else {}
    for name in names:
        for order in ORDERS:
            with TemporaryDirectory() as folder:
                apart = difference(arguments.old, name, order, Path(folder))
            if not apart < TOLERANCE:
                raise SystemExit(f"{name}, {order} order: the gradients are {apart} apart")
            found = measure(arguments.old, name, order, arguments.rounds, arguments.turns)
            runs[f"{name}, {order} order"] = {**found, "gradients_apart": apart}
            print(f"{name}, {order} order:", json.dumps(runs[f"{name}, {order} order"]), flush=True)
    write_report("versions", runs, "python -m benchmarks.versions OLD", old_version=old_version)


if __name__ == "__main__":
    main()
