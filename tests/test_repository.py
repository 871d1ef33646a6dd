"""The files around the package: workflows, templates and hooks name files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
FILES = [
    *sorted(ROOT.glob(".github/**/*.yml")),
    ROOT / ".pre-commit-config.yaml",
    *sorted(ROOT.glob("deploy/**/*.yaml")),
]
pytestmark = pytest.mark.skipif(not FILES[0].exists(), reason="not a checkout")


def _commands(value):
    """Every string below a key that holds commands."""
    if isinstance(value, dict):
        for key, below in value.items():
            if key in ("run", "entry") and isinstance(below, str):
                yield below
            yield from _commands(below)
    elif isinstance(value, list):
        for below in value:
            yield from _commands(below)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_files_are_yaml_and_commands_exist(file):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for document in yaml.safe_load_all(file.read_text("utf-8")):
        for command in _commands(document):
            for target in re.findall(r"\bmake ([\w-]+)", command):
                assert target in targets, command
            for module in re.findall(r"-m (tools\.\w+)", command):
                assert (ROOT / f"{module.replace('.', '/')}.py").exists(), command
            for path in re.findall(r"(?:bash|-c) ([\w./-]+/[\w.-]+|[\w-]+\.txt)", command):
                assert (ROOT / path).exists(), command


@pytest.mark.parametrize("form", ["bug", "idea"])
def test_forms_are_in_both_languages(form):
    body = yaml.safe_load((ROOT / f".github/ISSUE_TEMPLATE/{form}.yml").read_text("utf-8"))
    texts = [body["name"], body["description"]]
    texts += [t for part in body["body"] for t in part["attributes"].values() if " " in t]
    for text in texts:
        assert re.search(r"[\u4e00-\u9fff]", text), text
        assert re.search(r"[a-z]{3}", text), text


def test_pythons_that_are_tried_are_those_that_are_named():
    named = set(re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text("utf-8")))
    tests = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text("utf-8"))
    matrix = tests["jobs"]["quick"]["strategy"]["matrix"]
    assert {*matrix["python"], *(more["python"] for more in matrix["include"])} == named
