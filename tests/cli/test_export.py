"""`innerloop export`."""

import json

import numpy as np
import pytest
from PIL import Image

from innerloop.cli import main


@pytest.fixture
def symbols(tmp_path):
    for i, name in enumerate(("cross", "ring")):
        folder = tmp_path / "symbols" / name
        folder.mkdir(parents=True)
        pixels = np.full((28, 28), 255, np.uint8)
        pixels[4 + 10 * i : 8 + 10 * i, 4:24] = 0
        Image.fromarray(pixels).save(folder / "1.png")
    return tmp_path / "symbols"


def test_an_adapted_network(symbols, tmp_path, capsys):
    out = tmp_path / "classifier.pt2"
    arguments = ["omniglot-protonet", "--support", str(symbols), "--out", str(out)]
    assert main(["export", *arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert json.loads(told["classes"]) == ["cross", "ring"]
    assert told["bytes"] == out.stat().st_size
    assert main(["export", *arguments]) == 0
    assert '["cross", "ring"]' in capsys.readouterr().out


def test_one_thing_is_written(symbols, tmp_path, capsys):
    out = str(tmp_path / "x.onnx")
    assert main(["export", "omniglot-conv4", "--out", out]) == 2
    assert "--learner" in capsys.readouterr().err
    both = ["--learner", "--support", str(symbols)]
    assert main(["export", "omniglot-conv4", "--out", out, *both]) == 2
    assert "--support FOLDER" in capsys.readouterr().err


def test_no_picture_of_the_support_set_is_overwritten(symbols, capsys):
    file = symbols / "ring" / "1.png"
    before = file.read_bytes()
    words = ["export", "omniglot-conv4", "--support", str(symbols), "--format", "onnx"]
    assert main([*words, "--out", str(file)]) == 2
    assert "one of the pictures that are read" in capsys.readouterr().err
    assert file.read_bytes() == before
