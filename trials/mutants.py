"""Check that tests notice small changes of the source: `python -m trials.mutants`.

mutmut (`pip install mutmut`) makes the changes, one at a time, and runs the tests that reach them,
in a copy of the checkout.  Survivors are listed: either a test is missing, or the change has no
effect.  Writes `benchmarks/results/mutants.json`.  POSIX only.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.reports import write_report

ROOT = Path(__file__).parent.parent
# By module: the tests that are to notice.
TESTS = {
    "functional": ["tests/test_functional.py"],
    "tasks/sampler": ["tests/tasks/test_sampler.py", "tests/tasks/test_shapes.py"],
    "algorithms/maml": ["tests/algorithms/test_maml.py", "tests/algorithms/test_mixed_mode.py"],
    "algorithms/reptile": ["tests/algorithms/test_others.py"],
    "algorithms/imaml": ["tests/algorithms/test_imaml.py"],
    "algorithms/protonet": ["tests/algorithms/test_others.py"],
}
COPIED = ["benchmarks", "configs", "docs", "examples", "src", "tests", "tools", "trials"]


def configuration(module: str) -> str:
    """A setup.cfg for mutmut."""
    lines = {
        "source_paths": [f"src/innerloop/{module}.py"],
        "pytest_add_cli_args_test_selection": TESTS[module],
        "also_copy": [*COPIED, "pyproject.toml"],
    }
    text = (f"{name}=\n" + "".join(f"    {v}\n" for v in values) for name, values in lines.items())
    return "[mutmut]\n" + "".join(text)


def survivors(listed: str) -> dict[str, list[str]]:
    """The names of mutants by what became of them, from what `mutmut results --all` prints."""
    found: dict[str, list[str]] = {}
    for name, fate in re.findall(r"^\s*(\S+): (.+)$", listed, re.MULTILINE):
        found.setdefault(fate, []).append(name)
    return found


def mutate(module: str) -> dict[str, object]:
    """The fate of each mutant of a module.

    Raises:
        SystemExit: the tests fail without any change, or mutmut itself does.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in COPIED:
            shutil.copytree(ROOT / part, folder / part)
        shutil.copy(ROOT / "pyproject.toml", folder)
        (folder / "setup.cfg").write_text(configuration(module))
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)
        command = [sys.executable, "-m", "mutmut"]
        done = subprocess.run([*command, "run"], cwd=folder, env=environment)
        listed = subprocess.run(
            [*command, "results", "--all", "true"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        ).stdout
        found = survivors(listed)
        if not found:
            raise SystemExit(f"mutmut ended with status {done.returncode} and no results")
    counts = Counter({fate: len(names) for fate, names in found.items()})
    return {"mutants": counts.total(), **counts, "names": found.get("survived", [])}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(TESTS), metavar="MODULE")
    options = parser.parse_args()
    if unknown := set(options.modules) - set(TESTS):
        parser.error(f"no tests are named for {', '.join(sorted(unknown))}: add them to TESTS")
    if importlib.util.find_spec("mutmut") is None:
        parser.error("mutmut is not installed: pip install mutmut")
    report = {module: mutate(module) for module in options.modules}
    write_report("mutants", report, " ".join(["python -m trials.mutants", *options.modules]))


if __name__ == "__main__":
    main()
