"""What Windows lacks or does differently, as far as another system can imitate it.

The workflow runs all tests on Windows itself; these find most of what would fail there.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from trials.small import SETTINGS

import innerloop

PACKAGE = Path(innerloop.__path__[0])
# Names that POSIX alone has.
LACKS = """
import os, signal, sys
import matplotlib.pyplot, safetensors.torch, sklearn, torch._dynamo
for module in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"):
    sys.modules[module] = None
for name in ("fork", "forkpty", "getuid", "geteuid", "getpgid", "killpg", "setsid", "statvfs",
             "sched_getaffinity", "chown", "fchmod", "uname", "mkfifo", "WIFEXITED"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGALRM", "SIGUSR1", "alarm", "setitimer", "pthread_sigmask"):
    if hasattr(signal, name):
        delattr(signal, name)
"""


def run(code: str, folder: Path, *options: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def command(array, tmp_path):
    """Settings in a file whose path and content are not ASCII, and a command that uses them."""
    folder = tmp_path / "实验 é"
    folder.mkdir()
    settings = {**SETTINGS, "data": str(array), "val_every": 6, "val_tasks": 8, "test_tasks": 8}
    text = "# 训练设置\n" + yaml.safe_dump(settings, allow_unicode=True)
    (folder / "small.yaml").write_text(text, "utf-8")
    return f"""
from innerloop.cli import main
assert main(["train", "--config", {str(folder / "small.yaml")!r}, "--out", {str(folder / "run")!r},
             "--iterations", "6"]) == 0
assert main(["evaluate", {str(folder / "run")!r}, "--tasks", "4"]) == 0
assert main(["runs", {str(folder)!r}]) == 0
"""


def test_without_what_posix_alone_has(command, tmp_path):
    run(LACKS + command, tmp_path)
    (folder,) = tmp_path.iterdir()
    assert (folder / "run/results.json").exists()


def test_in_an_old_code_page_and_without_its_encoding_for_files(command, tmp_path):
    """A console of Windows cannot show every character, and no file is opened as it would be.

    Other packages' files are their own affair.
    """
    filters = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning:innerloop"]
    run(command, tmp_path, *filters, PYTHONIOENCODING="cp1252:strict", PYTHONUTF8="0")


def test_every_file_is_opened_in_an_encoding():
    """Warnings belong to who opens the file, which may be pathlib: so the sources, too."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                given = len(node.args) + sum(k.arg == "encoding" for k in node.keywords)
                least = {"read_text": 1, "write_text": 2}.get(node.func.attr, 0)
                assert given >= least, f"{file}:{node.lineno}"


def test_names_of_files_are_allowed_everywhere(runs):
    """Also where case does not count."""
    reserved = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
    for folder in (runs / "one [a]", PACKAGE):
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
        assert len({name.lower() for name in names}) == len(names)
        for name in names:
            for part in name.split("/"):
                assert not re.search(r'[<>:"\\|?*]|[ .]$', part), name
                assert not reserved.fullmatch(part), name


def test_what_other_processes_need_can_be_pickled(tmp_path):
    """Windows starts processes anew (spawn), and hands them pickled objects."""
    code = """
import multiprocessing
import innerloop
from innerloop.data import from_arrays
import numpy as np

def number(sampler):
    return float(sampler.batch(3, 2).support_x.sum())

if __name__ == "__main__":
    data = from_arrays(np.arange(600.0).reshape(150, 4), np.arange(150) % 15)
    sampler = innerloop.EpisodeSampler(data, n_way=2, k_query=3)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(number, [sampler]) == number(sampler)
"""
    file = tmp_path / "spawned.py"
    file.write_text(code)
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
