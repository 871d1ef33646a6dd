"""`innerloop data`."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from innerloop.cli import main as command_line
from innerloop.cli.data import main
from innerloop.errors import UserError


@pytest.fixture
def pictures(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(2 if name == "a" else 3):
            noise = np.random.default_rng([ord(name), number]).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / "pets" / name / f"{number}.png")
    return tmp_path / "pets"


def test_prepare_omniglot_counts_and_converts(omniglot_source, omniglot_data, tmp_path, capsys):
    out = tmp_path / "omniglot.npy"
    main(["prepare", "omniglot", "--source", str(omniglot_source), "--out", str(out)])
    text = capsys.readouterr().out
    for words in ("1,673", "32,460", "50", "1,623", "(1623, 20, 1, 28, 28)", "uint8"):
        assert words in text
    assert "25,448,640 (24.27 MB)" in text
    array = np.load(out)
    assert array.shape == (1623, 20, 1, 28, 28)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array[7], omniglot_data.class_images(7))


def test_random_writes_the_tutorials_array(tmp_path, capsys):
    out = tmp_path / "noise.npy"
    main(["random", "--out", str(out)])
    assert "25,448,640 (24.27 MB)" in capsys.readouterr().out
    assert np.load(out, mmap_mode="r").shape == (1623, 20, 1, 28, 28)
    main(["info", str(out), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["automatic_split"] == "tutorial"
    assert facts["splits"]["finn2017"] == {"train": 1100, "val": 100, "test": 423}


def test_info_of_a_folder(pictures, capsys):
    main(["info", str(pictures), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["name"] == "pets"
    assert facts["classes"] == 3
    assert facts["images"] == 8
    assert facts["images_a_class"] == [2, 3]
    assert facts["shape"] == [8, 3, 8, 8]
    assert facts["bytes"] == 8 * 3 * 64
    assert facts["splits"] == {"random": {"train": 1, "val": 1, "test": 1}}
    main(["info", str(pictures)])
    text = capsys.readouterr().out
    assert "2 to 3" in text
    assert "1 / 1 / 1" in text


def test_prepare_a_folder(pictures, tmp_path, capsys):
    main(["prepare", str(pictures), "--image-size", "6"])
    assert "(8, 3, 6, 6)" in capsys.readouterr().out
    with pytest.raises(UserError, match="2 to 3 images a class"):
        main(["prepare", str(pictures), "--out", str(tmp_path / "x.npy")])
    with pytest.raises(UserError, match=r"must end in \.npy"):
        main(["random", "--out", str(tmp_path / "x.png")])
    with pytest.raises(UserError, match="--source is for omniglot"):
        main(["prepare", str(pictures), "--source", str(tmp_path)])


def test_sheet(pictures, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    main(["sheet", str(pictures), "--out", str(out), "--classes", "2"])
    assert capsys.readouterr().out.strip() == str(out)
    with Image.open(out) as picture:
        assert picture.format == "PNG"


def test_mistakes_are_user_errors(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="omniglot, glyphs, random"):
        main(["info", "omniglott"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="emoji needs --source"):
        main(["prepare", "emoji"])
    (tmp_path / "no.tar.gz").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"is damaged or cut short \(.*\): fetch it again") as said:
        main(["prepare", "cub", "--source", "no.tar.gz", "--out", "cub"])
    assert "\n" not in str(said.value)
    with pytest.raises(UserError, match="does not exist"):
        main(["prepare", "omniglot", "--source", str(tmp_path / "nowhere")])


def test_help_teaches_by_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "innerloop data prepare omniglot --source" in capsys.readouterr().out


def test_the_data_layer_needs_no_torch():
    """So that a program can prepare data without torch; the package itself may import it."""
    code = (
        "import pkgutil, sys, types, pathlib, importlib.util;"
        "spec = importlib.util.find_spec('innerloop');"
        "package = types.ModuleType('innerloop');"
        "package.__path__ = list(spec.submodule_search_locations);"
        "sys.modules['innerloop'] = package;"
        "import innerloop.cli.data;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_waves_have_no_images():
    for command in ("info", "prepare"):
        with pytest.raises(UserError, match="sinusoid has no images"):
            main([command, "sinusoid"])


def test_a_sheet_overwrites_no_picture(pictures, capsys):
    file = next(pictures.rglob("*.png"))
    before = file.read_bytes()
    with pytest.raises(UserError, match="one of the pictures that are read"):
        main(["sheet", str(pictures), "--out", str(file)])
    assert file.read_bytes() == before


def test_a_sheet_stays_out_of_the_data(pictures, capsys):
    with pytest.raises(UserError, match="choose a place outside"):
        main(["sheet", str(pictures), "--out", str(pictures / "a" / "sheet.png")])
    assert not list(pictures.rglob("sheet.png"))


def test_a_picture_of_too_many_pixels_is_one_line(pictures, monkeypatch, capsys):
    """Pillow warns of it, too, without its name."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    monkeypatch.setattr("innerloop.data.pictures.MAX_PIXELS", 50)
    assert command_line(["data", "info", str(pictures), "--json"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "0.png claims 8 x 8 pixels, more than 50: scale it down" in line


OWN = """
import numpy as np
from innerloop import SinusoidSampler
from innerloop.data import from_arrays

y = np.arange(40) // 4


def numbers():
    return from_arrays(np.linspace(0, 3, 40 * 7).reshape(40, 7), y)


def pictures():
    return from_arrays(np.arange(40 * 36, dtype=np.uint8).reshape(40, 6, 6), y)


def waves():
    return SinusoidSampler()
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return str(tmp_path / "own.py")


def test_info_of_data_by_reference(own, capsys):
    """As `train --data` takes it."""
    main(["info", f"{own}:numbers", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert (facts["classes"], facts["examples"], facts["shape"]) == (10, 40, [10, 4, 7])
    assert (facts["bytes"], facts["mean"]) == (40 * 7 * 8, 1.5)
    main(["info", f"{own}:pictures"])
    assert "(10, 4, 1, 6, 6)" in capsys.readouterr().out
    with pytest.raises(UserError, match="gives its tasks itself"):
        main(["info", f"{own}:waves"])
    with pytest.raises(UserError, match="--source is for omniglot"):
        main(["info", f"{own}:numbers", "--source", "x"])


def test_sheet_of_data_by_reference(own, tmp_path):
    main(["sheet", f"{own}:pictures", "--out", str(tmp_path / "sheet.png")])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > 10 * 50
    with pytest.raises(UserError, match=r"no pictures to draw, but float64 of shape \[7\]"):
        main(["sheet", f"{own}:numbers", "--out", str(tmp_path / "none.png")])
