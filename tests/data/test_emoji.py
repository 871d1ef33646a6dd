"""Emoji from made packages of the form of Iconify's, and from folders of pictures."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from innerloop import UserError
from innerloop.cli import main
from innerloop.data import folder, known

FACTS = {
    "😀": {"name": "grinning face", "slug": "grinning_face", "group": "Smileys & Emotion"},
    "❤️": {"name": "red heart", "slug": "red_heart", "group": "Symbols"},
    "☎️": {"name": "telephone", "slug": "telephone", "group": "Objects"},
}
RED = '<rect width="36" height="36" fill="#f00"/>'


def package(place, artist, icons, chars=None):
    home = place / "node_modules/@iconify-json" / artist
    home.mkdir(parents=True)
    bodies = {name: {"body": RED} for name in icons}
    table = {"prefix": artist, "icons": bodies, "width": 36, "height": 36}
    table["aliases"] = {"alias": {"parent": icons[0]}}
    (home / "icons.json").write_text(json.dumps(table))
    (home / "chars.json").write_text(json.dumps(chars or {}))


@pytest.fixture
def source(tmp_path):
    place = tmp_path / "source"
    (place / "node_modules/unicode-emoji-json").mkdir(parents=True)
    file = place / "node_modules/unicode-emoji-json/data-by-emoji.json"
    file.write_text(json.dumps(FACTS), "utf-8")
    names = {"1f600": "grinning-face", "2764": "heart-of-red", "260e-fe0f": "phone"}
    package(place, "a", list(names.values()), names)
    # By the same names as another package, by Unicode's own, and by the emoji's.
    package(place, "b", ["grinningface", "heartofred", "blacktelephone", "unknown"])
    return place


@pytest.mark.filterwarnings("ignore:out. 6 pictures of one colour only")
def test_classes_groups_and_artists(source, tmp_path):
    found = known.prepare_emoji(source, tmp_path / "out", image_size=32, least=2)
    assert found["images"] == 6
    assert found["artists"] == ["a", "b"]
    data = folder(tmp_path / "out")
    assert data.names == [
        "objects/260e-telephone",
        "smileys-emotion/1f600-grinning-face",
        "symbols/2764-red-heart",
    ]
    assert list(data.groups) == ["objects", "smileys-emotion", "symbols"]
    assert data.image_shape == (3, 32, 32)
    assert (data.images[:, 0] == 255).all()
    assert (data.images[:, 1:] == 0).all()


def test_folders_of_png_and_svg(source, tmp_path):
    drawn = Image.fromarray(np.zeros((10, 10, 3), np.uint8))
    for artist, name in (("c", "1f600.png"), ("d", "emoji_u1f600.png")):
        (source / artist).mkdir()
        drawn.save(source / artist / name)
    (source / "e").mkdir()
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 36 18">{RED}</svg>'
    (source / "e/2764-FE0F.svg").write_text(svg)
    known.prepare_emoji(source, tmp_path / "out", image_size=32, least=3)
    out = tmp_path / "out"
    faces = out / "smileys-emotion/1f600-grinning-face"
    assert {file.stem for file in faces.iterdir()} == {"a", "b", "c", "d"}
    # Twice as wide as high: the sides of the square are kept white.
    heart = np.asarray(Image.open(out / "symbols/2764-red-heart/e.png"))
    assert heart.shape == (32, 32, 3)
    assert (heart[0] == 255).all()
    assert tuple(heart[16, 16]) == (255, 0, 0)


def test_mistakes(source, tmp_path):
    with pytest.raises(UserError, match=r"drawn by 5 artists \(at most by 2\)"):
        known.prepare_emoji(source, tmp_path / "out")
    with pytest.raises(UserError, match=r"no data-by-emoji\.json"):
        known.prepare_emoji(source / "node_modules/@iconify-json", tmp_path / "out")
    with pytest.raises(UserError, match="not a folder"):
        known.prepare_emoji(source / "nowhere", tmp_path / "out")
    (source / "node_modules/@iconify-json/a/icons.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        known.prepare_emoji(source, tmp_path / "out", least=2)
    assert not (tmp_path / "out").exists()


def test_a_drawing_that_cannot_be_rendered_leaves_nothing(source, tmp_path):
    file = source / "node_modules/@iconify-json/b/icons.json"
    file.write_text(file.read_text().replace("<rect", "<rect <"))
    with pytest.raises(UserError, match="cannot be rendered"):
        known.prepare_emoji(source, tmp_path / "out", least=2)
    assert {p.name for p in tmp_path.iterdir()} == {"source"}


def test_without_the_renderer(source, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "resvg_py", None)
    with pytest.raises(UserError, match=r"innerloop\[svg\]"):
        known.prepare_emoji(source, tmp_path / "out", least=2)


def test_from_the_command_line(source, tmp_path, capsys):
    for artist in "cde":
        (source / artist).mkdir()
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "PNG")
        (source / artist / "1f600.png").write_bytes(file.getvalue())
    command = ["data", "prepare", "emoji", "--source", str(source), "--out", str(tmp_path / "o")]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["classes"], found["images"]) == (1, 5)
