"""Fine-tuning of a pretrained network, beside leaving it as it is.

    python -m benchmarks.fine_tuning --emoji DIR

EfficientNet-Lite0 at 224 pixels, whole pictures, `head="auto"`; classes of the test split of emoji,
of one Unicode category in each task, 5-way.  A fit takes minutes, so there are few tasks.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.photos import BODY, interval
from benchmarks.reports import machine, write_report
from innerloop import FewShotClassifier
from innerloop.data import folder, split_classes
from innerloop.data.base import ImageClasses

NAME = "fine_tuning"
WAYS = 5
# Pictures of a class in the support set, others to be told, and tasks.
SETTINGS = {"1-shot": (1, 4, 20), "5-shot": (5, 1, 6)}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emoji", type=Path, required=True, help="folder of emoji pictures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = folder(options.emoji, channels=3)
    runs: dict[str, Any] = {}
    for name in SETTINGS:
        runs[name] = measure(data, *SETTINGS[name])
        command = f"python -m benchmarks.{NAME} --emoji DIR"
        write_report(NAME, runs, command, ways=WAYS, machine=machine())


def measure(data: ImageClasses, shots: int, queries: int, tasks: int) -> dict[str, Any]:
    """Accuracies of the same tasks with and without fine-tuning, and how often it was chosen."""
    generator = np.random.default_rng(shots)
    rows = split_classes(data, "random")["test"]
    rows = rows[data.counts[rows] >= shots + queries]
    groups = np.array(data.groups)[rows]
    names = [g for g in np.unique(groups) if (groups == g).sum() >= WAYS]
    found: dict[str, list[float]] = {"frozen": [], "fine-tuned": [], "rate": [], "seconds": []}
    for _ in range(tasks):
        of_group = rows[groups == generator.choice(names)]
        images = [
            generator.permutation(data.class_images(c))[: shots + queries]
            for c in generator.choice(of_group, WAYS, replace=False)
        ]
        support = np.concatenate([x[:shots] for x in images])
        asked = np.concatenate([x[shots:] for x in images])
        labels, truth = (np.repeat(np.arange(WAYS), n) for n in (shots, queries))
        for name in ("frozen", "fine-tuned"):
            tune = name == "fine-tuned"
            classifier = FewShotClassifier(
                BODY["source"], preprocess=BODY["preprocess"], views="whole", fine_tune=tune
            )
            start = time.process_time()
            classifier.fit(support, labels)
            if tune:
                found["seconds"].append(time.process_time() - start)
                found["rate"].append(float(classifier.fine_tuned_ or 0))
            found[name].append(classifier.score(asked, truth))
        print({key: values[-1] for key, values in found.items()}, flush=True)
    difference = np.subtract(found["fine-tuned"], found["frozen"]).tolist()
    return {
        "shots": shots,
        "queries": queries,
        "tasks": tasks,
        **{
            name: {"accuracy": float(np.mean(values)), "ci95": interval(values)}
            for name, values in (*list(found.items())[:2], ("difference", difference))
        },
        "tuned": int(np.count_nonzero(found["rate"])),
        "worse": int(np.count_nonzero(np.array(difference) < 0)),
        "better": int(np.count_nonzero(np.array(difference) > 0)),
        "seconds": float(np.mean(found["seconds"])),
    }


if __name__ == "__main__":
    main()
