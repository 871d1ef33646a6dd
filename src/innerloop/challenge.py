"""Lake's one-shot challenge: how often a network errs, each query told by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.ensemble import VotingClassifier

from innerloop.classifier import FewShotClassifier
from innerloop.data.lake import LakeRun
from innerloop.data.omniglot_facts import facts
from innerloop.errors import UserError
from innerloop.keywords import keywords_checked
from innerloop.runs.loading import Loaded

OFFICIAL = "the official runs"


@keywords_checked
def lake_challenge(
    loaded: Loaded | Sequence[Loaded],
    runs: list[LakeRun],
    *,
    inner_steps: int | None = None,
    views: str | None = None,
    name: str = OFFICIAL,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Learn each run's 20 drawings, and tell its 20 queries.

    Pictures are only scaled.  Batch statistics are those of the support set, so that no answer
    depends on other queries; nor may two queries share out the classes between them.

    Args:
        loaded: the network, see `load`; or several, whose probabilities are averaged.
        runs: see `innerloop.data.lake_runs` and `innerloop.data.draw_lake_runs`.
        inner_steps: None for those of `FewShotClassifier`.
        views: what the networks see of each drawing, see `FewShotClassifier`.
        name: what the protocol calls the runs.
        on_progress: called with the number of runs done.

    Returns:
        A dict of plain values.  `error` is the mean over runs of the share of queries that got a
        wrong class, 0..1; `ci95` the half width of its 95% interval, 1.96 standard errors over
        runs; `errors` that of each run by its name; `seen`, how many of the training classes are
        characters of the evaluation alphabets, which the challenge forbids, of all networks
        together; `protocol`.

    Raises:
        UserError: fewer than 2 runs, no network, or one that cannot tell so many classes apart.
    """
    if len(runs) < 2:
        raise UserError(f"an interval needs at least 2 runs, not {len(runs)}")
    networks = [loaded] if isinstance(loaded, Loaded) else list(loaded)
    if not networks:
        raise UserError("the challenge needs at least one network")
    each = [
        FewShotClassifier(n, inner_steps=inner_steps, views=views, prepare="none") for n in networks
    ]
    named = [(str(number), classifier) for number, classifier in enumerate(each)]
    together = each[0] if len(each) == 1 else VotingClassifier(named, voting="soft")
    errors: dict[str, float] = {}
    for done, run in enumerate(runs, 1):
        told = together.fit(run.support, np.arange(len(run.support))).predict(run.query)
        # Drawn runs of many can have one name.
        title = run.name if run.name not in errors else f"{run.name} ({done})"
        errors[title] = float((told != run.answers).mean())
        if on_progress is not None:
            on_progress(done)
    of_runs = np.array(list(errors.values()))
    return {
        "metric": "error",
        "error": float(of_runs.mean()),
        "ci95": float(1.96 * of_runs.std(ddof=1) / math.sqrt(len(runs))),
        "errors": errors,
        "seen": seen(dict.fromkeys(name for n in networks for name in n.train_classes)),
        "bn": "support",
        "protocol": {
            "data": "Lake's one-shot challenge",
            "runs": name,
            "tasks": len(runs),
            "n_way": len(runs[0].support),
            "k_shot": 1,
            "within_group": True,
            "queries": "each by itself",
            "inner_steps": _steps(together),
            "networks": len(networks),
            "views": views or "whole",
            "interval": "1.96 standard errors over runs",
        },
    }


def _steps(classifier: FewShotClassifier | VotingClassifier) -> int:
    """Inner steps that were taken, of several networks the most."""
    each = getattr(classifier, "estimators_", [classifier])
    return max(len(one.support_loss_) for one in each) - 1


def seen(train_classes: Iterable[str]) -> int:
    """How many of the classes are characters of Omniglot's evaluation alphabets."""
    alphabets = tuple(f"{name}/character" for name in facts()["evaluation"])
    return sum(any(alphabet in name for alphabet in alphabets) for name in train_classes)


def format_challenge(result: dict[str, Any]) -> str:
    """A result for people: the error, its interval, the protocol, one line a run."""
    protocol = result["protocol"]
    seen_as = {"turns": "seen in all quarter turns, ", "flips": "also mirrored, "}
    views = seen_as.get(protocol.get("views", ""), "")
    lines = [
        f"error {100 * result['error']:.2f} ± {100 * result['ci95']:.2f} %  "
        f"({protocol['data']}, {protocol['runs']}: {protocol['tasks']} tasks of "
        f"{protocol['n_way']} characters of one alphabet, one drawing of each to learn from, "
        f"{views}each query by itself, 95% interval over runs)"
    ]
    if result["seen"]:
        lines.append(
            f"not a fair entry: {result['seen']} of the network's training classes are characters "
            "of the evaluation alphabets; train it with --split lake2015"
        )
    width = max(map(len, result["errors"]))
    return "\n".join(
        lines + [f"  {name:<{width}}  {100 * e:5.1f}%" for name, e in result["errors"].items()]
    )
