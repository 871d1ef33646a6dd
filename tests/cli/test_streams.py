"""Output that cannot be written, text that cannot be encoded, a working directory that is gone."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from innerloop import cli
from innerloop.files import at_home, quoted, readable

ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}

pytestmark = pytest.mark.skipif(os.name != "posix", reason="shells and streams of POSIX")


def shell(line, cwd, **environment):
    """Run a line in which `il` is the command; its status and all that it wrote."""
    command = f"{quoted(sys.executable)} -m innerloop"
    line = line.replace("il ", f"{command} ", 1)
    source = str(Path(cli.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": source, **environment}
    done = subprocess.run(
        ["sh", "-c", line], cwd=cwd, env=environment, capture_output=True, timeout=120
    )
    written = (done.stdout + done.stderr).decode(errors="replace")
    assert "Traceback" not in written, written
    assert "Exception ignored" not in written, written
    return done.returncode, written


@pytest.mark.parametrize("command", ["--version", "--help", "runs --help", "data info nowhere"])
@pytest.mark.parametrize(
    ("streams", "fails"),
    [
        (">/dev/full", True),
        (">/dev/full 2>/dev/full", True),
        (">&-", False),
        ("2>&-", False),
        ("<&- >&- 2>&-", False),
        ("| true", None),
    ],
)
def test_streams_that_are_full_or_closed(tmp_path, command, streams, fails):
    if "/dev/full" in streams and not Path("/dev/full").exists():
        pytest.skip("there is no full device")
    status, _ = shell(f"il {command} {streams}", tmp_path)
    wrong = "nowhere" in command
    assert fails is None or status == (2 if fails or wrong else 0)


@pytest.mark.parametrize("environment", [{}, ASCII])
def test_names_that_are_no_text(tmp_path, environment):
    root = os.fsencode(tmp_path) + b"/caf\xe9"
    try:
        os.makedirs(root)
    except OSError:
        pytest.skip("the file system takes text alone")
    for number, name in enumerate((b"na\xefve", b"plain", "ö".encode(), b"\xff")):
        os.mkdir(root + b"/" + name)
        noise = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(noise).save(os.fsdecode(root + b"/" + name + b"/1.png"))
    status, written = shell("il data info caf*", tmp_path, **environment)
    assert status == 0, written
    assert "random" in written


def test_a_working_directory_that_is_gone(tmp_path):
    for command in ("--version", "runs", "data info nowhere", "train --data glyphs --iterations 1"):
        line = f"mkdir gone && cd gone && rmdir ../gone && il {command}"
        status, written = shell(line, tmp_path)
        assert status == (0 if command == "--version" else 2), written
        assert status == 0 or "the working directory is gone: change to one" in written


def test_home_and_quotes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    for number, name in enumerate("abc"):
        (tmp_path / "my pets" / name).mkdir(parents=True)
        noise = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(noise).save(tmp_path / "my pets" / name / "1.png")
    assert cli.main(["data", "info", "~/my pets"]) == 0
    assert cli.main(["data", "sheet", "~/my pets", "--out=~/sheet.png"]) == 0
    assert (tmp_path / "sheet.png").exists()
    capsys.readouterr()
    for words in (
        ["adapt", "omniglot-conv4", "--support", "~/x", "--query", "~/y"],
        ["runs", "~/x"],
    ):
        assert cli.main(words) == 2
        assert str(tmp_path / "x") in capsys.readouterr().err
    assert shlex.split(quoted("a b'c")) == ["a b'c"]
    assert at_home("~/x") == tmp_path / "x"
    assert at_home("x~y") == Path("x~y")


def test_a_name_in_a_figure_is_text():
    assert readable("plain ö") == "plain ö"
    assert readable("caf\udce9") == "caf\ufffd"


@pytest.mark.parametrize("no_color", ["", "1"])
def test_help_on_a_terminal_has_no_colours_where_none_are_wanted(no_color):
    """Of https://no-color.org: by a variable that is there and not empty."""
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": no_color}
    environment.pop("PYTHON_TYRO_ANSI_CODES", None)
    command = [sys.executable, "-m", "innerloop", "data", "info", "--help"]
    subprocess.run(command, stdout=theirs, env=environment, check=True)
    os.close(theirs)
    shown = os.read(ours, 100_000)
    os.close(ours)
    assert b"usage" in shown
    assert (b"\x1b[" in shown) == (not no_color)
