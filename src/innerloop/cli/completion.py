"""`innerloop completion`."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import tyro

from innerloop.cli import train
from innerloop.cli.output import result_stream
from innerloop.config import PARTS
from innerloop.errors import UserError
from innerloop.registry import ALGORITHMS, MODELS

DESCRIPTION = """Print what makes a shell complete innerloop's commands and options.

examples:
  innerloop completion bash >> ~/.bash_completion
  innerloop completion zsh > ~/.zfunc/_innerloop        (with fpath+=~/.zfunc before compinit)"""


@dataclass(frozen=True)
class Arguments:
    """For which shell."""

    shell: tyro.conf.Positional[Literal["bash", "zsh"]]
    """bash or zsh."""


def main(argv: list[str]) -> int:
    """Parse `argv`, print the shell's program; returns the exit status."""
    arguments = tyro.cli(Arguments, args=argv, prog="innerloop completion", description=DESCRIPTION)
    print(completion(arguments.shell), file=result_stream())
    return 0


def _with_names() -> Any:
    """The options of `train` with names alone for what can be a reference too: those complete."""
    choices = {"algorithm": ALGORITHMS, "model": MODELS}
    parts: dict[str, Any] = {}
    for part, kind in PARTS.items():
        fields = [
            (name, Literal[tuple(registry.names())], getattr(kind, name))
            for name, registry in choices.items()
            if hasattr(kind, name)
        ]
        parts[part] = dataclasses.make_dataclass("Named", fields, bases=(kind,), frozen=True)
    return train.arguments_with(parts)


def completion(shell: str) -> str:
    """The program that completes for `shell`, as tyro writes it for all commands together."""
    from innerloop.cli import COMMANDS

    # The commands are parsed apart, to start fast; only here they stand in one parser.
    parts: list[Any] = []
    for name in COMMANDS:
        module = importlib.import_module(f"innerloop.cli.{name}")
        arguments = getattr(module, "Arguments", None) or module.Command
        if name == "train":
            arguments = _with_names()
        parts.append(Annotated[arguments, tyro.conf.subcommand(name)])
    commands: Any = Union[tuple(parts)]  # noqa: UP007
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "completion"
        with contextlib.suppress(SystemExit):
            tyro.cli(
                commands,
                prog="innerloop",
                args=["--tyro-write-completion", shell, str(file)],
            )
        if not file.exists():
            raise UserError(f"the installed tyro cannot complete for {shell}: update it")
        lines = file.read_text("utf-8").splitlines()
    # tyro 1.0 takes the second line of an option's help for a further option.
    return "\n".join(
        line.replace(r"\n", " ") if line.startswith("COMPLETION_SPEC") else line for line in lines
    )
