"""`innerloop completion` prints a program that completes, in a real shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from innerloop.cli import COMMANDS, main

ASK = """
source "$1"
shift
COMP_WORDS=(innerloop "$@")
COMP_CWORD=$#
COMP_LINE="innerloop $*"
COMP_POINT=${#COMP_LINE}
_tyro_innerloop
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("completion") / "completion.bash"
    with pytest.MonkeyPatch.context() as patch, file.open("w") as out:
        patch.setattr("sys.stdout", out)
        assert main(["completion", "bash"]) == 0
    return file


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        (["tr"], {"train"}),
        (["train", "--algo"], {"--algorithm"}),
        (["train", "--algorithm", "proto"], {"protonet"}),
        (["train", "--bo"], {"--body"}),
        (["data", "sh"], {"sheet"}),
        (["adapt", "--bn", ""], {"support", "transductive"}),
        (["evaluate", "--ta"], {"--tasks"}),
    ],
)
def test_bash_completes(program, typed, completed):
    command = ["bash", "-c", ASK, "bash", str(program), *typed]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stderr == ""
    assert set(shown.stdout.split()) == completed


def test_bash_knows_all_commands(program):
    command = ["bash", "-c", ASK, "bash", str(program), ""]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(COMMANDS) <= set(shown.stdout.split())


def test_zsh_has_a_program_too(capsys):
    assert main(["completion", "zsh"]) == 0
    assert capsys.readouterr().out.startswith("#compdef innerloop")
