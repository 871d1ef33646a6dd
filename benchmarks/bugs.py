"""What known bugs of MAML code cost: `python -m benchmarks.bugs [ARM ...]`.

One small meta-training in plain torch.func, in which each bug is a switch.  All arms have the same
data, initial weights, number of outer steps and test tasks, so that what differs is the bug.
Writes `benchmarks/results/bugs.json` for docs/*/tutorial/bugs.md.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap

import innerloop
from benchmarks.bug_arms import (
    ARMS,
    BASE,
    INNER_LR,
    INNER_STEPS,
    TEST_QUERIES,
    WAYS,
    WIDTH,
    Arm,
    Params,
    init_weights,
    inner_step,
    meta_gradient,
    network,
    outputs,
)
from benchmarks.reports import RESULTS, check_names, write_report
from innerloop.ops.allocator import keep_memory

TASKS, ITERATIONS, TEST_TASKS, META_LR = 4, 800, 600, 5e-3
QUERIES = 5  # a class
CHECKPOINTS = 16  # over the second half of training
# Memory and time, which need no training.
COSTS = "costs"


# --- training and test -------------------------------------------------------------------------


def samplers(inputs: str, seed: int) -> tuple[innerloop.EpisodeSampler, innerloop.EpisodeSampler]:
    """Training and test tasks; the test tasks are the same for all arms."""
    data = innerloop.data.omniglot()
    split = innerloop.data.split_classes(data, "tutorial")
    train, test = (
        innerloop.EpisodeSampler(
            data,
            split[part],
            n_way=WAYS,
            k_shot=1,
            k_query=queries,
            split=part,
            seed=seed if part == "train" else 0,
            inputs=inputs,
        )
        for part, queries in (("train", QUERIES), ("test", TEST_QUERIES))
    )
    return train, test


def judge(
    arm: Arm, weights: Params, sampler: Any, bn: str = "transductive", running: Any = None
) -> Tensor:
    """Accuracy of each of the test tasks."""
    every = []
    for start in range(0, TEST_TASKS, 20):
        sx, sy, qx, qy = sampler.batch(start, 20)
        if bn == "class":
            order = qy.argsort(dim=1, stable=True)
            qy = qy.gather(1, order)
            qx = torch.stack([x[o] for x, o in zip(qx, order, strict=True)])
        with torch.no_grad():
            logits = vmap(lambda *task: outputs(arm, weights, *task, bn, running))(sx, sy, qx)
        every.append((logits.argmax(-1) == qy).double().mean(1))
    return torch.cat(every)


def train(
    arm: Arm, iterations: int, at: Callable[[int, Params], None] = lambda i, weights: None
) -> Params:
    """Meta-train; `at` is called after every outer step."""
    sampler, _ = samplers(arm.inputs, arm.seed)
    weights = init_weights(arm.seed)
    optimizer, losses = None, []
    for i in range(iterations):
        position = i
        if optimizer is None or (arm.restart_every and i % arm.restart_every == 0):
            leaves = [w.requires_grad_() for w in weights.values()]
            optimizer = torch.optim.Adam(leaves, META_LR)
        if arm.restart_every:
            position = i % arm.restart_every
        batch = sampler.batch(TASKS * position, TASKS)
        if arm.same_task:
            batch = innerloop.Episodes(*(t[:1].expand_as(t) for t in batch))
        grads, loss = meta_gradient(arm, {n: w.detach() for n, w in weights.items()}, batch)
        for name, w in weights.items():
            w.grad = grads[name].clamp(-10, 10)
        optimizer.step()
        losses.append(loss)
        at(i + 1, {n: w.detach() for n, w in weights.items()})
        if (i + 1) % 100 == 0:
            print(f"  {i + 1:5d} {statistics.fmean(losses[-100:]):.3f}", flush=True)
    return {n: w.detach() for n, w in weights.items()}


def summary(accuracies: Tensor) -> dict[str, float]:
    """Mean and 95% interval over tasks."""
    half = 1.96 * accuracies.std() / math.sqrt(len(accuracies))
    return {"accuracy": accuracies.mean().item(), "ci95": half.item()}


def difference(accuracies: Tensor, base: Tensor) -> dict[str, float]:
    """Of two arms on the same tasks, with its interval."""
    paired = summary(accuracies - base)
    return {"difference": paired["accuracy"], "difference_ci95": paired["ci95"]}


def running_statistics(arm: Arm, weights: Params) -> list[tuple[Tensor, Tensor]]:
    """Batch norm's running averages over all tasks and both sets."""
    sampler, _ = samplers(arm.inputs, arm.seed)
    running = [(torch.zeros(WIDTH), torch.ones(WIDTH)) for _ in range(4)]
    for task in (sampler.batch(i, 1).task(0) for i in range(100)):
        fast = weights
        sets = []
        for _ in range(INNER_STEPS):
            sets.append((fast, task.support_x))
            fast = inner_step(arm, weights, fast, task.support_x, task.support_y)
        for used, x in [*sets, (fast, task.query_x)]:
            seen: list[tuple[Tensor, Tensor]] = []
            network(used, x, seen=seen)
            running = [
                (0.9 * m + 0.1 * mean.detach(), 0.9 * v + 0.1 * variance.detach())
                for (m, v), (mean, variance) in zip(running, seen, strict=True)
            ]
    return running


# --- arms without a training of their own ------------------------------------------------------


def tests_of_the_right_one(arm: Arm, weights: Params, base: Tensor) -> dict[str, Any]:
    """The same weights tested in other ways."""
    train_sampler, sampler = samplers(arm.inputs, arm.seed)
    found: dict[str, Any] = {}
    for bn in ("support", "class", "1", "running"):
        running = running_statistics(arm, weights) if bn == "running" else None
        accuracies = judge(arm, weights, sampler, bn, running)
        found[bn] = {**summary(accuracies), **difference(accuracies, base)}
    # Classes that were trained on, as a split by another order of folders lets in.
    seen = innerloop.EpisodeSampler(
        train_sampler.data,
        train_sampler.classes,
        n_way=WAYS,
        k_shot=1,
        k_query=TEST_QUERIES,
        split="seen",
    )
    found["trained classes"] = summary(judge(arm, weights, seen))
    return found


def coverage(accuracies: Tensor, tasks: int, draws: int = 20_000) -> dict[str, float]:
    """How often 95% intervals hold the true mean, tasks drawn again from those measured."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(len(accuracies), (draws, tasks), generator=generator)
    a = accuracies[chosen]
    mean, truth = a.mean(1), accuracies.mean()
    over_tasks = 1.96 * a.std(1) / math.sqrt(tasks)
    images = tasks * WAYS * TEST_QUERIES
    over_images = 1.96 * (mean * (1 - mean) / images).sqrt()
    off = (mean - truth).abs()
    return {
        "tasks": tasks,
        "over_tasks": (off <= over_tasks).double().mean().item(),
        "over_images": (off <= over_images).double().mean().item(),
        "half_over_tasks": over_tasks.mean().item(),
        "half_over_images": over_images.mean().item(),
        "one_in_twenty": off.quantile(0.95).item(),
    }


def optimism(table: Tensor, tasks: int, draws: int = 20_000) -> dict[str, float]:
    """The best checkpoint by `tasks` test tasks: its reported and its true accuracy.

    Args:
        table: accuracies `[checkpoints, test tasks]`.
    """
    generator = torch.Generator().manual_seed(0)
    said, true = [], []
    for _ in range(draws // 10):
        order = torch.randperm(table.shape[1], generator=generator)
        looked_at, others = table[:, order[:tasks]], table[:, order[tasks:]]
        best = looked_at.mean(1).argmax()
        said.append(looked_at[best].mean().item())
        true.append(others[best].mean().item())
    return {"tasks": tasks, "said": statistics.fmean(said), "true": statistics.fmean(true)}


def kept_losses() -> dict[str, dict[str, float]]:
    """Memory and time of one meta-gradient, query losses of all steps kept or not."""
    batch = samplers("ink", 0)[1].batch(0, 8)
    found = {}
    for name, every in (("last alone", False), ("of every step", True)):
        seconds, held = [], 0
        for _ in range(5):
            weights = {n: w.requires_grad_() for n, w in init_weights(0).items()}
            storages: dict[int, int] = {}

            def keep(t: Tensor, storages=storages) -> Tensor:
                storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
                return t

            start = time.process_time()
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
                kept = []
                for sx, sy, qx, qy in zip(*batch, strict=True):
                    fast, losses = weights, []
                    for step in range(6):
                        if every or step == 5:
                            losses.append(F.cross_entropy(network(fast, qx), qy))
                        if step < 5:
                            loss = F.cross_entropy(network(fast, sx), sy)
                            gs = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
                            fast = {
                                n: w - INNER_LR * g
                                for (n, w), g in zip(fast.items(), gs, strict=True)
                            }
                    kept.append(losses)
            torch.stack([losses[-1] for losses in kept]).mean().backward()
            seconds.append(time.process_time() - start)
            held = sum(storages.values())
        found[name] = {"seconds": statistics.median(seconds), "bytes": held}
    return found


def milliseconds() -> dict[str, float]:
    """Processor time of a meta-gradient, the arms taking turns."""
    names = ("right", "detached", "grad of vmap")
    batch, weights = samplers("ink", 0)[0].batch(0, TASKS), init_weights(0)
    spent: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(21):
        for name in names:
            start = time.process_time()
            meta_gradient(ARMS[name], weights, batch)
            spent[name].append(1000 * (time.process_time() - start))
    return {name: statistics.median(times) for name, times in spent.items()}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choices = [COSTS, *ARMS]
    parser.add_argument("arms", nargs="*", help=f"of {', '.join(choices)}; all by default")
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    options = parser.parse_args()
    check_names(parser, "arm", options.arms, choices)
    torch.set_num_threads(1)
    keep_memory()
    path = RESULTS / "bugs.json"
    report = json.loads(path.read_text()) if options.arms and path.exists() else {}
    runs, more = report.get("runs", {}), report.get("more", {})

    def save() -> None:
        protocol = {"iterations": options.iterations, "tasks": TASKS, "test_tasks": TEST_TASKS}
        done = {arm: runs[arm] for arm in ARMS if arm in runs}
        write_report("bugs", done, "python -m benchmarks.bugs", more=more, protocol=protocol)

    for name in options.arms or choices:
        print(name, flush=True)
        if name == COSTS:
            more["kept"], more["milliseconds"] = kept_losses(), milliseconds()
            print(more, flush=True)
            save()
            continue
        arm = ARMS[name]
        _, sampler = samplers(arm.inputs, arm.seed)
        looked: list[Tensor] = []

        def look(i: int, weights: Params, arm=arm, sampler=sampler, looked=looked) -> None:
            half = options.iterations // 2
            if i > half and (i - half) % (half // CHECKPOINTS) == 0:
                looked.append(judge(arm, weights, sampler))

        watch = (look,) if name == "right" else ()
        weights = train(arm, options.iterations, *watch)
        accuracies = judge(arm, weights, sampler)
        found: dict[str, Any] = summary(accuracies)
        # Of each test task, in one line: how many queries were right.
        right = (accuracies * WAYS * TEST_QUERIES).round().int().tolist()
        found["right_of_75"] = " ".join(map(str, right))
        if name != "right":
            base = runs[BASE.get(name, "right")]["right_of_75"].split()
            base = torch.tensor([int(n) / (WAYS * TEST_QUERIES) for n in base]).double()
            found |= difference(accuracies, base)
        runs[name] = found
        save()
        print(f"  {100 * found['accuracy']:.2f} ± {100 * found['ci95']:.2f}", flush=True)
        if name == "right":
            table = torch.stack(looked)
            more["checkpoints"] = table.mean(1).tolist()
            more["optimism"] = [optimism(table, n) for n in (32, 100, 300)]
            more["coverage"] = [coverage(accuracies, n) for n in (32, 100, 600)]
            more["tests"] = tests_of_the_right_one(arm, weights, accuracies)
            save()
            print(json.dumps(more, indent=1), flush=True)


if __name__ == "__main__":
    main()
