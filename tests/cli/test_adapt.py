"""`innerloop adapt`: folders in, classes out, and a clear message about every wrong use."""

from __future__ import annotations

import csv
import io
import json
import os
import runpy
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

import innerloop
from innerloop.cli import adapt as command
from innerloop.cli import main
from innerloop.in_use import PARTS


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
    *lines, prepared, last = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert prepared.startswith("drawings were found on their paper and centred")
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
    # Two pictures a class: the step of training in parts.
    assert len(report["support_loss"]) == 1 + PARTS
    assert [each["file"] for each in report["queries"]] == files
    assert adapt(folders, *where, "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    for row, each in zip(rows, report["queries"], strict=True):
        assert row["class"] == each["class"]
        for name, p in each["probabilities"].items():
            assert float(row[name]) == pytest.approx(p, abs=1e-4)


def test_the_picture_shows_what_the_network_sees(folders, capsys, tmp_path, monkeypatch):
    drawn = {}

    def plot(path, classes, support_x, names, query_x, *rest, **more):
        drawn["support"], drawn["query"] = support_x, query_x
        return path

    monkeypatch.setattr("innerloop.plots.adaptation.plot_adaptation", plot)
    where = ("--query", str(folders / "query"), "--picture", str(tmp_path / "p.png"), "--json")
    for words, prepare in ((("--prepare", "none"), "none"), (("--prepare", "ink"), "ink")):
        assert adapt(folders, *where, *words) == 0
        assert json.loads(capsys.readouterr().out)["prepare"] == prepare
        files = sorted((folders / "support").rglob("*.png"))
        classifier = innerloop.FewShotClassifier(prepare=prepare)
        classifier.fit(files, [file.parent.name for file in files])
        np.testing.assert_array_equal(drawn["support"], classifier.prepared(files))
        queries = sorted((folders / "query").iterdir())
        np.testing.assert_array_equal(drawn["query"], classifier.prepared(queries))


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


@pytest.mark.filterwarnings("always")
def test_warnings_name_files(folders, capsys, tmp_path):
    """What is blank, and what has light and dark the other way round."""
    for file in (folders / "support").rglob("*.png"):
        out = tmp_path / "s" / file.parent.name / file.name
        out.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).save(out)
    Image.new("L", (28, 28), 255).save(tmp_path / "s" / "b" / "blank.png")
    query = next((folders / "query").iterdir())
    Image.fromarray(255 - np.asarray(Image.open(query))).save(tmp_path / "other.png")
    words = ["adapt", "omniglot-conv4", "--support", str(tmp_path / "s"), "--query"]
    assert main([*words, str(tmp_path / "other.png"), "--picture", str(tmp_path / "p.png")]) == 0
    said = capsys.readouterr().err
    assert f"1 of the 7 pictures ({tmp_path / 's' / 'b' / 'blank.png'}) look blank" in said
    assert f"1 of the 1 pictures ({tmp_path / 'other.png'}) look like" in said


def colour(folders, tmp_path):
    path = tmp_path / "colour.png"
    image = Image.new("RGB", (30, 30), "yellow")
    image.paste("red", (8, 8, 12, 22))
    image.save(path)
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
        ("missing", "is not a folder"),
        ("one class", "two or more; it has 1"),
        ("empty class", "holds no pictures"),
        ("loose", "is directly in"),
        ("unreadable", "cannot be read as a picture"),
        ("no query", "does not exist"),
        ("empty query", "holds no pictures"),
        ("folders as query", "its folders do: give them, as"),
        ("both", "--json or --csv, not both"),
        ("picture", "must end in .png or .svg"),
        ("model", "nor one of the weights"),
        ("code", "is code: name what makes the network in it, "),
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
    elif change == "folders as query":
        query = support
    elif change == "both":
        more = ["--json", "--csv"]
    elif change == "code":
        model = tmp_path / "nets.py"
        model.write_text(NETS)
        model, message = str(model), f"{message}{model}:NAME"
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


@pytest.mark.parametrize("place", ["support/a/0.png", "query/new.png", "background/x.png"])
@pytest.mark.parametrize("linked", [False, True])
def test_the_picture_overwrites_none_that_is_read(place, linked, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number, file in enumerate(("support/a/0.png", "support/b/0.png", "query/new.png")):
        (tmp_path / file).parent.mkdir(parents=True)
        Image.new("L", (28, 28), 50 * number).save(file)
    (tmp_path / "background").mkdir()
    Image.new("L", (28, 28), 9).save("background/x.png")
    before = (tmp_path / place).read_bytes()
    out = tmp_path / place
    if linked:
        out = tmp_path / "linked.png"
        out.symlink_to(tmp_path / place)
    words = ["adapt", "nothing", "--support", "support", "--query", "query/new.png"]
    # Refused before it is known that there is no such network.
    assert main([*words, "--background", "background", "--picture", str(out)]) == 2
    assert capsys.readouterr().err == (
        f"error: --picture {out} is one of the pictures that are read, and would be overwritten: "
        "give another file\n"
    )
    assert (tmp_path / place).read_bytes() == before


def test_the_picture_overwrites_none_that_innerloop_did_not_draw(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number, file in enumerate(("support/a/0.png", "support/b/0.png", "query.png", "mine.png")):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28), 50 * number).save(file)
    words = "adapt nothing --support support --query query.png --picture mine.png"
    assert main(words.split()) == 2
    assert "mine.png is a picture that innerloop did not draw" in capsys.readouterr().err


NETS = """
import torch
from torch import nn
from innerloop.backbones import Preprocess

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )

half = Preprocess(32, crop=0.5)
"""


def test_photos_by_a_pretrained_network(tmp_path, monkeypatch, capsys):
    """Pictures of different sizes and formats; the same answers as from Python."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    generator = np.random.default_rng(0)
    for name, colour in (("red", (220, 60, 50)), ("green", (60, 200, 60)), ("blue", (50, 60, 220))):
        for i in range(3):
            noise = generator.integers(-30, 31, (40 + 9 * i, 60 - 7 * i, 3))
            picture = Image.fromarray((np.array(colour) + noise).astype(np.uint8))
            place = tmp_path / ("photos" if i else "new") / (name if i else "")
            place.mkdir(parents=True, exist_ok=True)
            picture.save(place / f"{name}{i}.{'jpg' if i == 1 else 'png'}")
    network = runpy.run_path("nets.py")["make"]()
    save_file({n: t * 2 for n, t in network.state_dict().items()}, "w.safetensors")
    words = ["adapt", "nets.py:make", "--support", "photos", "--query", "new"]
    words += ["--weights", "w.safetensors", "--preprocess", "nets.py:half"]
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [each["class"] for each in report["queries"]] == ["blue", "green", "red"]
    assert report["ink"] is None
    classifier = innerloop.FewShotClassifier(
        "nets.py:make", weights="w.safetensors", preprocess="nets.py:half"
    )
    support = sorted((tmp_path / "photos").rglob("*.*"))
    classifier.fit(support, [path.parent.name for path in support])
    expected = classifier.predict_proba([each["file"] for each in report["queries"]])
    found = [list(each["probabilities"].values()) for each in report["queries"]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (tmp_path / "adapt.png").exists()
    assert main([*words, "--image-size", "64"]) == 0
    capsys.readouterr()
    for change, message in (
        (["adapt", "omniglot-conv4", *words[2:]], "is for pretrained networks"),
        ([*words, "--ink", "dark"], "takes any pictures"),
        ([*words, "--grey"], "--grey is for networks that take grey, and nets.py:"),
        (["adapt", "nets.py:nothing", *words[2:]], "has no nothing"),
    ):
        if change[1] == "omniglot-conv4":
            change.append("--grey")
        assert main(change) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    # "None of these" as from Python, with a background of other pictures.
    words += ["--head", "cosine", "--views", "whole", "--reject", "0.3", "--background", "new"]
    assert main(words) == 0
    assert "told by cosine on the features" in capsys.readouterr().out
    classifier.set_params(head="cosine", views="whole")
    queries = [each["file"] for each in report["queries"]]
    classifier.fit(support, [path.parent.name for path in support], background=queries)
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["class"] for each in told["queries"]] == classifier.predict(queries, 0.3).tolist()


def test_none_of_these_is_written_in_words(capsys):
    """It is null in JSON and an empty cell in a table."""
    answer = {"file": "a.png", "class": None, "probabilities": {"x": 0.7, "y": 0.3}}
    report = {
        "queries": [answer],
        "head": None,
        "fine_tuned": None,
        "ink": None,
        "prepare": "none",
        "picture": "adapt.png",
    }
    shown = []
    for json_, csv_ in ((False, False), (True, False), (False, True)):
        command._print(report, ["x", "y"], SimpleNamespace(json=json_, csv=csv_))
        shown.append(capsys.readouterr().out)
    assert "a.png  none of these   (most like x)" in shown[0]
    assert json.loads(shown[1])["queries"][0]["class"] is None
    assert shown[2].splitlines()[1] == "a.png,,0.7000,0.3000"


def test_a_class_called_none_of_these_is_not_taken_for_a_refusal(capsys):
    names = ["none of these", "x"]
    row = dict(zip(names, (0.7, 0.3), strict=True))
    answers = {"a": names[0], "b": None}
    queries = [{"file": f, "class": c, "probabilities": row} for f, c in answers.items()]
    report = {"head": None, "fine_tuned": None, "ink": None, "prepare": "none", "picture": "p"}
    report["queries"] = queries
    command._print(report, names, SimpleNamespace(json=False, csv=False))
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first == "a  none of these  70%   (then x, 30%)"
    assert second == "b  refused   (most like none of these)"


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("place", ["support", "support/a", "query", "background"])
def test_files_of_kinds_that_are_not_read_are_said(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    for i, folder in enumerate(("support/a", "support/b", "query", "background")):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (32, 32), (60 * i, 90, 90)).save(tmp_path / folder / "1.png")
    (tmp_path / place / "2.HEIC").write_bytes(b"")
    words = ["adapt", "nets.py:make", "--support", "support", "--query", "query"]
    assert main([*words, "--background", "background"]) == 0
    said = capsys.readouterr().err
    assert said.startswith("warning: ")
    assert "1 file of kinds that are not read (1 .heic), such as " in said
    (tmp_path / place / "1.png").unlink(missing_ok=True)
    if place != "support":
        assert main([*words, "--background", "background"]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert f"{place} holds no pictures: 1 file of kinds that are not read" in said


@pytest.mark.skipif(os.name != "posix", reason="names of POSIX")
def test_names_that_would_split_the_table_are_written_out(tmp_path, monkeypatch, capsys):
    """A line break, a tab, a command to the terminal, a mark of direction."""
    monkeypatch.chdir(tmp_path)
    data = innerloop.data.glyphs(20)
    classes = ["a\nerror: b", "c\u202ed"]
    for number, name in enumerate(classes):
        (tmp_path / "support" / name).mkdir(parents=True)
        picture = Image.fromarray(data.class_images(number)[0, 0])
        picture.save(tmp_path / "support" / name / "1.png")
    (tmp_path / "query").mkdir()
    for name in ("x\ny.png", "x\ty.png", "x\x1b[2Jy.png", "plain.png"):
        picture.save(tmp_path / "query" / name)
    words = ("--query", "query")
    assert adapt(tmp_path, *words, "--picture", "p\n.png") == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 4 + 2
    assert {*out} - {"\n"} == {*filter(str.isprintable, out)}
    starts = ["query/plain.png ", r"query/x\ty.png ", r"query/x\ny.png ", r"query/x\u001b[2Jy.png "]
    for start in starts:
        (line,) = [line for line in out.splitlines() if line.startswith(start)]
        assert line.index("%") == out.splitlines()[0].index("%")
    # Programs get the names themselves.
    assert adapt(tmp_path, *words, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["support"]) == classes
    assert "query/x\ny.png" in [each["file"] for each in report["queries"]]
    (tmp_path / "query" / "none\n.png").write_bytes(b"no picture")
    assert adapt(tmp_path, *words) == 2
    assert capsys.readouterr().err.count("\n") == 1
