"""Files that are left out of a folder, and doubtful ones, are reported each time."""

from __future__ import annotations

import json
import os
import warnings

import numpy as np
import pytest
from PIL import Image

from innerloop import FewShotClassifier, cli
from innerloop.data import folder, from_arrays, split_classes
from innerloop.errors import UserError

pytestmark = pytest.mark.usefixtures("home")


def pictures(root, names, count=2):
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(count):
            noise = np.random.default_rng([*name.encode(), number]).integers(0, 256, (8, 8, 3))
            Image.fromarray(noise.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


def said(path, **options):
    """The texts of the warnings, and the remarks by kind."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = folder(path, **options)
    assert [str(w.message) for w in caught] == [
        f"{data.name}: {remark.text}" for remark in data.remarks if remark.warns
    ]
    return {remark.kind: remark for remark in data.remarks}


def test_nothing_is_said_of_a_sound_folder(tmp_path):
    assert said(pictures(tmp_path, "abc")) == {}


def test_files_that_are_not_read_and_folders_without_pictures(tmp_path):
    root = pictures(tmp_path, ("cat", "dog"))
    for name in ("phone/1.HEIC", "phone/2.heic", "cat/x.svg", "labels.txt", "deep/er/still/n.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    (root / "empty").mkdir()
    for _ in range(2):  # the second time from what was prepared
        remarks = said(root)
        assert {kind: remark.count for kind, remark in remarks.items()} == {
            "not read": 3,
            "empty folders": 3,
            "other files": 2,
        }
        assert "2 .heic, 1 .svg" in remarks["not read"].text
        assert "deep, empty, phone" in remarks["empty folders"].text
    (root / "owl").mkdir()
    assert said(root)["empty folders"].count == 4


def test_hidden_folders_are_said_if_they_hold_pictures(tmp_path):
    root = pictures(tmp_path / "pets", "abc")
    for name in (".git/objects/x", ".ipynb_checkpoints/n.ipynb", "__MACOSX/a/._1.png", ".DS_Store"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    assert said(root) == {}
    pictures(root, (".hidden", "a/.thumbnails/small"))
    for _ in range(2):  # the second time from what was prepared
        (remark,) = said(root).values()
        assert (remark.kind, remark.count) == ("hidden folders", 2)
        assert "2 hidden folders with pictures, left out: .hidden, a/.thumbnails" in remark.text
    root = pictures(tmp_path / "lost", (".a", ".b"))
    with pytest.raises(UserError, match=r"holds no pictures .* 2 hidden folders .* \.a, \.b"):
        folder(root)


@pytest.mark.filterwarnings("always")
def test_the_command_shows_the_counts(tmp_path, capsys):
    root = pictures(tmp_path / "pets", "abc")
    (root / "d").mkdir()
    (root / "a" / "1.heic").write_bytes(b"x")
    cli.main(["data", "info", str(root), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert {each["kind"]: each["count"] for each in facts["remarks"]} == {
        "not read": 1,
        "empty folders": 1,
    }
    cli.main(["data", "info", str(root)])
    shown = capsys.readouterr()
    assert "1 folder without pictures, which became no class: d" in shown.out
    assert "warning: pets: 1 file of kinds that are not read" in shown.err


def test_a_picture_in_two_classes_whatever_its_format(tmp_path):
    root = pictures(tmp_path, "abc")
    Image.open(root / "a" / "0.png").save(root / "b" / "copy.bmp")
    Image.open(root / "c" / "1.png").save(root / "c" / "again.png")
    remarks = said(root)
    assert remarks["in two classes"].count == remarks["twice in a class"].count == 1
    assert "a/0.png and b/copy.bmp" in remarks["in two classes"].text


def test_pictures_that_became_blank_or_dark(tmp_path):
    root = pictures(tmp_path / "one", "ab")
    Image.new("RGB", (8, 8), "white").save(root / "a" / "blank.png")
    assert said(root)["blank"].text.endswith("a/blank.png")
    for name in "ab":
        (tmp_path / "masks" / name).mkdir(parents=True)
        mask = np.eye(8, dtype=np.uint8) if name == "a" else np.tri(8, dtype=np.uint8)
        Image.fromarray(mask).save(tmp_path / "masks" / name / "0.png")
    assert "the largest value in all pictures is 1" in said(tmp_path / "masks")["dark"].text


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("name", ["moving.gif", "moving.png", "moving.webp", "pages.tif"])
def test_files_of_several_frames_are_said_to_give_the_first(tmp_path, capsys, name):
    root = pictures(tmp_path / "support", "abc")
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    red.save(root / "b" / name, save_all=True, append_images=[blue])
    red.save(root / "b" / "one.gif")
    assert said(root)["frames"].text.startswith("of 1 file with several frames or pages the first")
    assert said(root)["frames"].count == 1
    asked = ["adapt", "glyphs-conv4", "--grey", "--support", str(root), "--query"]
    picture = ["--picture", str(tmp_path / "out.png")]
    assert cli.main([*asked, str(root / "a"), str(root / "b" / name), *picture]) == 0
    err = capsys.readouterr().err
    assert all(f"{option}: of 1 file" in err for option in ("--support", "--query"))


@pytest.mark.filterwarnings("always")
def test_broken_pictures_are_refused_or_left_out(tmp_path, capsys):
    root = pictures(tmp_path / "my pets", "abc")
    (root / "b" / "broken.jpg").write_bytes(b"no picture")
    (root / "d").mkdir()
    (root / "d" / "broken.png").write_bytes((root / "a" / "0.png").read_bytes()[:70])
    with pytest.raises(UserError, match=r"broken\.\w+ cannot be read.*--skip-broken"):
        folder(root)
    assert cli.main(["data", "prepare", str(root), "--skip-broken"]) == 0
    assert "2 pictures that cannot be read, left out: b/broken.jpg" in capsys.readouterr().err
    remarks = said(root)  # prepared for all later calls
    assert remarks["broken"].count == 2
    assert remarks["broken folders"].count == 1
    assert list(folder_quietly(root).names) == ["a", "b", "c"]
    for file in root.rglob("*.png"):
        file.write_bytes(b"x")
    with pytest.raises(UserError, match=r"none of the 8 pictures in .* can be read"):
        folder(root, skip_broken=True)


def folder_quietly(root):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return folder(root)


def test_broken_classes_leave_the_split(tmp_path):
    root = pictures(tmp_path, ("train/a", "train/b", "val/c", "test/d"))
    for file in (root / "train" / "a").iterdir():
        file.write_bytes(b"x")
    assert set(said(root, skip_broken=True)) == {"broken", "broken folders"}
    data = folder_quietly(root)
    split = split_classes(data)
    assert {part: [data.names[c] for c in classes] for part, classes in split.items()} == {
        "train": ["b"],
        "val": ["c"],
        "test": ["d"],
    }


def test_an_array_of_zeros_and_ones(tmp_path):
    np.save(tmp_path / "ones.npy", np.ones((3, 2, 1, 8, 8), np.uint8))
    with pytest.warns(UserWarning, match="largest value is 1, where 255 is white"):
        folder(tmp_path / "ones.npy")
    with pytest.warns(UserWarning, match="largest value"):
        from_arrays(np.ones((6, 8, 8), np.uint8), [0, 0, 0, 1, 1, 1])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    pipe = pictures(tmp_path, ["cat", "dog"]) / "cat" / "pipe.png"
    os.mkfifo(pipe)
    for read in (lambda: folder(tmp_path), lambda: FewShotClassifier().fit([pipe, pipe], [0, 1])):
        with pytest.raises(UserError, match=r"pipe\.png is a pipe or a device, not a file: remove"):
            read()
    with pytest.raises(UserError, match="cat is a folder: give the pictures that are in it"):
        FewShotClassifier().fit([pipe.parent] * 2, [0, 1])
