"""Make the weights that come with the package: `python -m benchmarks.pretrained NAME [--run RUN]`.

Trains by the recipe below, or takes a finished run of it.  Halves the bytes of the weights, fits a
temperature on meta-validation tasks, tests, and writes `src/innerloop/pretrained/NAME.safetensors`
with its card `NAME.md` and the figures `NAME.json`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

import innerloop
from benchmarks.reports import machine
from benchmarks.reproduce import CONFIGS
from innerloop.calibration import expected_calibration_error, fit_temperature
from innerloop.config.files import read_settings, settings_from
from innerloop.learners import network_learner
from innerloop.rejection import threshold
from innerloop.runs.checkpoint import read_tensors, write_tensors
from innerloop.runs.loading import PRETRAINED, Loaded, load_for
from innerloop.training.report import TerminalReport

# Tasks to fit the temperature on, and to test on.
VALIDATION, TEST = 200, 600

RECIPES: dict[str, dict[str, Any]] = {
    # Our best, on three kinds of symbols, half of the tasks with other pens and papers.
    "omniglot-conv4": {
        **settings_from(read_settings(CONFIGS / "ours.yaml"), innerloop.TrainConfig, None),
        "data": "benchmarks.mixed_symbols:data",
        "split": "mixed",
        "within_group": True,
        "inputs": "ink",
        "augment": "conditions",
        "iterations": 100_000_000,
        "max_seconds": 3300.0,
        "val_every": 1000,
        "val_tasks": 60,
        "test_tasks": 100,
        "threads": 1,
    },
    # For Lake's challenge: no drawing of an evaluation alphabet was seen.
    "background-conv4": {
        **settings_from(read_settings(CONFIGS / "background.yaml"), innerloop.TrainConfig, None),
        "iterations": 20_000,
        "val_every": 1000,
    },
    # Five smaller inner steps, which one can watch.
    "omniglot-5steps": {
        "data": "omniglot",
        "inner_steps": 5,
        "eval_inner_steps": 5,
        "inner_lr": 0.004,
        "iterations": 100_000_000,
        "max_seconds": 3000.0,
        "val_every": 250,
    },
    "omniglot-protonet": {
        "algorithm": "protonet",
        "data": "omniglot",
        "iterations": 6000,
        "val_every": 500,
    },
    "glyphs-conv4": {
        "data": "glyphs",
        "glyph_classes": 4000,
        "iterations": 8000,
        "val_every": 500,
    },
}

CARD = """\
# {name}

Weights of {algorithm} on a Conv4 of {width} filters ({parameters:,} numbers), for grey images of
28 x 28 with dark or light strokes and any number of classes.

- **Data**: {data}, {classes:,} training classes, also turned by 90, 180 and 270 degrees.
  {licence}
- **Training**: {iterations:,} outer steps, {minutes:.0f} minutes; the weights of step {best:,}
  did best on validation classes. All settings are in the file itself.
- **Tested** on {tested}, on which nothing was trained: {tasks:,} tasks,
  95% interval over tasks, {steps} inner steps, classes not turned:

| setting | support statistics, as in use | transductive, as in papers |
|---|---|---|
{rows}

{calibration}
{rejection}
- **Not for** photographs or colour, and not for decisions about people.
{more}
- **Licence**: MIT, as the package.
"""
ELSEWHERE = """\
- **Symbols from elsewhere**, 20-way (digits: 10-way), each query classified on its own, drawings
  found and centred where that helps (`prepare="auto"`), in %, beside the nearest picture by
  histograms of gradients:

<!-- table elsewhere_of_{mark}: benchmarks/results/elsewhere.json, written by tools/tables.py -->
<!-- end of table -->
"""
LAKE = """\
- **Lake's one-shot challenge**: wrong answers in %, 95% interval over runs, each query told by
  itself (`innerloop evaluate {name} --lake all_runs.zip`):

<!-- table lake_of_{mark}: benchmarks/results/lake.json, written by tools/tables.py -->
<!-- end of table -->
"""
DATA = {
    "background-conv4": (
        "Omniglot's background alphabets, split `lake2015`, and glyphs, in tasks of one alphabet\n"
        "  for the most part, drawings warped (`--augment warp`); of Omniglot"
    ),
    "omniglot-conv4": (
        "Omniglot, split `tutorial`, characters composed of Omniglot's, and glyphs, half of the\n"
        "  tasks under other conditions (`--augment conditions`); of Omniglot"
    ),
}
TESTED = {"background-conv4": "the 659 characters of Omniglot's evaluation alphabets"}
LICENCES = {
    "omniglot": "Omniglot: Lake, Salakhutdinov, Tenenbaum 2015, MIT licence.",
    "glyphs": "Glyphs are drawn by a program of this package: no real drawing was seen.",
}
CALIBRATION = """\
- **Probabilities**: expected calibration error, 5-way 1-shot, support statistics: {before:.3f} as
  trained, {after:.3f} with the temperature {temperature:.2f}, fitted on validation tasks, that is
  used."""
REJECTION = """\
- **None of these**: on {tasks} tasks, 5-way 5-shot, support statistics, with queries of five
  further classes: AUROC {auroc:.3f} ± {ci95:.3f}; `reject=0.05` refuses {classes:.1%} of the
  pictures of the classes and {others:.1%} of the others."""
SETTINGS = (("5-way 1-shot", 5, 1, 15), ("5-way 5-shot", 5, 5, 15), ("20-way 1-shot", 20, 1, 5))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(RECIPES))
    parser.add_argument("--run", type=Path, help="a finished run of the recipe")
    parser.add_argument(
        "--remeasure",
        action="store_true",
        help="measure probabilities and `reject` of the weights that there are",
    )
    options = parser.parse_args()
    if options.remeasure:
        remeasure(options.name)
        return
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or Path(folder) / "run"
        if options.run is None:
            innerloop.train(out=run, report=TerminalReport(), **RECIPES[options.name])
        publish(options.name, run)


def publish(name: str, run: Path) -> None:
    """Weights, card and figures of a finished run."""
    tensors, metadata = read_tensors(run / "model.safetensors")
    check_recipe(name, metadata["config"])
    if name in DATA:
        # Tested on Omniglot, of the part of whose characters training saw nothing.
        split = "tutorial" if name == "omniglot-conv4" else "lake2015"
        metadata["config"] |= {"data": "omniglot", "split": split, "within_group": False}
        metadata["data"] = "omniglot"
        metadata["train_classes"] = of_omniglot(metadata["train_classes"])
    results = json.loads((run / "results.json").read_text("utf-8"))
    finish(name, tensors, metadata, results, run)


def of_omniglot(classes: list[str]) -> list[str]:
    """Omniglot's names of the classes that are its characters, each once, whatever their turn."""
    known = {*innerloop.data.omniglot(progress=False).names}
    names = ["/".join(part for part in name.split("/") if "turned" not in part) for name in classes]
    endings = ["/".join(name.split("/")[-2:]) for name in names]
    return [name for name in dict.fromkeys(endings) if name in known]


def finish(
    name: str,
    tensors: dict[str, torch.Tensor],
    metadata: dict[str, Any],
    results: dict[str, Any],
    folder: Path,
) -> None:
    """Calibrate, test and write weights, card and figures.

    Args:
        name: of the weights.
        tensors, metadata: what their file has.
        results: of the run.
        folder: for a file in between.
    """
    own = metadata["config"]["data"] == "glyphs"
    # Leave out paths of the machine that made it.
    metadata["config"]["omniglot_source"] = None
    # Half of the bytes; they are read as float32 again, and tested so.
    tensors = {n: t.half() for n, t in tensors.items()}
    weights = folder / "published.safetensors"
    write_tensors(weights, tensors, metadata)
    logits, labels = outputs(weights, "val", VALIDATION)
    temperature = fit_temperature(logits, labels)
    calibration = calibrated(weights, own, temperature)
    tests = {
        setting: {
            bn: test(weights, bn, ways, shots, queries, own) for bn in ("support", "transductive")
        }
        for setting, ways, shots, queries in SETTINGS
    }
    metadata["temperature"] = temperature
    rejection = none_of_these(weights, own)
    write_tensors(PRETRAINED / f"{name}.safetensors", tensors, metadata)
    figures = {
        "command": f"python -m benchmarks.pretrained {name}",
        "machine": machine(),
        "iterations": results["iterations"],
        "seconds": results["seconds"],
        "tests": tests,
        "calibration": calibration,
        "rejection": rejection,
    }
    (PRETRAINED / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
    config = innerloop.TrainConfig.from_dict(metadata["config"])
    rows = [
        f"| {setting} | {shown(of['support'])} | {shown(of['transductive'])} |"
        for setting, of in tests.items()
    ]
    card = CARD.format(
        name=name,
        algorithm={"maml": "MAML", "protonet": "ProtoNet"}[config.algorithm],
        width=config.width,
        parameters=sum(t.numel() for t in tensors.values()),
        data=DATA.get(
            name, {"omniglot": "Omniglot, split `tutorial`", "glyphs": "glyphs"}[config.data]
        ),
        classes=len(metadata["train_classes"]),
        licence=LICENCES[config.data],
        iterations=results["iterations"],
        minutes=results["seconds"] / 60,
        best=results["best_iteration"],
        tasks=TEST,
        tested=TESTED.get(name, "the last 423 characters of Omniglot"),
        more=(LAKE if name in TESTED else ELSEWHERE).format(name=name, mark=name.replace("-", "_")),
        steps="no" if config.algorithm == "protonet" else config.eval_inner_steps,
        rows="\n".join(rows),
        calibration=told(calibration),
        rejection=REJECTION.format(**rejection),
    )
    (PRETRAINED / f"{name}.md").write_text(card, "utf-8")
    print(card)


def remeasure(name: str) -> None:
    """Probabilities and `reject` of weights that are published, into their figures and card."""
    weights, figures, card = (PRETRAINED / f"{name}.{end}" for end in ("safetensors", "json", "md"))
    metadata = read_tensors(weights)[1]
    own = metadata["config"]["data"] == "glyphs"
    found = {
        "calibration": calibrated(weights, own, metadata["temperature"]),
        "rejection": none_of_these(weights, own),
    }
    known = json.loads(figures.read_text("utf-8")) | found
    figures.write_text(json.dumps(known, indent=1) + "\n")
    text = card.read_text("utf-8")
    start, end = text.index("- **Probabilities**"), text.index("- **Not for**")
    new = told(found["calibration"]) + "\n" + REJECTION.format(**found["rejection"]) + "\n"
    card.write_text(text[:start] + new + text[end:], "utf-8")


def calibrated(weights: Path, omniglot: bool, temperature: float) -> dict[str, float]:
    """The expected calibration error on test tasks, without and with the temperature."""
    logits, labels = outputs(weights, "test", TEST, omniglot=omniglot)
    before, after = (
        expected_calibration_error((logits.double() / t).softmax(dim=1), labels)
        for t in (1.0, temperature)
    )
    return {
        "temperature": temperature,
        "error as trained": before,
        "error with temperature": after,
    }


def told(calibration: dict[str, float]) -> str:
    """What the card says of it."""
    temperature, before, after = calibration.values()
    return CALIBRATION.format(temperature=temperature, before=before, after=after)


def none_of_these(weights: Path, omniglot: bool) -> dict[str, float]:
    """How well pictures of five classes are separated from those of five others, 5-way 5-shot."""
    ways, shots = 5, 5
    changes = {"bn": "support", "n_way": 2 * ways, "k_shot": shots, "eval_k_query": 5}
    loaded, sampler = tasks_for(weights, "test", omniglot, **changes)
    learn = network_learner(loaded, str(weights), "support", None)
    areas, classes, others = [], [], []
    for i in range(VALIDATION):
        task = sampler.batch(i, 1).task(0)
        known = task.support_y < ways
        fitted = learn(task.support_x[known], task.support_y[known].numpy(), None)
        familiar, asked = fitted.familiarity(task.query_x), task.query_y.numpy() < ways
        areas.append(float(roc_auc_score(asked, familiar)))
        refused = familiar < threshold(fitted.left_out_familiarity(), 0.05).value
        classes.append(float(refused[asked].mean()))
        others.append(float(refused[~asked].mean()))
    return {
        "tasks": VALIDATION,
        "auroc": float(np.mean(areas)),
        "ci95": 1.96 * float(np.std(areas, ddof=1)) / len(areas) ** 0.5,
        "classes": float(np.mean(classes)),
        "others": float(np.mean(others)),
    }


def check_recipe(name: str, config: dict[str, Any]) -> None:
    """Refuse a run with other settings than the recipe's."""
    wrong = {k: config[k] for k, value in RECIPES[name].items() if config[k] != value}
    if wrong:
        raise SystemExit(f"this run was made with other settings than {name}: {wrong}")


def tasks_for(weights: Path, part: str, omniglot: bool, **changes: Any) -> tuple[Any, Any]:
    """The weights and their tasks; those of Omniglot for weights that were trained on glyphs."""
    changes["rotate_test"] = False
    if omniglot and part == "test":
        changes |= {"data": "omniglot", "split": "tutorial"}
    return load_for(weights, part=part, **changes)


def answers(loaded: Loaded, sampler: Any, tasks: int) -> tuple[Tensor, Tensor, float]:
    """What `FewShotClassifier` answers: logits and labels of all queries, and its temperature."""
    learn = network_learner(loaded, loaded.data_name, "support", None)
    logits, labels, temperature = [], [], 1.0
    for number in range(tasks):
        task = sampler.batch(number, 1).task(0)
        fitted = learn(task.support_x, task.support_y.numpy(), None)
        logits.append(torch.from_numpy(fitted.stages(task.query_x)[-1]))
        labels.append(task.query_y)
        temperature = fitted.temperature
    return torch.cat(logits), torch.cat(labels), temperature


def outputs(weights: Path, part: str, tasks: int, omniglot: bool = False) -> tuple[Any, Any]:
    """Logits and labels of all queries, 5-way 1-shot with support statistics."""
    _, ways, shots, queries = SETTINGS[0]
    changes = {"bn": "support", "n_way": ways, "k_shot": shots, "eval_k_query": queries}
    loaded, sampler = tasks_for(weights, part, omniglot, **changes)
    logits, labels, _ = answers(loaded, sampler, tasks)
    return logits, labels


def test(weights: Path, bn: str, ways: int, shots: int, queries: int, own: bool) -> dict[str, Any]:
    """Accuracy in one setting."""
    changes = {"bn": bn, "n_way": ways, "k_shot": shots, "eval_k_query": queries}
    loaded, sampler = tasks_for(weights, "test", own, **changes)
    steps = loaded.config.eval_inner_steps
    found = innerloop.evaluate(
        loaded.algorithm, loaded.params, sampler, tasks=TEST, inner_steps=steps, every_step=False
    )
    return {key: found[key] for key in ("accuracy", "ci95", "bn", "protocol")}


def shown(result: dict[str, Any]) -> str:
    """Accuracy in percent with its interval."""
    return f"{100 * result['accuracy']:.2f} ± {100 * result['ci95']:.2f}"


if __name__ == "__main__":
    main()
