"""`innerloop adapt`: folders in, classes out, and a clear word about every wrong use."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

import innerloop
from innerloop.cli import main


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three glyphs: two pictures each to learn from, three to tell, of another size and format."""
    root = tmp_path_factory.mktemp("adapt")
    data = innerloop.data.glyphs(300)
    for name, c in zip("abc", innerloop.data.split_classes(data)["test"], strict=False):
        (root / "support" / name).mkdir(parents=True)
        (root / "query").mkdir(exist_ok=True)
        pictures = [Image.fromarray(image[0]) for image in data.class_images(c)]
        for i, picture in enumerate(pictures[:2]):
            picture.save(root / "support" / name / f"{i}.png")
        for i, picture in enumerate(pictures[2:5]):
            picture.resize((90, 90)).save(root / "query" / f"{name}{i}.jpg")
    (root / "support" / ".hidden").mkdir()
    (root / "support" / "a" / "notes.txt").write_text("no picture")
    return root


def adapt(folders, *words):
    return main(["adapt", "omniglot-conv4", "--support", str(folders / "support"), *words])


def test_a_table_and_a_picture(folders, capsys, tmp_path):
    picture = tmp_path / "seen.png"
    words = ("--query", str(folders / "query"), "--picture", str(picture))
    assert adapt(folders, *words) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    right = [line.split("/")[-1][0] == line.split()[1] for line in lines]
    assert sum(right) >= 7
    assert last == f"the picture is {picture}"
    with Image.open(picture) as drawn:
        assert drawn.size[1] > 600


def test_json_and_csv_say_the_same(folders, capsys, tmp_path):
    files = [str(folders / "query" / f"{name}.jpg") for name in ("c1", "a0")]
    where = ("--query", *files, "--picture", str(tmp_path / "p.png"))
    assert adapt(folders, *where, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["support"] == {"a": 2, "b": 2, "c": 2}
    assert report["ink"] == "dark"
    assert (
        len(report["support_loss"]) == innerloop.load("omniglot-conv4").config.eval_inner_steps + 1
    )
    assert [each["file"] for each in report["queries"]] == files
    assert adapt(folders, *where, "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    for row, each in zip(rows, report["queries"], strict=True):
        assert row["class"] == each["class"]
        for name, p in each["probabilities"].items():
            assert float(row[name]) == pytest.approx(p, abs=1e-4)


def test_light_strokes_on_dark_are_found_and_can_be_said(folders, capsys, tmp_path):
    for file in (folders / "support").rglob("*.png"):
        out = tmp_path / "support" / file.parent.name / file.name
        out.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - np.asarray(Image.open(file))).save(out)
    words = ["adapt", "omniglot-conv4", "--support", str(tmp_path / "support"), "--query"]
    words += [str(tmp_path / "support" / "a"), "--picture", str(tmp_path / "p.png"), "--json"]
    for more, ink in (([], "light"), (["--ink", "dark"], "dark")):
        assert main([*words, *more]) == 0
        assert json.loads(capsys.readouterr().out)["ink"] == ink


def colour(folders, tmp_path):
    path = tmp_path / "colour.png"
    Image.new("RGB", (30, 30), "red").save(path)
    return path


def test_colour_for_a_grey_network_is_refused_unless_turned_grey(folders, capsys, tmp_path):
    path = colour(folders, tmp_path)
    words = ("--query", str(path), "--picture", str(tmp_path / "p.png"))
    assert adapt(folders, *words) == 2
    assert "colour.png has colour" in capsys.readouterr().err
    assert adapt(folders, *words, "--grey") == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "is no folder"),
        ("one class", "two or more; it has 1"),
        ("empty class", "holds no pictures"),
        ("loose", "lies loose"),
        ("unreadable", "cannot be read as a picture"),
        ("no query", "does not exist"),
        ("empty query", "holds no pictures"),
        ("both", "--json or --csv, not both"),
        ("picture", "must end in .png"),
        ("model", "nor one of the weights"),
    ],
)
def test_wrong_use_gets_one_clear_line(change, message, folders, tmp_path, capsys):
    support, query, more, model = tmp_path / "s", folders / "query", [], "omniglot-conv4"
    for name in "ab":
        (support / name).mkdir(parents=True)
        Image.new("L", (28, 28), 255).save(support / name / "1.png")
    if change == "missing":
        support = tmp_path / "nowhere"
    elif change == "one class":
        (support / "b" / "1.png").unlink()
        (support / "b").rmdir()
    elif change == "empty class":
        (support / "b" / "1.png").unlink()
    elif change == "loose":
        Image.new("L", (28, 28)).save(support / "loose.png")
    elif change == "unreadable":
        (support / "a" / "1.png").write_bytes(b"no picture")
    elif change == "no query":
        query = tmp_path / "nothing.png"
        (support / "a" / "1.png").write_bytes(b"not read before it is known what to classify")
    elif change == "empty query":
        query = tmp_path / "empty"
        query.mkdir()
    elif change == "both":
        more = ["--json", "--csv"]
    elif change == "picture":
        more = ["--picture", "x.jpg"]
    else:
        model = "nothing"
    words = ["adapt", model, "--support", str(support), "--query", str(query), *more]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
