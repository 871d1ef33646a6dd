"""Peak memory of MAML on adapters alone, beside everything: `python -m benchmarks.adapters`.

The transformer of `examples/adapters.py`, wider and deeper, on tasks of random tokens: one
meta-gradient of second order where all weights are adapted and learnt, and one where all are frozen
but low-rank adapters and the head.  Measured as in `benchmarks.memory`, on one thread.  Writes
`benchmarks/results/memory_adapters.json`.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from examples.adapters import Transformer, add_adapters

import innerloop
from benchmarks.memory import cost
from benchmarks.reports import in_own_process, write_report

STEPS = (1, 5, 10)
WHAT = ("everything", "adapters")
TASKS, N_WAY, K_QUERY, LENGTH, WIDTH, LAYERS, RANK = 4, 5, 3, 16, 256, 4, 4


def network(what: str, width: int = WIDTH, layers: int = LAYERS) -> Transformer:
    torch.manual_seed(0)
    made = Transformer(N_WAY, width, layers, LENGTH)
    if what == "adapters":
        add_adapters(made, RANK)
    return made


def random_tasks() -> innerloop.Episodes:
    """1-shot tasks of random bytes."""
    generator = torch.Generator().manual_seed(0)

    def tokens(per_class: int) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.arange(N_WAY).repeat_interleave(per_class).repeat(TASKS, 1)
        return torch.randint(1, 256, (*y.shape, LENGTH), generator=generator), y

    return innerloop.Episodes(*tokens(1), *tokens(K_QUERY))


def measure(what: str, steps: int) -> dict[str, float]:
    """Peak bytes and seconds of one meta-gradient, in this process; how many numbers it has."""
    torch.set_num_threads(1)
    tasks = random_tasks()
    # A small network first, so that what PyTorch loads for such derivatives is not counted.
    tiny = innerloop.MAML(network(what, 8, 1), 0.01, 1)
    tiny.meta_gradient(tiny.init_params(), tasks)
    maml = innerloop.MAML(network(what), 0.01, steps)
    params = maml.init_params()
    found, _ = cost(lambda: maml.meta_gradient(params, tasks))
    return {**found, "learnt": sum(p.numel() for p in params.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "STEPS"), help="one, as JSON")
    arguments = parser.parse_args()
    if arguments.one:
        what, steps = arguments.one
        print(json.dumps(measure(what, int(steps))))
        return
    runs: dict[str, dict[str, Any]] = {what: {} for what in WHAT}
    for what in WHAT:
        for steps in STEPS:
            found = in_own_process("benchmarks.adapters", what, str(steps))
            runs[what][str(steps)] = found
            print(what, steps, f"{found['bytes'] / 2**20:.0f} MB {found['seconds']:.2f} s")
    shape = {"tasks": TASKS, "n_way": N_WAY, "k_query": K_QUERY, "length": LENGTH}
    shape |= {"width": WIDTH, "layers": LAYERS, "rank": RANK}
    write_report("memory_adapters", runs, "python -m benchmarks.adapters", shape=shape)


if __name__ == "__main__":
    main()
