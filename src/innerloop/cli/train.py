"""`innerloop train`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Annotated

import tyro

from innerloop.config import TrainConfig, preset_names
from innerloop.errors import UserError
from innerloop.references import check_trust, is_reference
from innerloop.registry import ALGORITHMS, MODELS
from innerloop.training.distributed import is_main, main_speaks, only_main_prints

DESCRIPTION = f"""Meta-train a network, choose the best weights on validation tasks, test them.

Settings come from the recipe of the algorithm, or from --preset or --config; then single options.

presets: {", ".join(preset_names())}

examples:
  innerloop train
  innerloop train --data omniglot --omniglot-source DOWNLOADS
  innerloop train --data my-photos/ --k-shot 5 --iterations 500
  innerloop train --algorithm protonet --data omniglot
  innerloop train --data sinusoid --k-shot 5
  innerloop train --preset tutorial --iterations 100 --out runs/first
  innerloop train --model my_nets.py:make --data my_data.py:load --loss my_losses:focal
  innerloop train --resume runs/first"""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Where settings come from and where results go; the rest is `TrainConfig`."""

    settings: tyro.conf.OmitArgPrefixes[TrainConfig]
    preset: str | None = None
    """Start from a recipe that comes with the package."""
    config: Path | None = None
    """Start from a YAML file, such as the config.yaml of a run."""
    out: Path | None = None
    """A new folder for the run; by default the next free one below runs/."""
    resume: Path | None = None
    """Go on with the interrupted run in this folder; takes no other settings."""
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """With --resume and --config: run the code that is named there, although you never used it."""
    tensorboard: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also write numbers for TensorBoard into the run folder."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the results as JSON on standard output."""


def main(argv: list[str]) -> int:
    """Parse `argv`, train, report; returns the exit status."""
    with main_speaks():
        return _main(argv)


def _main(argv: list[str]) -> int:
    base = _base(argv)
    with only_main_prints():
        arguments = tyro.cli(
            Arguments,
            args=argv,
            default=Arguments(settings=base),
            prog="innerloop train",
            description=DESCRIPTION,
        )
    given = (arguments.out, arguments.preset, arguments.config)
    others = arguments.settings != TrainConfig() or any(value is not None for value in given)
    if arguments.resume is not None and others:
        raise UserError("--resume takes everything from the run folder: leave out other settings")

    if arguments.config is not None:
        # What was typed is the user's; what stands in the file may be another's.
        named = set(base.absolute().references) & set(arguments.settings.absolute().references)
        check_trust(sorted(named), arguments.config, arguments.trust)

    # PyTorch takes seconds to import, which --help should not wait for.
    from innerloop.ops.allocator import keep_memory
    from innerloop.sizes import SIZES
    from innerloop.training.fit import resume
    from innerloop.training.report import Report, TerminalReport
    from innerloop.training.run import train
    from innerloop.training.tensorboard import TensorBoardReport

    keep_memory()
    report: Report = TerminalReport()
    if arguments.tensorboard and is_main():
        report = TensorBoardReport(report)
    if arguments.resume is not None:
        run = resume(arguments.resume, trust=arguments.trust, report=report)
    else:
        typed = {word.partition("=")[0].lstrip("-").replace("-", "_") for word in argv}
        # What was typed is given, also where it is what the recipe says.
        sizes = {n: getattr(arguments.settings, n) for n in SIZES if n in typed}
        run = train(arguments.settings, out=arguments.out, report=report, **sizes)
    if run.interrupted:
        return 130
    if arguments.json and is_main():
        print(json.dumps({"run": str(run.folder), **run.results}))
    return 0


def _base(argv: list[str]) -> TrainConfig:
    """The settings that --preset or --config name."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", nargs="?")
    parser.add_argument("--config", nargs="?")
    parser.add_argument("--algorithm", nargs="?")
    parser.add_argument("--data", nargs="?")
    parser.add_argument("--model", nargs="?")
    known, _ = parser.parse_known_args(argv)
    if known.preset is not None and known.config is not None:
        raise UserError("give --preset or --config, not both")
    if known.preset is not None:
        return TrainConfig.preset(known.preset)
    if known.config is not None:
        return TrainConfig.from_file(known.config)
    # A recipe goes with the algorithm, the data and the network; a wrong name is refused later.
    algorithm, model = known.algorithm or "maml", known.model
    if not is_reference(algorithm) and algorithm not in ALGORITHMS:
        algorithm = "maml"
    if model is not None and not is_reference(model) and model not in MODELS:
        model = None
    return TrainConfig.recipe(algorithm, known.data or "glyphs", model)
