"""README and docs agree with the result files, with each other, and with the command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from benchmarks.tables import PAGES, filled

from innerloop.cli import COMMANDS, main

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.zh.md")


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_those_of_the_result_files(page):
    assert (ROOT / page).read_text("utf-8") == filled(page), "run python -m benchmarks.tables"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), target


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)


def test_both_languages_have_the_same_code():
    assert blocks("README.md", "python") == blocks("README.zh.md", "python")

    def commands(page):
        return [line.split("#")[0].strip() for b in blocks(page, "sh") for line in b.splitlines()]

    assert commands("README.md") == commands("README.zh.md")


def test_the_readmes_python_runs_and_learns(capsys):
    (code,) = blocks("README.md", "python")
    exec(compile(code, "README.md", "exec"), {})
    before, *_, after = eval(capsys.readouterr().out)
    assert before == pytest.approx(0.2, abs=0.05)
    assert after > 0.4


def test_the_readmes_commands_parse():
    """Each is parsed to the end; with --help nothing is carried out."""
    lines = [line for block in blocks("README.md", "sh") for line in block.splitlines()]
    commands = [shlex.split(x, comments=True) for x in lines if x.startswith("innerloop ")]
    assert {c[1] for c in commands} == set(COMMANDS)
    for command in commands:
        with pytest.raises(SystemExit) as stop:
            main([*command[1:], "--help"])
        assert stop.value.code == 0, command
