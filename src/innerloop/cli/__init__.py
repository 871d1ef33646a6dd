"""The command line: `innerloop COMMAND ...`, one module a command."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from innerloop.errors import UserError
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    0: done. 2: a mistake that the message explains. 130: interrupted by the user.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal's encoding lacks, in a path or a table, ends no command.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = _show
        return _main(arguments)


def _show(message: Warning | str, *where: Any, **more: Any) -> None:
    """A warning in one line, without the line of code that a caller from Python would look for."""
    if is_main():
        print(f"warning: {message}", file=sys.stderr)


def _main(arguments: list[str]) -> int:
    try:
        status = _dispatch(arguments)
        # Where the rest of the output cannot be written, this is the time to say so.
        sys.stdout.flush()
        return status
    except UserError as error:
        # Under torchrun all processes make the same mistake, which is said once.
        if is_main() or isinstance(error, LostProcess):
            print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output, such as `head`, has gone away; so may the rest of it.
        _drop_output()
        return 1
    except OSError as error:
        # A full disk or a missing permission where no more can be said about it.
        print(f"error: {error}", file=sys.stderr)
        _drop_output()
        return 2
    except Exception as error:
        # PyTorch has no exception of its own for the CPU's memory.
        memory = isinstance(error, MemoryError | RuntimeError) and "memory" in str(error)
        if not memory and is_of_user(error):
            print(f"error: {at_line(error)}", file=sys.stderr)
            return 2
        if not memory:
            raise
        print(
            "error: out of memory. Lower --chunk-size (tasks computed at a time), "
            "--meta-batch-size or --width",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _drop_output() -> None:
    """Forget what standard output could not take, which the end of the process would try again."""
    with contextlib.suppress(OSError, ValueError):  # a test's output has no number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(arguments: list[str]) -> int:
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
    return importlib.import_module(f"innerloop.cli.{command}").main(rest) or 0
