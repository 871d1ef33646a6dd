"""Installs built files as a user would: `python -m tools.try_install FILES [--python PYTHON ...]`.

For each Python an empty environment, in which pip installs each file, and a run is trained and
tested from another folder.  A wheel for a system has to bring its kernels, the others must do
without: there is no compiler for the source distribution.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# Prints whether kernels are loaded, and fails where a file of the package is missing.
LOOK = """
from importlib.resources import files
from innerloop.ops.cpu import library
assert (files("innerloop") / "demo/static/index.html").is_file()
print(library.load() is not None)
"""
TRAIN = "--iterations 20 --val-every 10 --test-tasks 20 --glyph-classes 300".split()


def try_files(python: str, files: list[Path], constraints: Path | None) -> None:
    """Install files one after the other for one Python, and use each.

    Raises:
        CalledProcessError: a step failed.
        SystemExit: a file has kernels where it must not, or none where it must.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([python, "-m", "venv", folder / "venv"], check=True)
        scripts = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
        environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "INNERLOOP_HOME": str(folder / "home"),
            "CC": "false",
        }

        def run(*command: str | Path) -> str:
            done = subprocess.run(
                [scripts / command[0], *command[1:]],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            if done.returncode:
                print(done.stdout, file=sys.stderr)
                done.check_returncode()
            return done.stdout

        for number, file in enumerate(files):
            # Install the requirements once, and then innerloop alone.
            again = ["--no-deps", "--force-reinstall"] if number else []
            pins = ["-c", constraints] if constraints else []
            install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            run("python", *install, *again, *pins, file)
            wanted = file.suffix == ".whl" and not file.name.endswith("-any.whl")
            if run("python", "-c", LOOK).strip() != str(wanted):
                raise SystemExit(f"{file.name}: kernels are {'missing' if wanted else 'there'}")
            run("innerloop", "train", *TRAIN, "--out", f"run-{number}")
            run("innerloop", "evaluate", f"run-{number}", "--tasks", "20", "--json")
            print(f"{run('innerloop', '--version').strip()}: {file.name} works", flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=lambda name: Path(name).resolve())
    parser.add_argument("--python", nargs="+", default=[sys.executable])
    parser.add_argument("--constraints", type=lambda name: Path(name).resolve())
    options = parser.parse_args()
    for python in options.python:
        version = subprocess.run([python, "--version"], check=True, capture_output=True, text=True)
        print(version.stdout.strip(), flush=True)
        try_files(python, options.files, options.constraints)


if __name__ == "__main__":
    main()
