"""One answer by one runtime, in a process of its own: see `benchmarks.exporting`.

`python -m benchmarks.exported RUNTIME MODEL EPISODE` prints JSON.  It imports only what the
runtime needs, because its memory is measured.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from innerloop import FewShotClassifier

ANSWERS = 20
Answer = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""From support pictures, labels and queries to probabilities `[Q, N]`."""


def onnxruntime(file: str) -> Answer:
    """By a file that `innerloop export` wrote: of the learner, or of an adapted network."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(file, options)
    if len(session.get_inputs()) == 1:
        return lambda support, labels, queries: session.run(None, {"images": queries})[0]

    def learn(support: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> np.ndarray:
        given = {"support": support, "labels": labels, "queries": queries}
        return session.run(["probabilities"], given)[0][-1]

    return learn


def classifier(name: str) -> FewShotClassifier:
    """The network `name` in one thread of PyTorch."""
    import torch

    from innerloop import FewShotClassifier

    torch.set_num_threads(1)
    # As it is exported: pictures as they are.
    return FewShotClassifier(name, ink="dark", prepare="none")


def pytorch(name: str) -> Answer:
    """By a classifier that learns for each answer."""
    made = classifier(name)
    return lambda support, labels, queries: made.fit(support, labels).predict_proba(queries)


def pytorch_adapted(name: str) -> Answer:
    """By a classifier that learns for the first answer."""
    made = classifier(name)

    def answer(support: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> np.ndarray:
        if not hasattr(made, "classes_"):
            made.fit(support, labels)
        return made.predict_proba(queries)

    return answer


RUNTIMES = {"onnxruntime": onnxruntime, "pytorch": pytorch, "pytorch, adapted": pytorch_adapted}


def peak() -> int:
    """Peak memory of this process, in MB.

    Of Linux alone: `getrusage` would count that of the process which began this one.
    """
    status = Path("/proc/self/status").read_text()
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def main() -> None:
    runtime, model, episode = sys.argv[1:]
    started = time.perf_counter()
    answer = RUNTIMES[runtime](model)
    with np.load(episode) as given:
        task = given["support"], given["labels"], given["queries"]
    probabilities = answer(*task)
    ready = time.perf_counter() - started
    found = []
    for _ in range(ANSWERS):
        started = time.perf_counter()
        answer(*task)
        found.append(1000 * (time.perf_counter() - started))
    result = {
        "seconds to the first answer": round(ready, 2),
        "median_ms": round(float(np.median(found)), 2),
        "least_ms": round(min(found), 2),
        "peak_mb": peak(),
        "probabilities": probabilities.tolist(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
