"""Check that tests notice small changes of the source: `python -m trials.mutants`.

mutmut (`pip install mutmut==3.8.1`) makes the changes, one at a time, and runs the tests that
reach them, in a copy of the checkout.  All of them take a night; `--sample 160 --seed 0` draws
some.  Survivors are listed: either a test is missing, or the change has no effect.  Writes
`benchmarks/results/mutants.json`.  POSIX only.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.reports import write_report

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "innerloop"
SAMPLER = "augmenting counter episodes fetch normalization plan sampler shapes".split()
# The arithmetic that everything goes through, the algorithms, and the sampler.
MODULES = [
    "functional",
    *(f"algorithms/{file.stem}" for file in sorted((SOURCE / "algorithms").glob("[!_]*.py"))),
    *(f"tasks/{name}" for name in SAMPLER),
]
# The tests that must notice; mutmut runs those of them that reach the change.
TESTS = [
    *("tests/test_functional.py", "tests/test_inner.py", "tests/test_evaluation.py"),
    *("tests/algorithms", "tests/tasks", "tests/data/test_augment.py"),
]
COPIED = "benchmarks configs docs examples src tests tools trials pyproject.toml".split()


def configuration(modules: Iterable[str]) -> str:
    """A setup.cfg for mutmut."""
    lines = {
        "source_paths": ["src/innerloop"],
        "only_mutate": [f"src/innerloop/{module}.py" for module in modules],
        "pytest_add_cli_args": ["-m", "not long"],
        "pytest_add_cli_args_test_selection": TESTS,
        "also_copy": COPIED,
        # In seconds: what never ends is stopped after twice the time that its tests take.
        "timeout_constant": ["120"],
        "timeout_multiplier": ["1"],
    }
    text = (f"{name}=\n" + "".join(f"    {v}\n" for v in values) for name, values in lines.items())
    return "[mutmut]\n" + "".join(text)


def mutants(module: str) -> list[str]:
    """The names of all changes to a module, as mutmut calls them."""
    from mutmut.mutation.file_mutation import mutate_file_contents
    from mutmut.utils.format_utils import get_mutant_name

    path = SOURCE / f"{module}.py"
    changed = mutate_file_contents(str(path), path.read_text("utf-8"))
    return [get_mutant_name(path.relative_to(ROOT), name) for name in changed.mutant_names]


def fates(listed: str) -> dict[str, str]:
    """The fate of each mutant, from what `mutmut results --all true` prints."""
    return dict(re.findall(r"^\s*(\S+): (.+)$", listed, re.MULTILINE))


def report(found: dict[str, str]) -> dict[str, Any]:
    """How many mutants had each fate, and the names of those that no test noticed."""
    unnoticed = {
        fate: [name for name in found if found[name] == fate]
        for fate in ("survived", "no tests", "timeout")
    }
    counts = {fate: list(found.values()).count(fate) for fate in sorted(set(found.values()))}
    return {"mutants": len(found), **counts, "names": unnoticed}


def mutate(modules: Iterable[str], names: list[str]) -> dict[str, str]:
    """The fate of each of these mutants of the modules.

    Raises:
        SystemExit: the tests fail without any change, or mutmut itself does.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in COPIED:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        (folder / "setup.cfg").write_text(configuration(modules))
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)
        command = [sys.executable, "-m", "mutmut"]
        run = [*command, "run", "--max-children", "1", *names]
        done = subprocess.run(run, cwd=folder, env=environment)
        listed = subprocess.run(
            [*command, "results", "--all", "true"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        ).stdout
    found = fates(listed)
    if missing := [name for name in names if found.get(name, "not checked") == "not checked"]:
        raise SystemExit(
            f"mutmut ended with status {done.returncode}, and {len(missing)} of {len(names)} "
            f"mutants were not tried, such as {missing[0]}"
        )
    return {name: found[name] for name in names}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=MODULES, metavar="MODULE")
    parser.add_argument("--sample", type=int, help="how many mutants; without it all of them")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    options = parser.parse_args()
    if unknown := set(options.modules) - set(MODULES):
        parser.error(f"there is no module {', '.join(sorted(unknown))} in MODULES")
    if importlib.util.find_spec("mutmut") is None:
        parser.error("mutmut is not installed: pip install mutmut==3.8.1")
    names = [name for module in options.modules for name in mutants(module)]
    among = {"of": len(names)}
    if options.sample:
        names = random.Random(options.seed).sample(names, min(options.sample, len(names)))
        among |= {"seed": options.seed}
    command = " ".join(["python -m trials.mutants", *sys.argv[1:]])
    write_report("mutants", among | report(mutate(options.modules, names)), command)


if __name__ == "__main__":
    main()
