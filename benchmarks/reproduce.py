"""Reproduce the papers' figures: `python -m benchmarks.reproduce ROW [--seeds 0 1 2]`.

A row is a training by `configs/ROW.yaml`, or by a preset of the package (`PRESETS`), once per seed,
and tests in the settings of its protocol with either way of batch normalisation.  A training that
was interrupted goes on where it was; one that is finished is only tested.  With `--minutes M`
training stops after that time, but not before its first validation; the best weights on validation
are tested, and the result states how many steps were made.  Writes
`benchmarks/results/reproduce/ROW-SEED.json` with the accuracy of every validation and of every
single test task.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

import innerloop
from benchmarks.reports import graphics, machine, no_traceback, shorten, trained_in, was_stopped
from innerloop.config import TrainConfig
from innerloop.evaluation_in_use import evaluate_in_use
from innerloop.in_use import PARTS
from innerloop.ops.allocator import keep_memory
from innerloop.ops.precision import PRECISIONS
from innerloop.runs.folder import CONFIG, METRICS
from innerloop.runs.loading import load_for
from innerloop.training.report import TerminalReport

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
FOUND = ROOT / "benchmarks" / "results" / "reproduce"

Changes = dict[str, Any]
STATISTICS = ("transductive", "support")
# What is told in all quarter turns, by where batch norm takes its statistics from.
TURNED = {bn: f"turned, {bn}" for bn in STATISTICS}
ON_CPU = {"device": "cpu", "precision": "float32"}


# For five shots, as `FewShotClassifier` learns them: the one step of our recipe, in parts.
SMALL_STEPS = {"inner_lr": TrainConfig().inner_lr / PARTS, "eval_inner_steps": PARTS}


def omniglot_settings(
    queries: int | None = None, five_shots: Changes | None = None
) -> dict[str, Changes]:
    """The field's four settings.

    Args:
        queries: of a class; None for as many as support images.
        five_shots: what else is different with five shots.
    """
    found: dict[str, Changes] = {}
    for n, k in ((5, 1), (5, 5), (20, 1), (20, 5)):
        found[f"{n}-way {k}-shot"] = {"n_way": n, "k_shot": k, "eval_k_query": queries or k}
        if k > 1:
            found[f"{n}-way {k}-shot"] |= five_shots or {}
    return found


class Row(NamedTuple):
    """The tests of a row, and the papers' figures for them.

    Attributes:
        tests: by name of the setting, what is different from the config.
        tasks: number of test tasks.
        papers: figures in percent, by paper and setting.
        turned: also tested as `FewShotClassifier(views="turns")` applies it.
    """

    tests: dict[str, Changes]
    tasks: int
    papers: dict[str, dict[str, str]]
    turned: bool = False


def figures(*values: str) -> dict[str, str]:
    """A paper's figures in the order of the four settings."""
    return {name: v for name, v in zip(omniglot_settings(), values, strict=True) if v}


MAML = figures("98.7 ± 0.4", "99.9 ± 0.1", "95.8 ± 0.3", "98.9 ± 0.2")
FIRST_ORDER = figures("98.3 ± 0.5", "99.2 ± 0.2", "89.4 ± 0.5", "97.9 ± 0.1")
NICHOL = "first-order MAML (Nichol et al. 2018)"
MAML_PP = figures("99.47", "99.93", "97.65 ± 0.05", "99.33 ± 0.03")
MC = figures("99.97", "99.89", "99.12", "99.65")


def papers_own(paper: str, said: dict[str, str], name: str) -> dict[str, Row]:
    """A paper's own settings: a training for each that `said` names, tested in that one."""
    return {
        f"{name}-{setting.replace('-', '').replace(' ', '-')}": Row(
            {setting: omniglot_settings()[setting]}, 1000, {paper: {setting: figure}}
        )
        for setting, figure in said.items()
    }


ROWS: dict[str, Row] = {
    "untrained": Row(omniglot_settings(), 1000, {}),
    "ours": Row(
        omniglot_settings(five_shots=SMALL_STEPS),
        1000,
        {"MAML (Finn et al. 2017)": MAML, "MAML++ (2019)": MAML_PP, "Meta-Curvature (2019)": MC},
        turned=True,
    ),
    "glyphs": Row(
        {
            name: {**changes, "data": "omniglot", "split": "finn2017"}
            for name, changes in omniglot_settings().items()
        },
        1000,
        {},
    ),
    "protonet": Row(
        omniglot_settings(queries=5),
        1000,
        {"ProtoNet (Snell et al. 2017)": figures("98.8", "99.7", "96.0", "98.9")},
    ),
    "anil": Row(
        omniglot_settings(),
        1000,
        {"ANIL (Raghu et al. 2020)": figures("", "", "96.2 ± 0.5", "98.0 ± 0.3")},
    ),
    "ours-first-order": Row(omniglot_settings(), 600, {NICHOL: FIRST_ORDER}),
    "meta-sgd": Row(
        omniglot_settings(),
        600,
        {
            "Meta-SGD (Li et al. 2017)": figures(
                "99.53 ± 0.26", "99.93 ± 0.09", "95.93 ± 0.38", "98.97 ± 0.19"
            )
        },
    ),
    # Tested in the steps of training, which are several.
    "several-steps": Row(omniglot_settings(), 600, {"MAML (Finn et al. 2017)": MAML}),
    "maml++": Row(omniglot_settings(), 600, {"MAML++ (2019)": MAML_PP}),
    "imaml": Row(
        omniglot_settings(),
        600,
        {
            "iMAML, Hessian-free (Rajeswaran et al. 2019)": figures(
                "99.50 ± 0.26", "99.74 ± 0.11", "96.18 ± 0.36", "99.14 ± 0.1"
            )
        },
    ),
    "reptile": Row(
        omniglot_settings(),
        600,
        {
            "Reptile (Nichol et al. 2018)": figures(
                "97.68 ± 0.04", "99.48 ± 0.06", "89.43 ± 0.14", "97.12 ± 0.32"
            )
        },
    ),
    "background": Row(
        {
            "20-way 1-shot": {
                **{"n_way": 20, "k_shot": 1, "eval_k_query": 1, "within_group": True},
                **{"data": "omniglot", "split": "lake2015"},
            }
        },
        1000,
        {},
    ),
    "lake2015": Row({"20-way 1-shot": {"n_way": 20, "k_shot": 1, "within_group": True}}, 1000, {}),
    **papers_own("MAML (Finn et al. 2017)", MAML, "maml"),
    **papers_own(NICHOL, FIRST_ORDER, "fomaml"),
    # For the two settings of one shot alone, to see what adapted norms cost.
    **papers_own(NICHOL, {s: v for s, v in FIRST_ORDER.items() if "1-shot" in s}, "fomaml-norms"),
}


# Rows that are presets of the package: they have no file in `configs/`.
PRESETS = {row: row.replace("maml-", "finn2017-") for row in ROWS if row.startswith("maml-")}


def config_of(row: str) -> TrainConfig:
    """The settings that a row is trained by."""
    if row in PRESETS:
        return TrainConfig.preset(PRESETS[row])
    return TrainConfig.from_file(CONFIGS / f"{row}.yaml")


class StopAfter(TerminalReport):
    """Ends training after so many minutes, as Ctrl-C does, but not before the first validation."""

    def __init__(self, minutes: float) -> None:
        super().__init__()
        self.minutes, self.stopped = minutes, False

    def start(self, config: TrainConfig, folder: Path, iteration: int) -> None:
        super().start(config, folder, iteration)
        self.metrics, self.end = folder / METRICS, time.monotonic() + 60 * self.minutes

    def step(self, iteration: int, loss: float, share: float) -> None:
        super().step(iteration, loss, share)
        # A second signal would mean that the first one takes too long.
        if time.monotonic() >= self.end and self.metrics.exists() and not self.stopped:
            self.stopped = True
            signal.raise_signal(signal.SIGINT)


def trained(
    row: str,
    seed: int,
    folder: Path,
    source: str | None,
    minutes: float | None,
    device: dict[str, str],
) -> dict[str, Any]:
    """How far the run in `folder` is; trains, or goes on, where that is needed and allowed."""
    report = TerminalReport() if minutes is None else StopAfter(minutes)
    config = config_of(row)
    results = trained_in(folder, config, report, seed=seed, omniglot_source=source, **device)
    if results is not None:
        return results
    if minutes is None or not (folder / METRICS).exists():
        raise was_stopped(folder)
    return so_far(folder / METRICS)


def lines_of(metrics: Path) -> list[dict[str, Any]]:
    """The validations of a run."""
    return [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]


def so_far(metrics: Path) -> dict[str, Any]:
    """What a run that was stopped had reached at its last validation."""
    lines = lines_of(metrics)
    # The last of equals, as in training.
    best = max(lines, key=lambda line: (line["val_accuracy"], line["iteration"]))
    return {
        "iterations": lines[-1]["iteration"],
        "best_iteration": best["iteration"],
        "seconds": lines[-1]["seconds"],
    }


def course(lines: list[dict[str, Any]]) -> dict[str, list[float]]:
    """The validations of a run, so that statements about them can be checked."""
    return {
        "iteration": [line["iteration"] for line in lines],
        "accuracy": [round(line["val_accuracy"], 4) for line in lines],
    }


def tested(row: Row, folder: Path, source: str | None, device: str) -> dict[str, Any]:
    """Every setting, with batch statistics of all queries together and of the support set alone.

    Where the row says so, each of them again in all quarter turns, by `TURNED` of its name.
    """
    found: dict[str, Any] = {}
    for setting, changes in row.tests.items():
        found[setting] = {}
        for bn in STATISTICS:
            run, sampler = load_for(folder, bn=bn, omniglot_source=source, device=device, **changes)
            found[setting][bn] = innerloop.evaluate(
                run.algorithm,
                run.params,
                sampler,
                tasks=row.tasks,
                inner_steps=run.config.eval_inner_steps,
                every_step=False,
            )
            if row.turned:
                # It chooses rate and steps by the number of shots itself.
                own = {name: value for name, value in changes.items() if name not in SMALL_STEPS}
                run, sampler = load_for(folder, omniglot_source=source, device=device, **own)
                found[setting][TURNED[bn]] = evaluate_in_use(
                    run, sampler, tasks=row.tasks, bn=bn, views="turns"
                )
        for way, share in found[setting].items():
            print(f"{setting}, {way}: {100 * share['accuracy']:.2f} ± {100 * share['ci95']:.2f}")
    shorten(found)
    return found


def reproduce(
    name: str,
    seed: int,
    runs: Path,
    source: str | None,
    minutes: float | None = None,
    device: dict[str, str] = ON_CPU,
) -> None:
    """One training and its tests; `device` holds the settings device and precision."""
    folder = runs / f"{name}-{seed}"
    results = trained(name, seed, folder, source, minutes, device)
    config = TrainConfig.from_file(folder / CONFIG)
    stopped = results["iterations"] < config.iterations
    report = {
        "command": command(name, seed, minutes if stopped else None, config),
        "machine": {**machine(), **graphics(config.device)},
        "seed": seed,
        "iterations": results["iterations"],
        "planned_iterations": config.iterations,
        "best_iteration": results["best_iteration"],
        "seconds": results["seconds"],
        "validation": course(lines_of(folder / METRICS)),
        "settings": {**config.to_dict(), "omniglot_source": None},
        "tests": tested(ROWS[name], folder, source, config.device),
    }
    FOUND.mkdir(exist_ok=True)
    (FOUND / f"{name}-{seed}.json").write_text(json.dumps(report) + "\n", "utf-8")


def command(name: str, seed: int, minutes: float | None, config: TrainConfig) -> str:
    """The last command that was typed; a resumed run keeps its device and precision."""
    said = f"python -m benchmarks.reproduce {name} --seeds {seed}"
    if config.device != "cpu":
        said += f" --device {config.device} --precision {config.precision}"
    return said if minutes is None else f"{said} --minutes {minutes:.3g}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="+", choices=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"))
    parser.add_argument("--minutes", type=float, help="stop each training after so long, and test")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", default="float32", choices=PRECISIONS)
    parser.add_argument("--omniglot-source", default=os.environ.get("INNERLOOP_OMNIGLOT"))
    arguments = parser.parse_args()
    keep_memory()
    source = arguments.omniglot_source
    device = {"device": arguments.device, "precision": arguments.precision}
    with no_traceback(parser):
        for name in arguments.rows:
            for seed in arguments.seeds:
                reproduce(name, seed, arguments.runs, source, arguments.minutes, device)


if __name__ == "__main__":
    main()
