"""Time of a meta-gradient beside other libraries: `python -m benchmarks.speed [A B C D]`.

All contestants run in one process, one after the other in every round; before they are
timed, each one's meta-gradient is compared with ours on the same episodes, in double
precision.  Writes `benchmarks/results/speed.json` and `docs/img/speed.png`; with names of
workloads, only these are measured again.  `--quick` takes two rounds and writes nothing.
With `--device cuda` everything is measured on a GPU, ours from recordings as in training, and
goes to `speed-gpu.json`.

`python -m benchmarks.speed own [E F G ...]` measures networks in plain `torch.nn`, see
`benchmarks.own`.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from typing import Any

import torch
from torch import nn

import innerloop
from benchmarks import own
from benchmarks.contest import (
    ROUNDS,
    MetaGradient,
    Workload,
    agreed,
    difference,
    in_precision,
    in_turns,
    recorded,
    rounds_of,
    seconds,
)
from benchmarks.peers import PEERS, TASK_BY_TASK, Plain, exact_vmap, installed
from benchmarks.reports import RESULTS, check_names, graphics, matrix_product_rate, write_report
from innerloop.models import Conv4, TutorialConv
from innerloop.ops import kernels
from innerloop.ops.allocator import keep_memory
from innerloop.ops.precision import PRECISIONS

# By precision.
OURS = {
    "float32": "innerloop",
    "tf32": "innerloop, TF32",
    "bf16": "innerloop, bf16",
}


WORKLOADS = {
    "A": Workload(lambda: TutorialConv(5), 8, 5, 1, 15, 5, 0.04),
    "B": Workload(lambda: Conv4(5, head="random"), 32, 5, 1, 1, 1, 0.4),
    "C": Workload(lambda: Conv4(20, head="random"), 16, 20, 1, 1, 5, 0.1),
    "D": Workload(
        lambda: Conv4(5, channels=3, image_size=84, width=32, pool="max", head="random"),
        4,
        5,
        5,
        15,
        5,
        0.01,
        (3, 84, 84),
        (("torch.func vmap", "second", "it takes 18 GB of memory"),),
    ),
}
ORDERS = ("first", "second")


def multiply_adds(work: Workload, order: str) -> int:
    """Multiply-adds of the layers in one meta-gradient, as layers are usually counted.

    A layer's forward pass, the derivative with respect to its weights and that with respect to
    its inputs cost the same, f; the first layer's inputs have no derivative.  An inner step
    takes them on the support set, the outer loop on the queries.  The second order takes,
    for each inner step, the derivative of what the step computed: of the forward pass the
    two products again, and two for each derivative that was taken.

    Where the head starts with equal rows, as in A, the first step's derivatives of the body happen
    to be zero.  They are counted all the same: after the first outer step they are not.  So are
    products with the zeros of the padding, of which our engine leaves many out.
    """
    # Our own network fuses layers, so count those of the plain one.
    model, sizes = Plain(work.make()), []
    hooks = [
        layer.register_forward_hook(lambda m, x, y: sizes.append((m, y[0].numel())))
        for layer in model.modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad():
        model(torch.zeros(2, *work.shape))
    for hook in hooks:
        hook.remove()
    costs = [outputs * layer.weight[0].numel() for layer, outputs in sizes]
    first, others = costs[0], sum(costs[1:])
    support, queries = work.n_way * work.k_shot, work.n_way * work.k_query
    step = 2 * first + 3 * others
    total = work.steps * support * step + queries * step
    if order == "second":
        # First layer: from the derivative of its weight gradient to what came from above, and
        # from that of its outputs to the weights.  Other layers: two, two and two.
        total += work.steps * support * (2 * first + 6 * others)
    return work.tasks * total


def contestants(
    work: Workload, order: str, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> dict[str, MetaGradient]:
    """Functions that compute one meta-gradient, by name; ours first."""
    ours, first = work.make().to(device, dtype), order == "first"
    episodes = work.episodes(dtype, device)
    maml = innerloop.MAML(ours, work.lr, work.steps, first_order=first)
    params = maml.init_params()
    made: dict[str, MetaGradient] = {}
    if device == "cpu":
        made["innerloop"] = lambda: maml.meta_gradient(params, episodes)[0]
        if dtype == torch.float32 and kernels.halves():
            made[OURS["bf16"]] = in_precision("bf16", made["innerloop"], device)
    else:
        for precision in PRECISIONS if dtype == torch.float32 else ("float32",):
            made[OURS[precision]] = recorded(maml, params, episodes, precision)
        made["innerloop, not recorded"] = in_precision(
            "float32", lambda: maml.meta_gradient(params, episodes)[0]
        )
    left_out = [name for name, o, _ in work.without if o == order and device == "cpu"]
    for name, (make, does_first, does_second) in PEERS.items():
        able = (does_first if first else does_second) and installed(name)
        if name == "tutorial" and not isinstance(ours, TutorialConv):
            able = False
        if able and name not in left_out:
            plain = Plain(ours).to(device, dtype)
            made[name] = make(plain, episodes, work.lr, work.steps, first)
    return made


def measure(work: Workload, order: str, rounds: int, device: str = "cpu") -> dict[str, Any]:
    """Seconds of every contestant, interleaved."""
    # Some workloads take vmap's gradient in the order that is not exact.
    inexact = [] if exact_vmap(Plain(work.make()), order == "first") else ["torch.func vmap"]
    found: dict[str, dict[str, Any]] = {}
    exact = contestants(work, order, torch.float64, device)
    ours = exact["innerloop"]()
    for name, meta_gradient in exact.items():
        if name in inexact:
            found[name] = {"inexact": True, "difference": difference(ours, meta_gradient())}
        else:
            found[name] = {"difference": agreed(name, ours, meta_gradient())}
    made, each = contestants(work, order, device=device), {}
    for name, meta_gradient in made.items():
        once = seconds(meta_gradient, device)
        if device != "cpu":
            # Libraries are set up in the first call, steps recorded in the second.
            once = min(once, *(seconds(meta_gradient, device) for _ in range(2)))
            if name not in inexact:
                row = found.setdefault(name, {})
                row["single_precision_difference"] = difference(ours, meta_gradient())
        elif name not in exact:
            apart = difference(ours, meta_gradient())
            found[name] = {"single_precision_difference": apart}
        each[name] = rounds_of(once, rounds)
    for name, row in in_turns(made, each, device).items():
        found.setdefault(name, {}).update(row)
    for name, o, why in work.without:
        if o == order and device == "cpu":
            found[name] = {"left_out": why}
    return found


def summary(work: Workload, order: str, found: dict[str, Any], gflops: float) -> dict[str, Any]:
    """The contestants with what is said of them, and the rate of a matrix product just then."""
    mine = found["innerloop"]["median"]
    others = {n: r["median"] for n, r in found.items() if "innerloop" not in n and "median" in r}
    loops = [others[name] for name in TASK_BY_TASK if name in others]
    out = {
        "contestants": found,
        "gigaflop": 2 * multiply_adds(work, order) / 1e9,
        "gflops": round(gflops, 1),
        "faster_than_the_best_other": min(others.values()) / mine,
        "faster_than_the_best_task_by_task": min(loops) / mine,
    }
    if "tutorial" in others:
        out["faster_than_the_tutorial"] = others["tutorial"] / mine
    return out


def add_floors(runs: dict[str, Any]) -> None:
    """Add ratios of time to the floor, the time at the best rate that was measured.

    Rates vary with other work on the machine, and a low rate would make ratios look better.
    """
    gflops = best_rate(runs)
    for orders in runs.values():
        for result in orders.values():
            floor = result["gigaflop"] / gflops
            result["floor_seconds"] = floor
            result["times_the_floor"] = result["contestants"]["innerloop"]["median"] / floor


def best_rate(runs: dict[str, Any]) -> float:
    """GFLOP/s of the fastest matrix product beside any of the measurements."""
    return max(result["gflops"] for orders in runs.values() for result in orders.values())


def draw(runs: dict[str, Any]) -> None:
    """Bars: the times of the others divided by ours."""
    from matplotlib.figure import Figure

    from benchmarks.pictures import save_both
    from innerloop.plots.figures import BLUE, GREEN, GREY, ORANGE

    colors = {
        "innerloop": BLUE,
        OURS["bf16"]: "#8fbbe0",
        "tutorial": "#b07aa1",
        "higher": ORANGE,
        "TorchOpt": "#edc948",
        "learn2learn": "#76b7b2",
        "torch.func vmap": GREEN,
    }
    figure = Figure(figsize=(8, 0.5 + 1.5 * len(runs)), layout="constrained")
    axes = figure.subplots(len(runs), len(ORDERS), sharex=True, squeeze=False)
    for row, name in zip(axes, runs, strict=True):
        for place, order in zip(row, ORDERS, strict=True):
            found = runs[name][order]
            rows = {n: r for n, r in found["contestants"].items() if "median" in r}
            mine = rows["innerloop"]["median"]
            for i, (label, r) in enumerate(rows.items()):
                times = r["median"] / mine
                place.barh(i, times, color=colors[label])
                text = f"{1000 * r['median']:,.0f} ms"
                if label != "innerloop":
                    text += f" ({times:.1f}x)"
                place.annotate(
                    text,
                    (times, i),
                    (3, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                )
            place.axvline(found["floor_seconds"] / mine, color=GREY, ls="--", lw=1)
            place.set_yticks(range(len(rows)), list(rows), fontsize=8)
            place.invert_yaxis()
            place.set_title(f"{name}, {order} order", fontsize=9)
            place.set_xscale("log")
            place.set_xlim(0.3, 60)
            place.spines[["top", "right"]].set_visible(False)
    for place in axes[-1]:
        place.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
        place.minorticks_off()
    figure.supxlabel(
        "time of a meta-gradient, innerloop = 1; dashed: the arithmetic alone", fontsize=9
    )
    save_both(figure, "speed")


def main() -> None:
    if sys.argv[1:2] == ["own"]:
        own.main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)}; all by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="two rounds, nothing is written")
    parser.add_argument(
        "--result", help="name of the result file, where it is not speed or, with cuda, speed-gpu"
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args()
    device = arguments.device
    usual = "speed" if device == "cpu" else "speed-gpu"
    arguments.result = arguments.result or usual
    check_names(parser, "workload", arguments.workloads, WORKLOADS)
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
    torch.set_num_threads(arguments.threads)
    # The same for all contestants: without this each would pay for its memory at every call.
    keep_memory()
    path = RESULTS / f"{arguments.result}.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else {}
    command = "python -m benchmarks.speed"
    if device != "cpu":
        command += f" --device {device}"
    if arguments.result != usual:
        command += f" --result {arguments.result}"
    for name in arguments.workloads or WORKLOADS:
        for order in ORDERS:
            work = WORKLOADS[name]
            found = measure(work, order, 2 if arguments.quick else ROUNDS, device)
            result = summary(work, order, found, matrix_product_rate(device))
            runs.setdefault(name, {})[order] = result
            add_floors(runs)
            print(f"{name}, {order} order: {result['times_the_floor']:.2f} times the floor")
            for contestant, row in found.items():
                if "median" in row:
                    times = row["median"] / found["innerloop"]["median"]
                    ms = 1000 * row["median"]
                    print(f"  {contestant:24}{ms:9.2f} ms {times:7.2f}x")
        runs = {name: runs[name] for name in WORKLOADS if name in runs}
        if not arguments.quick:
            write_report(arguments.result, runs, command, **graphics(device))
    if arguments.quick:
        return
    if arguments.result == "speed":
        draw(runs)


if __name__ == "__main__":
    main()
