"""What folders of pictures hold beside what is taken from them, and what is said of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from innerloop.cli import main
from innerloop.cli.pictures import query_files, support_files
from innerloop.errors import UserError
from innerloop.plots.figures import save


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Makes small pictures in the working folder."""
    monkeypatch.chdir(tmp_path)

    def pictures(*files):
        for file in map(Path, files):
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8)).save(file, "PNG")

    return pictures


@pytest.mark.parametrize(
    ("option", "way"), [("--query", "give these folders, too"), ("--background", "into qd itself")]
)
def test_pictures_in_folders_inside_are_said(option, way, put):
    put("qd/1.png", "qd/deeper/x.png", "qd/deeper/yet/y.png")
    Path("qd/deeper/yet/2.HEIC").write_bytes(b"")
    with pytest.warns(UserWarning, match=way) as said:
        assert query_files([Path("qd")], option) == [Path("qd/1.png")]
    assert str(said[0].message).startswith(
        "qd: 3 pictures in folders inside it (deeper, deeper/yet), which are left out: "
    )
    # No warning of those that are given themselves.
    Path("qd/deeper/yet/2.HEIC").unlink()
    query_files([Path("qd"), Path("qd/deeper"), Path("qd/deeper/yet")], option)


def test_hidden_folders_with_pictures_are_said(put):
    put("s/a/1.png", "s/b/1.png", "s/.hidden/1.png", "s/b/.old/deep/1.png")
    Path("s/.git").mkdir()
    with pytest.warns(UserWarning, match="left out") as said:
        assert list(support_files(Path("s"))) == ["a", "b"]
    (warning,) = said
    assert "s: 2 hidden folders with pictures, left out: .hidden, b/.old" in str(warning.message)
    with pytest.warns(UserWarning, match="1 hidden folder with pictures, left out: .old"):
        query_files([Path("s/b")])


def test_pictures_in_folders_inside_a_class_are_said(put):
    put("s/bolt/1.png", "s/nut/1.png", "s/nut/more/1.png", "s/nut/more/2.png")
    with pytest.warns(UserWarning, match="left out") as said:
        found = support_files(Path("s"))
    assert [len(files) for files in found.values()] == [1, 1]
    assert [str(each.message) for each in said] == [
        "s/nut: 2 pictures in folders inside it (more), which are left out: put them into the "
        "folder of their class itself"
    ]


@pytest.mark.parametrize(
    ("option", "files", "advice"),
    [
        ("--query", ["p/a/1.png", "p/b/1.png"], "give them, as p/*"),
        ("--query", ["p/a/b/1.png"], "give those, such as --query p/a/b"),
        ("--background", ["p/a/1.png", "p/b/1.png"], "put the pictures into p itself"),
        ("--background", ["p/a/1.png"], "give --background p/a"),
        ("--support", ["p/train/a/1.png", "p/train/b/1.png"], "give --support p/train"),
        ("--support", ["p/a/1.png", "p/b/c/1.png"], "put the pictures into p/b itself"),
    ],
)
def test_the_way_out_of_an_empty_folder_suits_the_option(option, files, advice, put):
    put(*files)
    place = Path("p")
    with pytest.raises(UserError, match="holds no pictures itself, its folders do") as said:
        _ = support_files(place) if option == "--support" else query_files([place], option)
    assert str(said.value).endswith(advice)


def test_no_query_at_all_is_one_clear_line(put, capsys):
    put("s/a/1.png", "s/b/1.png")
    assert main(["adapt", "omniglot-conv4", "--support", "s", "--query"]) == 2
    assert capsys.readouterr().err == (
        "error: --query names no pictures: give pictures, or folders of pictures "
        "(omniglot-conv4 is taken for the model)\n"
    )


def test_what_was_drawn_before_is_no_photo(put):
    put("new/1.png", "s/a/1.png", "s/b/1.png")
    for place in ("new", "s", "s/a"):
        save(Figure(), Path(place, "adapt.png"))
    with pytest.warns(UserWarning, match=r"^new: 1 picture that innerloop drew, left out: adapt"):
        assert query_files([Path("new")]) == [Path("new/1.png")]
    with pytest.warns(UserWarning, match=r"^--query: 1 picture that innerloop drew"):
        assert query_files([Path("new/adapt.png"), Path("s/b/1.png")]) == [Path("s/b/1.png")]
    with pytest.warns(UserWarning, match=r"2 pictures that innerloop drew.*adapt.png, a.adapt.png"):
        assert support_files(Path("s")) == {"a": [Path("s/a/1.png")], "b": [Path("s/b/1.png")]}
    # A photo of the user's own of that name is one.
    put("new/adapt.png")
    assert query_files([Path("new")]) == [Path("new/1.png"), Path("new/adapt.png")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_named_pipe_is_refused_and_not_waited_for(put, tmp_path, capsys):
    put("s/a/1.png", "s/b/1.png")
    os.mkfifo("pipe.png")
    asked = ["adapt", "glyphs-conv4", "--grey", "--support", "s", "--query", "pipe.png"]
    assert main([*asked, "--picture", str(tmp_path / "out.png")]) == 2
    assert "pipe.png is a pipe or a device, not a file" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "is a pipe or a device, not a file: remove it"),
        (lambda path: os.symlink("nowhere", path), r"cannot be read \(.*\); replace or remove it"),
        (lambda path: os.symlink("x.png", path), r"cannot be read \(.*\); replace or remove it"),
    ],
)
def test_what_has_the_name_of_a_picture_and_is_none_is_not_left_out_in_silence(make, message, put):
    put("s/a/1.png", "s/b/1.png")
    make("s/a/x.png")
    os.mkdir("s/a/folder.png")  # but a folder is one
    with pytest.raises(UserError, match=f"s/a/x.png {message}"):
        support_files(Path("s"))
    with pytest.raises(UserError, match=f"s/a/x.png {message}"):
        query_files([Path("s/a")])


@pytest.mark.parametrize(
    ("name", "tool"), [("s.zip", "unzip"), ("s.tar.gz", "tar -xf"), ("s.7z", "unpack")]
)
def test_an_archive_is_to_be_unpacked(name, tool, put):
    Path(name).write_bytes(b"PK")
    for read in (support_files, lambda path: query_files([path])):
        with pytest.raises(UserError, match=rf"{name} is an archive, .* unpack it \({tool} {name}"):
            read(Path(name))


def test_pictures_without_an_ending_are_said(put):
    put("s/a/1.png", "s/a/scan", "s/b/1.png", "q/1.png", "q/other")
    Path("q/notes").write_text("no picture")
    Path("q/sound").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    with pytest.warns(
        UserWarning, match=r"q: 1 file .*\(1 without an ending\), such as other: give"
    ):
        assert query_files([Path("q")], "--query") == [Path("q/1.png")]
    with pytest.warns(UserWarning, match=r"such as a/scan: give names .* such as \.png$"):
        support_files(Path("s"))
