"""innerloop: few-shot meta-learning in PyTorch.

The names below are loaded when they are first used, so that `import innerloop`
and the command line's `--help` do not wait for PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from innerloop import renamed

__version__ = "0.1.0"

if TYPE_CHECKING:
    from innerloop import (
        algorithms,
        backbones,
        calibration,
        data,
        functional,
        heads,
        inner,
        models,
        rejection,
        testing,
    )
    from innerloop.algorithms import (
        ANIL,
        BOIL,
        IMAML,
        MAML,
        Algorithm,
        FineTune,
        MAMLPlusPlus,
        MetaSGD,
        ProtoNet,
        Reptile,
    )
    from innerloop.challenge import lake_challenge
    from innerloop.classifier import FewShotClassifier
    from innerloop.config import TrainConfig
    from innerloop.errors import UserError
    from innerloop.evaluation import evaluate
    from innerloop.evaluation_in_use import evaluate_in_use
    from innerloop.exporting.write import export
    from innerloop.functional import adapt_steps
    from innerloop.outer_loop import OuterLoop
    from innerloop.registry import register_algorithm, register_data, register_model
    from innerloop.runs.fit_config import FitConfig
    from innerloop.runs.loading import Loaded, load, pretrained_names
    from innerloop.settings import ClassifierSettings, TrainSettings
    from innerloop.tasks.episodes import Episodes
    from innerloop.tasks.normalization import Normalization
    from innerloop.tasks.parts import TaskParts, split_tasks
    from innerloop.tasks.protocol import Tasks
    from innerloop.tasks.sampler import EpisodeSampler
    from innerloop.tasks.sinusoid import SinusoidSampler
    from innerloop.training.fit import AlgorithmSource, TasksSource, fit, resume
    from innerloop.training.report import Report, TerminalReport
    from innerloop.training.run import Run, train

_MODULES = (
    "algorithms",
    "backbones",
    "calibration",
    "data",
    "functional",
    "heads",
    "inner",
    "models",
    "rejection",
    "testing",
)
_HOME = {
    "ANIL": "algorithms",
    "BOIL": "algorithms",
    "IMAML": "algorithms",
    "MAML": "algorithms",
    "Algorithm": "algorithms",
    "AlgorithmSource": "training.fit",
    "ClassifierSettings": "settings",
    "EpisodeSampler": "tasks.sampler",
    "Episodes": "tasks.episodes",
    "FewShotClassifier": "classifier",
    "FineTune": "algorithms",
    "FitConfig": "runs.fit_config",
    "Loaded": "runs.loading",
    "MAMLPlusPlus": "algorithms",
    "MetaSGD": "algorithms",
    "Normalization": "tasks.normalization",
    "OuterLoop": "outer_loop",
    "ProtoNet": "algorithms",
    "Report": "training.report",
    "Reptile": "algorithms",
    "Run": "training.run",
    "SinusoidSampler": "tasks.sinusoid",
    "TaskParts": "tasks.parts",
    "Tasks": "tasks.protocol",
    "TasksSource": "training.fit",
    "TerminalReport": "training.report",
    "TrainConfig": "config",
    "TrainSettings": "settings",
    "UserError": "errors",
    "adapt_steps": "functional",
    "evaluate": "evaluation",
    "evaluate_in_use": "evaluation_in_use",
    "export": "exporting.write",
    "fit": "training.fit",
    "lake_challenge": "challenge",
    "load": "runs.loading",
    "pretrained_names": "runs.loading",
    "register_algorithm": "registry",
    "register_data": "registry",
    "register_model": "registry",
    "resume": "training.fit",
    "split_tasks": "tasks.parts",
    "train": "training.run",
}

__all__ = [
    "ANIL",
    "BOIL",
    "IMAML",
    "MAML",
    "Algorithm",
    "AlgorithmSource",
    "ClassifierSettings",
    "EpisodeSampler",
    "Episodes",
    "FewShotClassifier",
    "FineTune",
    "FitConfig",
    "Loaded",
    "MAMLPlusPlus",
    "MetaSGD",
    "Normalization",
    "OuterLoop",
    "ProtoNet",
    "Report",
    "Reptile",
    "Run",
    "SinusoidSampler",
    "TaskParts",
    "Tasks",
    "TasksSource",
    "TerminalReport",
    "TrainConfig",
    "TrainSettings",
    "UserError",
    "__version__",
    "adapt_steps",
    "algorithms",
    "backbones",
    "calibration",
    "data",
    "evaluate",
    "evaluate_in_use",
    "export",
    "fit",
    "functional",
    "heads",
    "inner",
    "lake_challenge",
    "load",
    "models",
    "pretrained_names",
    "register_algorithm",
    "register_data",
    "register_model",
    "rejection",
    "resume",
    "split_tasks",
    "testing",
    "train",
]

renamed.install()
_old_name = renamed.forward(__name__)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"innerloop.{name}")
    if name in _HOME:
        value = getattr(importlib.import_module(f"innerloop.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    return _old_name(name)


def __dir__() -> list[str]:
    return __all__
