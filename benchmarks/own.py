"""Meta-gradients of networks that users bring: `python -m benchmarks.speed own [E F G ...]`.

Plain `torch.nn` networks (`benchmarks.own_networks`) by `innerloop.MAML` as it is, by a loop over
the tasks and by other libraries.  Before anything is timed, each gradient is compared in double
precision, on two tasks, with that of the loop.  Then all contestants take turns, with another one
first in each round.  Failures are recorded with their reason.  Fused attention has no second
derivative, nor have cuDNN's recurrent layers: there the loop takes part a second time, with PyTorch
told to leave them out.

Writes `benchmarks/results/own.json` and `docs/img/own.png` (on a GPU `own-gpu.json` alone);
with names of workloads, only these are measured again.
"""

from __future__ import annotations

import argparse
import json
import textwrap
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import innerloop
from benchmarks import peers
from benchmarks.contest import (
    ROUNDS,
    TOLERANCE,
    MetaGradient,
    difference,
    in_turns,
    recorded,
    rounds_of,
    seconds,
)
from benchmarks.own_networks import OWN, OwnWorkload
from benchmarks.reports import RESULTS, check_names, graphics, write_report
from innerloop import Episodes
from innerloop.ops.allocator import keep_memory

ORDERS = ("first", "second")
OURS = "innerloop"
# The gradients of so many tasks are compared.
COMPARED = 2

# Makes a contestant from network, episodes, inner rate, inner steps and first order.
Maker = Callable[[torch.nn.Module, Episodes, float, int, bool], MetaGradient]


def ours(
    model: torch.nn.Module, episodes: Episodes, lr: float, steps: int, first_order: bool
) -> MetaGradient:
    """By this package: on a GPU from a recording, as in training."""
    maml = innerloop.MAML(model, lr, steps, first_order=first_order)
    params = maml.init_params()
    if episodes.support_x.is_cuda:
        return recorded(maml, params, episodes, "float32")
    return lambda: maml.meta_gradient(params, episodes)[0]


def unfused(
    model: torch.nn.Module, episodes: Episodes, lr: float, steps: int, first_order: bool
) -> MetaGradient:
    """The loop with attention and recurrent layers that have all derivatives."""
    meta_gradient = peers.loop(model, episodes, lr, steps, first_order)

    def within() -> dict[str, torch.Tensor]:
        # Without cuDNN where its recurrent layers would be, and nowhere else.
        recurrent = any(isinstance(m, torch.nn.RNNBase) for m in model.modules())
        with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=not recurrent):
            return meta_gradient()

    return within


CONTESTANTS: dict[str, Maker] = {
    OURS: ours,
    "loop": peers.loop,
    "loop, unfused": unfused,
    **{name: peers.PEERS[name][0] for name in peers.TASK_BY_TASK},
}


def contestants(work: OwnWorkload, order: str, device: str) -> list[str]:
    """All contestants; some of them cannot compute every workload."""
    fused = work.attention or (work.recurrent and device != "cpu")
    twice = fused and order == "second"
    return [name for name in CONTESTANTS if name != "loop, unfused" or twice]


def left_out(name: str, order: str) -> str | None:
    """Why a contestant does not take part; None where it does."""
    if name not in peers.PEERS:
        return None
    if not peers.installed(name):
        return "not installed"
    _, first, second = peers.PEERS[name]
    able = first if order == "first" else second
    return None if able else f"it has no {order} order"


def made(
    name: str, work: OwnWorkload, order: str, dtype: torch.dtype, device: str = "cpu"
) -> MetaGradient:
    """A contestant, with a network of its own."""
    model, episodes = work.make().to(device, dtype), work.episodes(dtype, device)
    return CONTESTANTS[name](model, episodes, work.lr, work.steps, order == "first")


def compare(work: OwnWorkload, order: str, device: str) -> dict[str, dict[str, Any]]:
    """For every contestant its `difference`, or why it `fails` or is `left_out`."""
    work = work.smaller(COMPARED)
    expected = made("loop, unfused", work, order, torch.float64, device)()
    found: dict[str, dict[str, Any]] = {}
    for name in contestants(work, order, device):
        if reason := left_out(name, order):
            found[name] = {"left_out": reason}
            continue
        try:
            gradient = made(name, work, order, torch.float64, device)()
            apart = difference(expected, gradient)
        except Exception as error:
            found[name] = {"fails": reason_of(error)}
            continue
        if apart <= TOLERANCE:
            found[name] = {"difference": apart}
        elif name == OURS:
            raise SystemExit(f"{name} computes another gradient: they differ by {apart:.1e}")
        else:
            found[name] = {"fails": f"it computes another gradient, which differs by {apart:.1e}"}
    return found


def reason_of(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    lines = str(error).strip().splitlines()
    kind = type(error).__name__
    return textwrap.shorten(f"{kind}: {lines[0]}" if lines else kind, 200, placeholder=" ...")


def measure(work: OwnWorkload, order: str, rounds: int, device: str = "cpu") -> dict[str, Any]:
    """Seconds of every contestant, interleaved."""
    found = compare(work, order, device)
    running: dict[str, MetaGradient] = {}
    each: dict[str, int] = {}
    for name, row in found.items():
        if "difference" not in row:
            continue
        try:
            meta_gradient = made(name, work, order, torch.float32, device)
            # Libraries are set up in the first call; on a GPU steps are recorded in the second.
            calls = 1 if device == "cpu" else 3
            once = min(seconds(meta_gradient, device) for _ in range(calls))
        except Exception as error:
            found[name] = {"fails": reason_of(error)}
            continue
        running[name], each[name] = meta_gradient, rounds_of(once, rounds)
    for name, row in in_turns(running, each, device).items():
        found[name] |= row
    return found


def explained(work: OwnWorkload, order: str, device: str) -> list[str]:
    """What `explain` says of our way of computing, after a step."""
    model, episodes = work.make().to(device), work.smaller(COMPARED).episodes(torch.float32, device)
    maml = innerloop.MAML(model, work.lr, 1, first_order=order == "first")
    try:
        maml.meta_gradient(maml.init_params(), episodes)
    except Exception as error:
        return [reason_of(error)]
    return maml.explain().splitlines()


def summary(found: dict[str, Any], way: Sequence[str]) -> dict[str, Any]:
    """The contestants with what is said of them."""
    medians = {name: row["median"] for name, row in found.items() if "median" in row}
    others = {name: s for name, s in medians.items() if name != OURS}
    out: dict[str, Any] = {"contestants": found, "way": list(way)}
    if OURS in medians and others:
        best = min(others, key=lambda name: others[name])
        out["best_other"] = best
        out["faster_than_the_best_other"] = others[best] / medians[OURS]
    return out


def shown(name: str, order: str, result: dict[str, Any]) -> str:
    """A measurement as lines of text."""
    ratio = result.get("faster_than_the_best_other")
    said = "nothing to compare" if ratio is None else f"{ratio:.2f} times as fast as the best other"
    lines = [f"{name}, {order} order: {said}; {result['way'][0]}"]
    for contestant, row in result["contestants"].items():
        if "median" in row:
            text = f"{1000 * row['median']:9.2f} ms"
        else:
            kind = "fails" if "fails" in row else "left_out"
            text = f"{kind.replace('_', ' ')}: {row[kind]}"
        lines.append(f"  {contestant:24}{text}")
    return "\n".join(lines)


def draw(runs: dict[str, Any]) -> None:
    """Points: the times of the others divided by ours."""
    from matplotlib.figure import Figure

    from benchmarks.pictures import save_both
    from innerloop.plots.figures import BLUE, GREY, ORANGE

    looks = {
        "loop": (GREY, "s"),
        "loop, unfused": (GREY, "P"),
        "higher": (ORANGE, "^"),
        "TorchOpt": ("#edc948", "D"),
        "learn2learn": ("#76b7b2", "v"),
    }
    rows = [(w, o, r["contestants"]) for w, orders in runs.items() for o, r in orders.items()]
    rows = [row for row in rows if "median" in row[2][OURS]]
    figure = Figure(figsize=(7, 1.2 + 0.28 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for i, (_, _, found) in enumerate(rows):
        for name, row in found.items():
            if name != OURS and "median" in row:
                times = row["median"] / found[OURS]["median"]
                axes.plot(times, i, looks[name][1], color=looks[name][0], alpha=0.9)
    for name, (color, marker) in looks.items():
        if any("median" in found.get(name, {}) for *_, found in rows):
            axes.plot([], [], marker, color=color, label=name)
    axes.axvline(1, color=BLUE, lw=1.5, label=OURS)
    axes.set_yticks(range(len(rows)), [f"{w}, {o} order" for w, o, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    ticks = [0.25, 0.5, 1, 2, 4, 8]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("time of a meta-gradient, innerloop = 1", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    # Where ours is the faster one there is nothing.
    axes.legend(fontsize=8, loc="upper left")
    save_both(figure, "own")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed own",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(OWN)}; all by default")
    parser.add_argument(
        "--orders", nargs="+", choices=ORDERS, help="the usual ones of each workload by default"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each contestant")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, help="the result file, where it is not the usual one")
    parser.add_argument("--quick", action="store_true", help="two rounds, nothing is written")
    options = parser.parse_args(arguments)
    check_names(parser, "workload", options.workloads, OWN)
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    rounds = 2 if options.quick else options.rounds
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
    torch.set_num_threads(options.threads)
    # The same for all contestants.
    keep_memory()
    usual = RESULTS / ("own.json" if options.device == "cpu" else "own-gpu.json")
    path = options.out or usual
    command = "python -m benchmarks.speed own"
    if options.device != "cpu":
        command += f" --device {options.device}"
    if options.out:
        command += f" --out {options.out}"
    runs = json.loads(path.read_text())["runs"] if path.exists() else {}
    for name in options.workloads or OWN:
        work = OWN[name]
        for order in options.orders or work.orders:
            found = measure(work, order, rounds, options.device)
            result = summary(found, explained(work, order, options.device))
            runs.setdefault(name, {})[order] = result
            print(shown(name, order, result), flush=True)
        # After every workload, so that none is lost.
        runs = {n: {o: runs[n][o] for o in ORDERS if o in runs[n]} for n in OWN if n in runs}
        if not options.quick:
            write_report(path, runs, command, **graphics(options.device))
    if path == usual and options.device == "cpu" and not options.quick:
        draw(runs)
