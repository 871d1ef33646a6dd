"""Symbols unlike the training data: `python -m benchmarks.elsewhere --symbols FILE`.

FILE is an `.npz` with `NAME_x`, `uint8` `[n, H, W]`, and `NAME_y`, `[n]`, of each set: grey
drawings or prints of one size.  A task has 20 classes (all, where a set has fewer), one or five
support pictures and two queries a class; each query is classified by itself.  Picture i of every
class is by the same hand or font, but in `NO_HANDS`: none of them is in both the support set and
the queries.  The tasks are the same for all contestants: weights, as `FewShotClassifier` uses them;
the nearest support picture by its pixels; and by its histograms of gradients (HOG).  Each sees the
pictures as they are and with their ink found (`prepare`); weights also as `"auto"` decides for each
task, and so in all quarter turns (`views="turns"`).  Results of the same tasks that are already in
the file are kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.reports import RESULTS, machine
from innerloop.data.ink import Ink, find_ink, on_blank_paper, worth_finding
from innerloop.data.likeness import likeness, most_are_alike
from innerloop.data.polarity import ink_is_dark
from innerloop.errors import UserError
from innerloop.files import write_whole
from innerloop.inputs import Pictures
from innerloop.learners import AdaptedNetwork, network_learner
from innerloop.runs.loading import load, pretrained_names

OUT = RESULTS / "elsewhere.json"
SIZE = 28
WAYS, QUERIES, SHOTS = 20, 2, (1, 5)
TASKS = 40
# Sets in which the pictures of a class are not ordered by who made them.
NO_HANDS = ("digits8", "hanzi")
PREPARED = ("none", "ink")


class Symbols(NamedTuple):
    """One set, with everything that contestants need from its pictures.

    Attributes:
        name: of the set.
        labels: `[n]`.
        dark: ink is dark.
        seen: by `prepare`, bytes `[n, 1, 28, 28]`.
        inks: what was found in each picture.
    """

    name: str
    labels: np.ndarray
    dark: bool
    seen: dict[str, np.ndarray]
    inks: list[Ink | None]


class Task(NamedTuple):
    """Numbers of pictures and labels of the support set and the queries."""

    support: np.ndarray
    support_y: np.ndarray
    query: np.ndarray
    query_y: np.ndarray


Contestant = Callable[[Symbols, Task], dict[str, np.ndarray]]
"""Answers `[Q]` to the queries of a task, by `prepare`; `"turns"`: by `"auto"`, turned."""


def read(file: Path) -> Iterator[Symbols]:
    """The sets of a file, with ink found in every picture."""
    if not file.is_file():
        raise UserError(f"{file} does not exist: --symbols names an .npz of sets of symbols")
    with np.load(file, allow_pickle=False) as held:
        for name in (key.removesuffix("_x") for key in held.files if key.endswith("_x")):
            pictures, labels = held[f"{name}_x"], held[f"{name}_y"]
            dark = ink_is_dark(pictures[:, None])
            inks = [find_ink(picture, dark) for picture in pictures]
            scaled = Pictures(pictures[:, None], (1, SIZE, SIZE)).scaled
            found = scaled.copy()
            for number, ink in enumerate(inks):
                if ink is not None:
                    found[number, 0] = on_blank_paper(ink, dark, (SIZE, SIZE))
            yield Symbols(name, labels, dark, {"none": scaled, "ink": found}, inks)


def draw(symbols: Symbols, shots: int, number: int, seed: int = 0) -> Task:
    """Task `number`: a function of the seed, the set, the shots and the number."""
    rng = np.random.default_rng([seed, shots, number, *symbols.name.encode()])
    classes = np.unique(symbols.labels)
    chosen = rng.permutation(classes)[:WAYS]
    rows = {c: np.flatnonzero(symbols.labels == c) for c in chosen}
    sets: list[list[int]] = [[], []]
    hands = rng.permutation(min(len(of) for of in rows.values()))
    half = max(shots, len(hands) // 2)
    for c in chosen:
        if symbols.name.endswith(NO_HANDS):
            mixed = rng.permutation(rows[c])
            parts = mixed[:shots], mixed[shots : shots + QUERIES]
        else:
            parts = tuple(
                rows[c][rng.choice(of, count, replace=False)]
                for of, count in ((hands[:half], shots), (hands[half:], QUERIES))
            )
        for into, part in zip(sets, parts, strict=True):
            into.extend(part.tolist())
    support, query = (np.array(part) for part in sets)
    labels = np.arange(len(chosen))
    return Task(support, labels.repeat(shots), query, labels.repeat(QUERIES))


def network(weights: str) -> Contestant:
    """Weights that come with the package, or those of a run: what `FewShotClassifier` predicts.

    Without the loss on the support set, and after the last inner step alone, which saves time.
    """
    loaded = load(weights)
    learn = network_learner(loaded, weights, "support", None)
    learn_turned = network_learner(loaded, weights, "support", None, "turns")

    def answer(symbols: Symbols, task: Task) -> dict[str, np.ndarray]:
        answers, given = {}, {}
        for prepare in PREPARED:
            x = torch.from_numpy(symbols.seen[prepare]).float() / 255
            given[prepare] = x = 1 - x if symbols.dark else x
            fitted = learn(x[task.support], task.support_y, None)
            assert isinstance(fitted, AdaptedNetwork)
            algorithm, params, fast, support = fitted.parts
            with torch.no_grad():
                logits = algorithm.predictor(params, support, x[task.query])(fast)
            answers[prepare] = logits.argmax(dim=1).numpy()
        helps = worth_finding([symbols.inks[i] for i in task.support])
        as_it_is, found = (symbols.seen[prepare][task.support] for prepare in PREPARED)
        alike = most_are_alike(likeness(as_it_is, found, task.support_y))
        decided = "ink" if helps and not alike else "none"
        x = given[decided]
        turned = learn_turned(x[task.support], task.support_y, None).stages(x[task.query])[-1]
        return {**answers, "auto": answers[decided], "turns": turned.argmax(axis=1)}

    return answer


def nearest(features: Callable[[np.ndarray], np.ndarray]) -> Contestant:
    """The class of the nearest support picture by Euclidean distance of features `[n, F]`."""
    kept: dict[tuple[str, str], np.ndarray] = {}

    def answer(symbols: Symbols, task: Task) -> dict[str, np.ndarray]:
        answers = {}
        for prepare in PREPARED:
            key = symbols.name, prepare
            if key not in kept:
                kept[key] = features(symbols.seen[prepare])
            support, query = kept[key][task.support], kept[key][task.query]
            distances = ((query[:, None] - support[None]) ** 2).sum(axis=2)
            answers[prepare] = task.support_y[distances.argmin(axis=1)]
        return answers

    return answer


def pixels(images: np.ndarray) -> np.ndarray:
    """`[n, 784]`, 0 to 1."""
    return images.reshape(len(images), -1) / 255.0


def histograms(images: np.ndarray) -> np.ndarray:
    """HOG of 4 x 4 cells of 7 pixels, 9 orientations, blocks of 2 x 2."""
    try:
        from skimage.feature import hog
    except ImportError:
        raise UserError("HOG needs scikit-image: pip install scikit-image") from None
    options: dict[str, Any] = {"pixels_per_cell": (7, 7), "cells_per_block": (2, 2)}
    return np.stack([hog(image[0], **options) for image in images])


def measure(
    file: Path, weights: list[str], tasks: int = TASKS, known: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Accuracies by set, shots, contestant and `prepare`; those that are known are kept."""
    contestants: dict[str, Contestant] = {Path(name).stem: network(name) for name in weights}
    contestants |= {"pixels": nearest(pixels), "hog": nearest(histograms)}
    found = dict(known or {})
    for symbols in read(file):
        for shots in SHOTS:
            drawn = [draw(symbols, shots, number) for number in range(tasks)]
            of_shots = found.setdefault(symbols.name, {}).setdefault(str(shots), {})
            for name, answer in contestants.items():
                if name in ("pixels", "hog") and name in of_shots:
                    continue
                answers = [answer(symbols, task) for task in drawn]
                of_shots[name] = {
                    prepare: interval(
                        [
                            float(np.mean(of[prepare] == task.query_y))
                            for of, task in zip(answers, drawn, strict=True)
                        ]
                    )
                    for prepare in answers[0]
                }
            print(symbols.name, f"{shots}-shot", shown(of_shots), flush=True)
    return found


def interval(accuracies: list[float]) -> dict[str, float]:
    """The mean over tasks, and half the 95% interval."""
    half = 1.96 * np.std(accuracies, ddof=1) / len(accuracies) ** 0.5
    return {"accuracy": float(np.mean(accuracies)), "ci95": float(half)}


def shown(by_contestant: dict[str, Any]) -> str:
    """Accuracies in percent, on one line."""
    return "; ".join(
        name + " " + " / ".join(f"{100 * of['accuracy']:.1f}" for of in by_prepare.values())
        for name, by_prepare in by_contestant.items()
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--symbols", type=Path, required=True, help="an .npz of sets of symbols")
    parser.add_argument("--weights", nargs="*", help="weights or runs; those of the package")
    parser.add_argument("--tasks", type=int, default=TASKS, help="tasks for each set and shots")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    protocol = {
        "command": "python -m benchmarks.elsewhere --symbols symbols.npz",
        "tasks": options.tasks,
        "ways": WAYS,
        "queries": QUERIES,
        "seed": 0,
        "interval": "1.96 standard errors over tasks",
    }
    held = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    # Results of the same tasks that are not measured now are kept.
    known = held["sets"] if protocol.items() <= held.items() else None
    sets = measure(options.symbols, options.weights or pretrained_names(), options.tasks, known)
    with write_whole(options.out) as out:
        report = {**protocol, "machine": machine(), "sets": sets}
        out.write(json.dumps(report, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
