"""What is around the words of a command: variables of the environment, and help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import innerloop
from innerloop import UserError
from innerloop.cli import main
from innerloop.training.distributed import World, is_main

WORDS = "adapt omniglot-conv4 --support symbols --query symbols/a".split()
OF_PROCESSES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PYTHON_TYRO_ANSI_CODES", "0"),
        ("PYTHON_TYRO_GLOBAL_MARKERS", "nothing"),
        ("MPLBACKEND", "nothing"),
        ("TORCH_LOGS", "nothing"),
    ],
)
def test_what_a_library_does_not_take_is_named(tmp_path, name, value):
    source = str(Path(innerloop.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "innerloop", *WORDS],
        env={**os.environ, "PYTHONPATH": source, name: value},
        cwd=_symbols(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {name} is {value!r} in the environment")
    assert done.stderr.count("\n") == 1
    assert "unset it" in done.stderr


def _symbols(folder: Path) -> Path:
    data = innerloop.data.glyphs(60)
    for number in range(2):
        place = folder / "symbols" / "ab"[number]
        place.mkdir(parents=True)
        Image.fromarray(data.class_images(number)[0, 0]).save(place / "1.png")
    return folder


@pytest.mark.parametrize(
    ("name", "value"),
    [("WORLD_SIZE", "many"), ("RANK", "first"), ("RANK", "2"), ("MASTER_PORT", "-1")],
)
def test_odd_numbers_of_processes_are_named(monkeypatch, name, value):
    given = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for each, text in (given | {name: value}).items():
        monkeypatch.setenv(each, text)
    with pytest.raises(UserError, match=f"{name} is '?{value}'? in the environment"):
        World.join()


def test_a_rank_without_other_processes_silences_nothing(monkeypatch):
    """Other programs set it, too: such a process said nothing at all, not even what was wrong."""
    for each in OF_PROCESSES:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv("RANK", "1")
    assert is_main()
    assert World.join().size == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not is_main()


@pytest.mark.parametrize("words", [["train"], ["data", "info"]])
def test_help_of_a_command_by_name(words, capsys):
    """`innerloop help train` showed the help of all commands."""
    with pytest.raises(SystemExit) as ended:
        main(["help", *words])
    assert ended.value.code == 0
    assert f"innerloop {' '.join(words)}" in capsys.readouterr().out
    assert main(["help", "nothing"]) == 2
    assert main(["help"]) == 0
