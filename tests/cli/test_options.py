"""What the library calls arguments is, on the command line, an option."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from PIL import Image

import innerloop
from innerloop.cli import main
from innerloop.cli.options import as_options


@pytest.mark.parametrize(
    ("command", "said", "expected"),
    [
        ("adapt", "background= helps heads", "--background helps heads"),
        ("adapt", "say white=255, or white=", "say --white 255, or --white"),
        ("adapt", "give fine_tune=True", "give --fine-tune"),
        ("adapt", "inner_steps is for head='inner_loop'", "--inner-steps is for --head inner_loop"),
        ("adapt", "bn must be one of", "--bn must be one of"),
        ("adapt", "give head='random'; stride=2", "give --head random; stride=2"),
        ("evaluate", "give the network head='random'", "give the network head='random'"),
        ("train", "bn='frozen' is; lower inner_lr", "--bn frozen is; lower inner_lr"),
        ("data", "image_size must be at least", "--image-size must be at least"),
        ("evaluate", "eval_inner_steps must be at least", "--inner-steps must be at least"),
        # Calls, paths and names of files are left alone.
        ("adapt", "FewShotClassifier(head='ridge')", "FewShotClassifier(head='ridge')"),
        ("adapt", "a/inner_steps/head=3.png", "a/inner_steps/head=3.png"),
        ("adapt", "'inner_steps' is no picture", "'inner_steps' is no picture"),
        ("", "bn must be", "bn must be"),
    ],
)
def test_arguments_become_options(command, said, expected):
    if command:
        importlib.import_module(f"innerloop.cli.{command}")
    assert as_options(said, command) == expected


ARGUMENT = re.compile(
    r"(?<![\w(-])(background|bn|fine_tune|head|image_size|ink|inner_steps|prepare|preprocess|views|weights|white)="
)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--background", "BACKGROUND"], "--background helps"),
        (["--reject", "0.05"], "--reject needs classes with two"),
        (["--inner-steps", "0"], "--inner-steps must be at least 1, not 0"),
        (["--image-size", "20"], "--image-size is for pretrained networks"),
        (["--fine-tune"], "--fine-tune is for pretrained networks"),
        (["--weights", "w.pt"], "--weights is for pretrained networks"),
        (["--white", "-1"], "--white must be greater than 0"),
    ],
)
def test_adapt_names_what_was_typed(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = innerloop.data.glyphs(20)
    for name, c in (("support/a", 0), ("support/b", 1), ("BACKGROUND", 2), ("query", 0)):
        folder = Path(name)
        folder.mkdir(parents=True)
        Image.fromarray(data.class_images(c)[0, 0]).save(folder / "1.png")
    command = ["adapt", "omniglot-conv4", "--support", "support", "--query", "query", *words]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert said in error
    assert not ARGUMENT.search(error)
