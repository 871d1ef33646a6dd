"""A sweep over settings with Optuna, which stops what learns worse and goes on where it was.

    pip install "innerloop[sweep]"
    python examples/sweep.py FOLDER [--trials 20] [--config settings.yaml]

Every trial is an ordinary run in `FOLDER/trial-N`, scored on validation tasks alone.  The same
command after Ctrl-C, or after a machine was lost, takes up the trial that was at work and makes
the ones that are missing; several processes may share a folder's study one after the other.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import optuna

import innerloop


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """What is swept: edit this.  The names are those of `innerloop.TrainConfig`."""
    return {
        "inner_lr": trial.suggest_float("inner_lr", 0.02, 1.0, log=True),
        "meta_lr": trial.suggest_float("meta_lr", 1e-4, 1e-2, log=True),
        "inner_steps": trial.suggest_int("inner_steps", 1, 5),
    }


class Pruning(innerloop.Report):
    """Tells the trial of every validation, and stops a run that Optuna gives up."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial

    def validated(self, line: dict[str, Any]) -> None:
        """Raise `optuna.TrialPruned` where other trials were better by now."""
        self.trial.report(line["val_accuracy"], line["iteration"])
        if self.trial.should_prune():
            raise optuna.TrialPruned


def best_validation(folder: Path) -> float:
    """The best validation accuracy of a run, 0 to 1: the test is for the winner alone."""
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    return max(json.loads(line)["val_accuracy"] for line in lines)


def run_trial(trial: optuna.Trial, folder: Path, config: innerloop.TrainConfig) -> float:
    """Train with the trial's settings, or go on with its run.

    Raises:
        KeyboardInterrupt: the run was stopped; the next call goes on with it.
        optuna.TrialPruned: it was given up.
    """
    settings, report = suggest(trial), Pruning(trial)
    if (folder / "config.yaml").exists():
        run = innerloop.resume(folder, report=report)
    else:
        run = innerloop.train(config, out=folder, report=report, **settings)
    if run.interrupted:
        raise KeyboardInterrupt
    return best_validation(folder)


def sweep(folder: Path, config: innerloop.TrainConfig, trials: int) -> optuna.Study:
    """A study of so many trials, also of those that an earlier call made."""
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="innerloop",
        storage=f"sqlite:///{folder.resolve().as_posix()}/study.db",
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=config.val_every),
        load_if_exists=True,
    )
    state = optuna.trial.TrialState
    while True:
        # A trial at work when the last call ended is finished first.
        if left := study.get_trials(deepcopy=False, states=[state.RUNNING]):
            trial = optuna.Trial(study, left[0]._trial_id)
        elif len(study.get_trials(deepcopy=False)) < trials:
            # A seed for each trial, so that an interrupted sweep suggests what a whole one does.
            number = len(study.get_trials(deepcopy=False))
            study.sampler = optuna.samplers.TPESampler(seed=number)
            trial = study.ask()
        else:
            return study
        try:
            value = run_trial(trial, folder / f"trial-{trial.number}", config)
        except optuna.TrialPruned:
            study.tell(trial, state=state.PRUNED)
        except innerloop.UserError as error:  # such as a loss that diverged
            print(f"trial {trial.number}: {error}")
            study.tell(trial, state=state.FAIL)
        else:
            study.tell(trial, value)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--config", type=Path, help="settings that all trials share")
    options = parser.parse_args()
    shared = innerloop.TrainConfig.from_file(options.config) if options.config else None
    study = sweep(options.folder, shared or innerloop.TrainConfig(), options.trials)
    best = study.best_trial
    print(f"best validation {best.value:.3f}: trial {best.number}, {best.params}")
    print(f"tested: {options.folder / f'trial-{best.number}' / 'results.json'}")


if __name__ == "__main__":
    main()
