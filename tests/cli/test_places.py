"""Where files are written: one rule for all commands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

import innerloop
from innerloop.cli import main


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """By name, a command without its last word, the file to be written, and the file's ending."""
    monkeypatch.chdir(tmp_path)
    data = innerloop.data.glyphs(20)
    for name, c in (("support/a", 0), ("support/b", 1), ("query", 0)):
        Path(name).mkdir(parents=True)
        Image.fromarray(data.class_images(c)[0, 0]).save(f"{name}/1.png")
    adapt = "adapt omniglot-conv4 --support support --query query --picture"
    return {
        "adapt": (adapt.split(), ".png"),
        "export": ("export omniglot-conv4 --learner --out".split(), ".pt2"),
        "plot": ("plot nowhere --out".split(), ".png"),
        "sheet": ("data sheet glyphs --out".split(), ".png"),
        "prepare": ("data prepare glyphs --out".split(), ".npy"),
        "random": ("data random --out".split(), ".npy"),
    }


NAMES = ["adapt", "export", "plot", "sheet", "prepare", "random"]


@pytest.mark.parametrize("name", NAMES)
def test_a_place_that_is_none_is_refused_before_the_work(name, commands, capsys, monkeypatch):
    words, ending = commands[name]
    Path("file").touch()
    Path(f"folder{ending}").mkdir()
    assert main([*words, f"file/out{ending}"]) == 2
    error = capsys.readouterr().err
    assert f"{words[-1]} file/out{ending}: {Path('file').absolute()} is a file and no" in error
    assert main([*words, f"folder{ending}"]) == 2
    assert "is a folder: name a file in it" in capsys.readouterr().err
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert main([*words, f"out{ending}"]) == 2
    assert "cannot be written to: choose another place" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["adapt", "plot", "sheet"])
def test_no_picture_of_the_users_is_overwritten(name, commands, capsys):
    words, _ = commands[name]
    Image.new("L", (8, 8)).save("mine.png")
    before = Path("mine.png").read_bytes()
    assert main([*words, "mine.png"]) == 2
    assert "mine.png is a picture that innerloop did not draw" in capsys.readouterr().err
    assert Path("mine.png").read_bytes() == before


@pytest.mark.parametrize("name", ["adapt", "sheet"])
def test_missing_folders_are_made_and_said(name, commands, capsys):
    words, ending = commands[name]
    out = f"some/new/out{ending}"
    for said in (1, 0):  # the second time it is there, and what was drawn is drawn over
        assert main([*words, out]) == 0
        error = capsys.readouterr().err
        assert error.count(f"{words[-1]}: there is no folder some/new yet; it is made\n") == said
        assert Path(out).exists()
