"""`innerloop train`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro

from innerloop.config import TrainConfig, preset_names
from innerloop.errors import UserError
from innerloop.references import check_trust, find, is_reference
from innerloop.registry import ALGORITHMS, DATA, MODELS, OF_ALGORITHMS, arguments_of, not_of
from innerloop.training.distributed import is_main, main_speaks, only_main_prints

DESCRIPTION = f"""Meta-train a network, choose the best weights on validation tasks, test them.

Settings come from the recipe of the algorithm, or from --preset or --config; then single options.

presets: {", ".join(preset_names())}

`--algorithm NAME --help` shows only the settings that the algorithm has.

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
    kind, default = Arguments, Arguments(settings=base)
    if "--help" in argv or "-h" in argv:
        kind, default = _for_help(base, _typed(argv).algorithm)
    with only_main_prints():
        arguments = tyro.cli(
            kind,
            args=argv,
            default=default,
            prog="innerloop train",
            description=DESCRIPTION,
        )
    sources = (arguments.out, arguments.preset, arguments.config)
    others = arguments.settings != TrainConfig() or any(value is not None for value in sources)
    if arguments.resume is not None and others:
        raise UserError("--resume takes everything from the run folder: leave out other settings")

    if arguments.config is not None:
        # What was typed is the user's; what stands in the file may be another's.
        named = set(base.absolute().references) & set(arguments.settings.absolute().references)
        check_trust(sorted(named), arguments.config, arguments.trust)
    given = _given(argv)
    if arguments.resume is None:
        _refuse_unused(given, arguments.settings)

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
        # What was typed is given, also where it is what the recipe says.
        sizes = {n: getattr(arguments.settings, n) for n in SIZES if n in given}
        run = train(arguments.settings, out=arguments.out, report=report, **sizes)
    if run.interrupted:
        return 130
    if arguments.json and is_main():
        print(json.dumps({"run": str(run.folder), **run.results}))
    return 0


def _typed(argv: list[str]) -> argparse.Namespace:
    """What the recipe depends on, as typed; None for the rest."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("preset", "config", "algorithm", "data", "model"):
        parser.add_argument(f"--{name}", nargs="?")
    return parser.parse_known_args(argv)[0]


def _for_help(base: TrainConfig, algorithm: str | None) -> tuple[Any, Arguments]:
    """The arguments without the settings that `algorithm` has not; a wrong name hides none."""
    if algorithm is None or not (is_reference(algorithm) or algorithm in ALGORITHMS):
        return Arguments, Arguments(settings=base)
    types = get_type_hints(TrainConfig)
    # A type that is made here, which no type checker can follow.
    suppress: Any = tyro.conf.Suppress
    hidden = [
        (name, suppress[types[name]], getattr(TrainConfig, name))
        for name in sorted(not_of(algorithm))
    ]
    shown = dataclasses.make_dataclass("Settings", hidden, bases=(TrainConfig,), frozen=True)
    settings: Any = tyro.conf.OmitArgPrefixes
    kind: Any = dataclasses.make_dataclass(
        "Arguments", [("settings", settings[shown])], bases=(Arguments,), frozen=True
    )
    kind.__doc__ = Arguments.__doc__
    return kind, kind(settings=shown(**vars(base)))


def _given(argv: list[str]) -> set[str]:
    """The names of the settings that were typed."""
    words = {w.partition("=")[0][2:].replace("-", "_") for w in argv if w.startswith("--")}
    words |= {word.removeprefix("no_") for word in words}
    return words & {field.name for field in dataclasses.fields(TrainConfig)}


def _refuse_unused(given: set[str], settings: TrainConfig) -> None:
    """Raise a `UserError` for an option that nothing in the run makes use of."""
    if not given & OF_ALGORITHMS:
        return
    unused = given & not_of(settings.algorithm)
    for name, registry in ((settings.model, MODELS), (settings.data, DATA)):
        # A function of the user's own takes what settings it likes.
        if unused and is_reference(name):
            unused -= arguments_of(find(name))
        elif unused and name in registry and not registry.is_ours(name):
            unused -= arguments_of(registry.get(name))
    if unused:
        names = sorted(unused)
        options = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        raise UserError(
            f"algorithm {settings.algorithm} has no {', '.join(names)}: leave out {options}; "
            f"`innerloop train --algorithm {settings.algorithm} --help` lists what it has"
        )


def _base(argv: list[str]) -> TrainConfig:
    """The settings that --preset or --config name."""
    known = _typed(argv)
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
