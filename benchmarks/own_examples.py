"""Accuracies of the examples on real sequences: `python -m benchmarks.own_examples`.

`examples/time_series.py` on five draws of the people, and `examples/adapters.py` with adapters and
with everything, on one thread.  Writes `benchmarks/results/examples.json`.
"""

from __future__ import annotations

import torch

from benchmarks.reports import write_report
from examples import adapters, time_series

DRAWS = 5


def main() -> None:
    torch.set_num_threads(1)
    runs = {
        "time_series": [time_series.main(split_seed=draw) for draw in range(DRAWS)],
        "adapters": {
            name: adapters.main(adapters=alone)
            for name, alone in (("adapters", True), ("everything", False))
        },
    }
    write_report("examples", runs, "python -m benchmarks.own_examples")


if __name__ == "__main__":
    main()
