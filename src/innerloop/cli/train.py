"""`innerloop train`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro

from innerloop.cli.output import show_lines
from innerloop.config import PARTS, TrainConfig, preset_names
from innerloop.errors import UserError
from innerloop.outer_loop import Part
from innerloop.ranges import range_from, range_text
from innerloop.rates import as_text, rates_from
from innerloop.references import check_trust, is_of_library, is_reference
from innerloop.registry import ALGORITHMS, DATA, MODELS, OF_ALGORITHMS, not_of, taken_by_own
from innerloop.training.distributed import main_speaks, only_main_prints

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
  innerloop train --model timm:resnet50.a1_in1k --algorithm protonet --data my-photos/
  innerloop train --model my_nets.py:make --data my_data.py:load --loss my_losses:focal
  innerloop train --resume runs/first"""


def _settings_of(kind: type[Part], hidden: Collection[str] = ()) -> Any:
    """A part of the settings as options, without those that are not to be shown.

    Its class is made here, which no type checker can follow.
    """
    types, own = get_type_hints(kind), {field.name for field in dataclasses.fields(kind)}
    fields: list[tuple[str, Any, Any]] = []
    suppress: Any = tyro.conf.Suppress
    for name in sorted(own & {*_WORDS, *hidden}):
        wanted = types[name]
        shown = suppress[wanted] if name in hidden else Annotated[wanted, _WORDS[name]]
        fields.append((name, shown, getattr(kind, name)))
    made: Any = dataclasses.make_dataclass(kind.__name__, fields, bases=(kind,), frozen=True)
    return made


# Rates are one word, a number or `head.*=0.4,*=0.01`.
_RATES = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="RATE|PATTERN=RATE,...",
    instance_from_str=lambda words: rates_from(words[0]),
    is_instance=lambda value: isinstance(value, float | Mapping),
    str_from_instance=lambda value: [as_text(value)],
)


def _sizes(name: str) -> Any:
    """One word, a number or `3-10`."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="N|LEAST-GREATEST",
        instance_from_str=lambda words: None if words[0] == "None" else range_from(name, words[0]),
        is_instance=lambda value: isinstance(value, int | tuple | None),
        str_from_instance=lambda value: [range_text(value)],
    )


# Settings that are one word in a form of their own.
_WORDS = {"inner_lr": _RATES, **{name: _sizes(name) for name in ("train_n_way", "train_k_shot")}}


@dataclasses.dataclass(frozen=True)
class Places:
    """Where settings come from and where results go; the rest is `TrainConfig`."""

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
    print_config: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print all settings as a config file, and train nothing."""


def arguments_with(parts: Mapping[str, Any]) -> Any:
    """The options of `innerloop train`: those of `Places`, and of every part of the settings."""
    omit: Any = tyro.conf.OmitArgPrefixes
    fields = [(part, omit[kind], kind()) for part, kind in parts.items()]
    made = dataclasses.make_dataclass("Arguments", fields, bases=(Places,), frozen=True)
    made.__doc__ = Places.__doc__
    return made


Arguments = arguments_with({part: _settings_of(kind) for part, kind in PARTS.items()})


def main(argv: list[str]) -> int:
    """Parse `argv`, train, report; returns the exit status."""
    with main_speaks():
        return _main(argv)


def _main(argv: list[str]) -> int:
    base = _base(argv)
    kind = Arguments
    if "--help" in argv or "-h" in argv:
        kind = _for_help(_typed(argv).algorithm)
    with only_main_prints():
        arguments = tyro.cli(
            kind,
            args=argv,
            default=_filled(kind, base),
            prog="innerloop train",
            description=DESCRIPTION,
        )
    settings = _settings(arguments)
    sources = (arguments.out, arguments.preset, arguments.config)
    others = settings != TrainConfig() or any(value is not None for value in sources)
    others = others or arguments.print_config
    if arguments.resume is not None and others:
        raise UserError(
            "--resume takes everything from the run folder: leave out other settings. To train "
            f"longer: innerloop resume {arguments.resume} --iterations N"
        )
    if arguments.config is not None:
        # What was typed is the user's; what stands in the file may be another's.
        named = set(base.absolute().references) & set(settings.absolute().references)
        check_trust(sorted(named), arguments.config, arguments.trust)
    given = _given(argv)
    if arguments.resume is None:
        _refuse_unused(given, settings)
    if arguments.print_config:
        show_lines(settings.to_yaml())
        return 0

    # PyTorch takes seconds to import, which --help should not wait for.
    from innerloop.cli.reporting import report_for, said
    from innerloop.ops.allocator import keep_memory
    from innerloop.sizes import SIZES
    from innerloop.training.fit import resume
    from innerloop.training.run import train

    keep_memory()
    report = report_for(arguments.tensorboard)
    if arguments.resume is not None:
        run = resume(arguments.resume, trust=arguments.trust, report=report)
    else:
        # What was typed is given, also where it is what the recipe says.
        sizes: Any = {n: getattr(settings, n) for n in SIZES if n in given}
        run = train(settings, out=arguments.out, report=report, **sizes)
    return said(run, arguments.json)


def _filled(kind: Any, config: TrainConfig) -> Any:
    """The options with the settings of `config`."""
    empty, filled = kind(), dict[str, Any]()
    for part in PARTS:
        of_part = getattr(empty, part)
        names = [field.name for field in dataclasses.fields(of_part)]
        filled[part] = type(of_part)(**{name: getattr(config, name) for name in names})
    return kind(**filled)


def _settings(arguments: Any) -> TrainConfig:
    """The settings among the options."""
    found: dict[str, Any] = {}
    for part in PARTS:
        found |= vars(getattr(arguments, part))
    return TrainConfig(**found)


def _typed(argv: list[str]) -> argparse.Namespace:
    """What the recipe depends on, as typed; None for the rest."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("preset", "config", "algorithm", "data", "model", "body"):
        parser.add_argument(f"--{name}", nargs="?")
    return parser.parse_known_args(argv)[0]


def _for_help(algorithm: str | None) -> Any:
    """The options without the settings that `algorithm` does not have."""
    if algorithm is None:
        return Arguments
    TrainConfig(algorithm=algorithm)  # raises for an unknown name
    hidden = not_of(algorithm)
    return arguments_with({part: _settings_of(kind, hidden) for part, kind in PARTS.items()})


def _given(argv: list[str]) -> set[str]:
    """The names of the settings that were typed."""
    words = {w.partition("=")[0][2:].replace("-", "_") for w in argv if w.startswith("--")}
    words |= {word.removeprefix("no_") for word in words}
    return words & {field.name for field in dataclasses.fields(TrainConfig)}


def _refuse_unused(given: set[str], settings: TrainConfig) -> None:
    """Raise a `UserError` for an option that nothing in the run uses."""
    if not given & OF_ALGORITHMS:
        return
    unused = given & not_of(settings.algorithm)
    if unused:
        unused -= taken_by_own((MODELS, settings.model), (DATA, settings.data))
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
    known_model = model is None or is_of_library(model) or is_reference(model) or model in MODELS
    return TrainConfig.recipe(
        algorithm, known.data or "glyphs", model if known_model else None, known.body
    )
