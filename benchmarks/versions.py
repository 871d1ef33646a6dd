"""Time of a meta-gradient in two versions: `python -m benchmarks.versions OLD [A B C D one]`.

OLD is the folder of a checkout of another version, with its kernels compiled (`make setup` there,
or `python setup.py build_ext --inplace`).  Both versions compute the workloads of
`benchmarks.speed`, and a single task (`one`), in processes of their own, which take turns in one
run; each reports the median of its steps, and the result is the ratio of the smallest medians.
Gradients are compared first, in double precision.  Writes `benchmarks/results/versions.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.reports import check_names, write_report

HERE = Path(__file__).resolve().parent.parent
NAMES = ("A", "B", "C", "D", "one")
ORDERS = ("first", "second")
# Of the difference of the gradients, relative to their length.
TOLERANCE = 1e-8

# Runs in both versions, so it uses only what both have.
STEP = """
import json, sys, time, statistics
import torch, innerloop
from innerloop import Episodes
from innerloop.models import Conv4, TutorialConv

name, order, repeats, double = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "double"
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
times = []
for _ in range(repeats + 2):
    start = time.perf_counter()
    grads, _ = maml.meta_gradient(params, episodes)
    times.append(time.perf_counter() - start)
if double:
    torch.save({n: g.contiguous() for n, g in grads.items()}, sys.argv[5])
print(json.dumps(1000 * statistics.median(times[2:] or times)))
"""


def step(checkout: Path, *arguments: str) -> float:
    """Milliseconds of a meta-gradient in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    done = subprocess.run(
        [sys.executable, "-c", STEP, *arguments], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"the version in {checkout} failed:\n{done.stderr}")
    return float(done.stdout)


def difference(old: Path, name: str, order: str, folder: Path) -> float:
    """How far the gradients of the two versions are apart, relative to their length."""
    import torch

    found = []
    for i, checkout in enumerate((old, HERE)):
        file = folder / f"{i}.pt"
        step(checkout, name, order, "0", "double", str(file))
        found.append(torch.load(file, weights_only=True))
    theirs, ours = found
    apart = sum((ours[n] - g).square().sum() for n, g in theirs.items()).sqrt()
    return (apart / sum(g.square().sum() for g in theirs.values()).sqrt()).item()


def measure(old: Path, name: str, order: str, rounds: int, repeats: int) -> dict[str, Any]:
    times: dict[str, list[float]] = {"old": [], "new": []}
    for round_ in range(rounds):
        # The versions take turns at going first.
        turns = (("old", old), ("new", HERE))[:: 1 if round_ % 2 else -1]
        for version, checkout in turns:
            times[version].append(step(checkout, name, order, str(repeats), "single"))
    least = {version: min(values) for version, values in times.items()}
    return {
        "old_ms": round(least["old"], 2),
        "new_ms": round(least["new"], 2),
        "old_by_new": round(least["old"] / least["new"], 3),
        "rounds": {v: [round(t, 2) for t in values] for v, values in times.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path, help="folder of a checkout of the other version")
    parser.add_argument("names", nargs="*", help=f"of {' '.join(NAMES)}; all by default")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=8)
    arguments = parser.parse_args()
    check_names(parser, "workload", arguments.names, NAMES)
    names = arguments.names or list(NAMES)
    from tempfile import TemporaryDirectory

    version = subprocess.run(
        [sys.executable, "-c", "import innerloop; print(innerloop.__version__)"],
        env={**os.environ, "PYTHONPATH": str(arguments.old / "src")},
        capture_output=True,
        text=True,
    ).stdout.strip()
    runs = {}
    for name in names:
        for order in ORDERS:
            with TemporaryDirectory() as folder:
                apart = difference(arguments.old, name, order, Path(folder))
            if not apart < TOLERANCE:
                raise SystemExit(f"{name}, {order} order: the gradients are {apart} apart")
            found = measure(arguments.old, name, order, arguments.rounds, arguments.repeats)
            runs[f"{name}, {order} order"] = {**found, "gradients_apart": apart}
            print(f"{name}, {order} order:", json.dumps(runs[f"{name}, {order} order"]), flush=True)
    write_report("versions", runs, "python -m benchmarks.versions OLD", old_version=version)


if __name__ == "__main__":
    main()
