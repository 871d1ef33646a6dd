"""The command line: `innerloop COMMAND ...`, one module a command."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from innerloop.cli.options import as_options
from innerloop.cli.output import results_alone, say
from innerloop.errors import UserError, first_line
from innerloop.references import at_line, is_of_user
from innerloop.training.distributed import LostProcess, is_main

COMMANDS = {
    "train": "meta-train a network and test it",
    "resume": "go on with a run, or give it more iterations",
    "evaluate": "test a trained network",
    "adapt": "teach a trained network new classes from a few pictures, and classify others",
    "export": "write what was learnt for runtimes without PyTorch",
    "demo": "a page to draw symbols on, and to watch a network learn them",
    "plot": "compare runs in a picture",
    "runs": "list runs with their protocol and result",
    "data": "prepare data sets, look at them",
    "completion": "let the shell complete commands and options",
}

# How variables of the environment begin that libraries read while they are imported.
OF_LIBRARIES = ("PYTHON_TYRO_", "MPL", "TORCH", "PYTORCH_")

HELP = """\
usage: innerloop COMMAND ...

Few-shot meta-learning in PyTorch: MAML and its relatives.

commands:
{commands}

examples:
  innerloop train                              MAML on glyphs, about two minutes, no download
  innerloop train --data omniglot              the same on Omniglot (downloads 14 MB once)
  innerloop train --algorithm protonet         or anil, reptile, maml++ and others of the family
  innerloop train --data sinusoid              regression: sine waves from ten points
  innerloop train --preset finn2017-5way-1shot --max-seconds 600
  innerloop resume runs/glyphs-maml-5way1shot-001
  innerloop evaluate runs/glyphs-maml-5way1shot-001 --tasks 1000
  innerloop adapt omniglot-conv4 --support symbols/ --query unknown.png
  innerloop export omniglot-conv4 --support symbols/ --out classifier.onnx
  innerloop demo                               draw symbols, and watch a network learn them
  innerloop runs                               what there is below runs/
  innerloop plot runs/first runs/second        both in one picture
  innerloop data sheet glyphs --out glyphs.png

`innerloop COMMAND --help` says more of each."""


def main(argv: Sequence[str] | None = None, interrupted: Callable[[], bool] = lambda: False) -> int:
    """Run one command; returns the exit status.

    0: done. 2: a mistake that the message explains. 130: interrupted by the user.

    Args:
        argv: the words after `innerloop`; None for those of the program.
        interrupted: whether the user has pressed Ctrl-C: what fails then, fails for that.
    """
    words = sys.argv[1:] if argv is None else argv
    # Shells do so only for a word that begins with it, unquoted.
    arguments = [re.sub(r"^(--[\w-]+=)?~(?=/|$)", _with_home, word) for word in words]
    _open_streams()
    if os.environ.get("NO_COLOR"):
        # Tyro, which reads options and prints help, has a variable of its own.
        os.environ.setdefault("PYTHON_TYRO_ANSI_CODES", "False")
    with warnings.catch_warnings():
        warnings.showwarning = functools.partial(_show, command="".join(arguments[:1]))
        return _main(arguments, interrupted)


def _show(message: Warning | str, *where: Any, command: str, **more: Any) -> None:
    """A warning in one line, without the source line that only a Python caller needs."""
    if is_main():
        say(f"warning: {as_options(str(message), command)}")


def _with_home(match: re.Match[str]) -> str:
    return (match[1] or "") + os.path.expanduser("~")


def _open_streams() -> None:
    """Make standard streams accept any text; closed ones discard it."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        stream: Any = getattr(sys, name)
        if stream is None:
            # Else the next file to be opened would get this number, and output with it.
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            stream = open(number, mode, encoding="utf-8")  # noqa: SIM115 (open to the end)
            setattr(sys, name, stream)
        # A file's name may hold bytes that are not text, and the stream may be ASCII.
        if isinstance(stream, io.TextIOWrapper) and mode == "w" and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _main(arguments: list[str], interrupted: Callable[[], bool]) -> int:
    try:
        try:
            status = _dispatch(arguments)
        except SystemExit:  # after help, or of the parser of options
            sys.stdout.flush()
            raise
        except Exception:
            # What is broken off in the middle of an import may be taken for a missing package.
            if interrupted():
                raise KeyboardInterrupt from None
            raise
        # Report here if the rest of the output cannot be written.
        sys.stdout.flush()
        return status
    except UserError as error:
        # Under torchrun all processes meet the same error, which is reported once.
        if is_main() or isinstance(error, LostProcess):
            say(f"error: {as_options(str(error), ''.join(arguments[:1]))}")
        return 2
    except BrokenPipeError:
        # The reader of our output, such as `head`, has gone away; so may the rest of it.
        _drop_output()
        return 1
    except OSError as error:
        # A full disk or a missing permission, without further detail.
        say(f"error: {error}")
        _drop_output()
        return 2
    except Exception as error:
        # PyTorch has no exception of its own for the CPU's memory.
        memory = isinstance(error, MemoryError | RuntimeError) and "memory" in str(error)
        if not memory and is_of_user(error):
            say(f"error: {at_line(error)}")
            return 2
        if not memory:
            if not (found := _of_environment(error)):
                raise
            say(f"error: {found}")
            return 2
        say(
            "error: out of memory. Lower --chunk-size (tasks computed at a time), "
            "--meta-batch-size or --width"
        )
        return 2
    except KeyboardInterrupt:
        say("interrupted")
        return 130


def _of_environment(error: Exception) -> str:
    """What to say of an error that a library raises for a variable of its own; "" for others."""
    said = str(error)
    for name, value in os.environ.items():
        if name.startswith(OF_LIBRARIES) and (name in said or (value and repr(value) in said)):
            return (
                f"{name} is {value!r} in the environment, which a library does not take "
                f"({first_line(error)}): correct or unset it"
            )
    return ""


def _drop_output() -> None:
    """Drop output that could not be written, so that exit does not try again."""
    with contextlib.suppress(OSError, ValueError):  # a test's output has no number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["help"] and len(arguments) > 1:
        arguments = [*arguments[1:], "--help"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        lines = (f"  {name:<12}{text}" for name, text in COMMANDS.items())
        print(HELP.format(commands="\n".join(lines)), flush=True)
        return 0
    if arguments[0] == "--version":
        from innerloop import __version__

        print(f"innerloop {__version__}")
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        raise UserError(f"there is no command {command!r}: choose from {', '.join(COMMANDS)}")
    try:
        os.getcwd()
    except OSError as error:
        # Relative paths lead nowhere there, and PyTorch's libraries end the process.
        raise UserError("the working directory is gone: change to one that is there") from error
    with results_alone(rest):
        return importlib.import_module(f"innerloop.cli.{command}").main(rest) or 0
