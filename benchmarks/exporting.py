"""Size, time and memory of exported networks beside PyTorch: `python -m benchmarks.exporting`.

File size, milliseconds of an answer and peak memory of a process, 5-way 1-shot with 75 queries,
each runtime in a process of its own with one thread.  Writes `benchmarks/results/exporting.json`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import innerloop
from benchmarks.reports import write_report

WAYS, QUERIES = 5, 15
LEARNERS = ("omniglot-5steps", "omniglot-conv4", "omniglot-protonet")
ADAPTED = ("omniglot-conv4",)
# Probabilities of the same network differ by less than this.
SAME = 1e-4


def episode() -> dict[str, np.ndarray]:
    """Glyphs that no network has seen: a support set, labels and queries."""
    data = innerloop.data.glyphs(WAYS, QUERIES + 1, seed=1)
    images = [data.class_images(c) for c in range(WAYS)]
    return {
        "support": np.concatenate([own[:1] for own in images]),
        "labels": np.arange(WAYS),
        "queries": np.concatenate([own[1:] for own in images]),
    }


def asked(runtime: str, model: str, file: Path) -> dict[str, Any]:
    """What `benchmarks.exported` finds."""
    command = [sys.executable, "-m", "benchmarks.exported", runtime, model, str(file)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    return json.loads(done.stdout)


def measured(name: str, learner: bool, folder: Path) -> dict[str, Any]:
    """One network, in both runtimes.

    Raises:
        SystemExit: their answers differ.
    """
    file = folder / f"{name}-{learner}.onnx"
    given = episode()
    np.savez(folder / "episode.npz", **given)
    if learner:
        innerloop.export(name, file, learner=True)
    else:
        classifier = innerloop.FewShotClassifier(name, ink="dark", prepare="none")
        classifier.fit(given["support"], given["labels"]).export(file)
    plain = "pytorch" if learner else "pytorch, adapted"
    row = {
        "onnxruntime": asked("onnxruntime", str(file), folder / "episode.npz"),
        "pytorch": asked(plain, name, folder / "episode.npz"),
    }
    both = [np.array(each.pop("probabilities")) for each in row.values()]
    difference = float(np.abs(both[0] - both[1]).max())
    if difference > SAME:
        raise SystemExit(f"{name}: probabilities differ by {difference}")
    return {"bytes": file.stat().st_size, "difference": difference, **row}


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        cases = {f"learner of {name}": (name, True) for name in LEARNERS}
        cases |= {f"adapted {name}": (name, False) for name in ADAPTED}
        runs = {title: measured(*case, Path(place)) for title, case in cases.items()}
    print(json.dumps(runs, indent=1))
    write_report("exporting", runs, "python -m benchmarks.exporting")


if __name__ == "__main__":
    main()
