"""Subjects of commits."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tools import commits

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("Call one task in one way\n\nThe body says why.\n", None),
        ("x" * 72, None),
        ("x" * 73, "73 characters"),
        ("Call one task in one way.", "full stop"),
        ("Call one task\nin one way", "blank line"),
        ("# Please enter the commit message\n\n", "empty"),
    ],
)
def test_what_is_wrong_is_named(message, fault):
    found = commits.faults(message)
    assert fault in found[0] if fault else found == []


def _git(folder, *words):
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *author, *words], cwd=folder, check=True, capture_output=True)


@pytest.mark.skipif(not shutil.which("git"), reason="no git")
def test_every_commit_of_a_range_is_read(tmp_path):
    _git(tmp_path, "init", "--quiet")
    for message in ("Begin", "Go on\n\nA body\n\nof two parts", "y" * 80):
        _git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", message)
    found = list(commits.messages("HEAD", tmp_path).values())
    assert found == ["y" * 80, "Go on\n\nA body\n\nof two parts", "Begin"]
    assert commits.messages("HEAD", tmp_path, since="2000-01-01").keys() != set()
    assert commits.messages("HEAD", tmp_path, since="2090-01-01") == {}
    with pytest.raises(SystemExit, match="whole history"):
        commits.messages("missing..HEAD", tmp_path)


def test_a_message_being_written_is_refused(tmp_path):
    file = tmp_path / "COMMIT_EDITMSG"
    for subject, status in (("Short", 0), ("x" * 100, 1)):
        file.write_text(f"{subject}\n# comment\n")
        command = [sys.executable, "-m", "tools.commits", "--message", str(file)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, bool(done.stderr)) == (status, bool(status))
